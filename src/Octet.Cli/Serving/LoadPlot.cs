using System.Globalization;
using System.Net;
using System.Text;
using Octet.Inference.Planning;

namespace Octet.Cli.Serving;

/// <summary>Draws the latencies of a run as SVG: above, which share took at most how long; below, each over the time of the run.</summary>
internal sealed class LoadPlot
{
    private const double Width = 760;
    private const double ChartHeight = 240;
    private const double Edge = 12;
    private const double Gap = 66;
    private const double Size = 12;
    private const double TitleSize = 15;

    // A line has as many points, a cloud no more.
    private const int Points = 200;
    private const int MostDots = 2000;

    // Of the run's time, each with its median of the gaps.
    private const int Spans = 60;

    private static readonly Dictionary<string, string> s_colours = new()
    {
        ["ttft"] = "#0066cc", ["tpot"] = "#cc3300", ["itl"] = "#228833", ["e2el"] = "#997700",
    };

    private readonly StringBuilder _svg = new();
    private readonly LoadReport _report;
    private readonly double _left;
    private readonly double _chartWidth;
    private readonly int[] _decades;

    private LoadPlot(LoadReport report)
    {
        _report = report;
        double[] ends = [.. Metrics.Where(metric => !report.Sorted(metric).IsEmpty)
            .SelectMany(metric => (double[])[report.Sorted(metric)[0], report.Sorted(metric)[^1]])];
        var low = (int)Math.Floor(Math.Log10(Math.Max(0.001, ends.DefaultIfEmpty(1).Min())));
        var high = Math.Max(low + 1, (int)Math.Ceiling(Math.Log10(Math.Max(0.001, ends.DefaultIfEmpty(10).Max()))));
        _decades = [.. Enumerable.Range(low, high - low + 1)];
        _left = 46 + Math.Max(SvgText.Width("100 %", Size), SvgText.Widest(_decades.Select(Tick), Size));
        _chartWidth = Width - _left - 30 - SvgText.Widest(Metrics.Select(Label), Size) - 2 * Edge;
    }

    private IReadOnlyList<string> Metrics => _report.Settings.Metrics;

    /// <summary>The drawing, a whole SVG file; no text reaches beyond it.</summary>
    public static string Write(LoadReport report) => new LoadPlot(report).Draw();

    private string Draw()
    {
        var settings = _report.Settings;
        var title = SvgText.Wrap(
            $"{settings.Model}: {Number(_report.OutputThroughput)} tokens/s, {Number(_report.RequestThroughput)} requests/s",
            TitleSize, Width - 2 * Edge);
        var below = SvgText.Wrap(
            $"{settings.BaseUrl}{settings.Endpoint}, {settings.Prompts}, {_report.Answered.Count} answered, {_report.Failed} failed, "
            + $"{Number(_report.Seconds)} s, measured {settings.Date:yyyy-MM-dd HH:mm}Z",
            Size, Width - 2 * Edge);
        var top = 24 + title.Count * TitleSize * SvgText.LineHeight + below.Count * Size * SvgText.LineHeight;
        var height = top + 2 * (ChartHeight + Gap);
        var box = $"width=\"{Width}\" height=\"{height:F0}\" viewBox=\"0 0 {Width} {height:F0}\"";
        Line($"<svg xmlns=\"http://www.w3.org/2000/svg\" {box} font-family=\"sans-serif\" font-size=\"{Size}\">");
        Line($"<rect width=\"{Width}\" height=\"{height:F0}\" fill=\"white\"/>");
        var y = WriteLines(title, 8, TitleSize, "black");
        WriteLines(below, y, Size, "#555");
        DrawShares(top);
        DrawTimes(top + ChartHeight + Gap);
        Line($"</svg>");
        return _svg.ToString();
    }

    private double WriteLines(IReadOnlyList<string> lines, double y, double size, string colour)
    {
        foreach (var line in lines)
        {
            y += size * SvgText.LineHeight;
            Line($"<text x=\"{Edge}\" y=\"{y:F1}\" font-size=\"{size}\" fill=\"{colour}\">{WebUtility.HtmlEncode(line)}</text>");
        }

        return y;
    }

    // How much of each took at most so long.
    private void DrawShares(double top)
    {
        double X(double milliseconds) => _left + Place(milliseconds) * _chartWidth;
        double Y(double share) => top + (1 - share) * ChartHeight;
        foreach (var decade in _decades)
        {
            var x = X(Math.Pow(10, decade));
            Line($"<path d=\"M{x:F1} {Y(0):F1}V{Y(1):F1}\" stroke=\"#ddd\"/>");
            Line($"<text x=\"{x:F1}\" y=\"{Y(0) + 16:F1}\" text-anchor=\"middle\">{Tick(decade)}</text>");
        }

        foreach (var share in (double[])[0, 0.25, 0.5, 0.75, 0.9, 1])
        {
            Line($"<path d=\"M{_left:F1} {Y(share):F1}H{_left + _chartWidth:F1}\" stroke=\"#ddd\"/>");
            Line($"<text x=\"{_left - 6:F1}\" y=\"{Y(share) + 4:F1}\" text-anchor=\"end\">{share * 100:F0} %</text>");
        }

        WriteAxes("took at most, ms", "share", top);
        for (var i = 0; i < Metrics.Count; i++)
        {
            var metric = Metrics[i];
            var shares = Enumerable.Range(0, _report.Sorted(metric).IsEmpty ? 0 : Points + 1).Select(point => (double)point / Points);
            DrawLine(shares.Select(share => (X(_report.Percentile(metric, share * 100)), Y(share))), metric);
            WriteLegend(i, top);
        }
    }

    // A dot for each request, at the time it was sent; of the gaps, which are too many, the median of each span of time.
    private void DrawTimes(double top)
    {
        double X(double seconds) => _left + (_report.Seconds > 0 ? seconds / _report.Seconds : 0) * _chartWidth;
        double Y(double milliseconds) => top + (1 - Place(milliseconds)) * ChartHeight;
        for (var tick = 0; tick <= 5; tick++)
        {
            var seconds = _report.Seconds * tick / 5;
            Line($"<path d=\"M{X(seconds):F1} {top + ChartHeight:F1}V{top:F1}\" stroke=\"#ddd\"/>");
            Line($"<text x=\"{X(seconds):F1}\" y=\"{top + ChartHeight + 16:F1}\" text-anchor=\"middle\">{seconds:0.##}</text>");
        }

        foreach (var decade in _decades)
        {
            var y = Y(Math.Pow(10, decade));
            Line($"<path d=\"M{_left:F1} {y:F1}H{_left + _chartWidth:F1}\" stroke=\"#ddd\"/>");
            Line($"<text x=\"{_left - 6:F1}\" y=\"{y + 4:F1}\" text-anchor=\"end\">{Tick(decade)}</text>");
        }

        WriteAxes("time of the run, s", "ms", top);
        var every = Math.Max(1, _report.Answered.Count / MostDots);
        for (var i = 0; i < Metrics.Count; i++)
        {
            WriteLegend(i, top);
            if (Metrics[i] == "itl")
            {
                DrawLine(GapMedians().Select(span => (X(span.Seconds), Y(span.Milliseconds))), "itl");
                continue;
            }

            foreach (var record in _report.Answered.Where((_, index) => index % every == 0))
            {
                foreach (var value in LoadReport.Milliseconds(record, Metrics[i]))
                {
                    var colour = s_colours[Metrics[i]];
                    Line($"<circle cx=\"{X(record.Start):F1}\" cy=\"{Y(value):F1}\" r=\"2\" fill=\"{colour}\" fill-opacity=\"0.6\"/>");
                }
            }
        }
    }

    private IEnumerable<(double Seconds, double Milliseconds)> GapMedians()
    {
        var spans = Enumerable.Range(0, Spans).Select(_ => new List<double>()).ToArray();
        foreach (var record in _report.Answered)
        {
            var at = record.Start + record.FirstToken;
            foreach (var gap in record.Gaps)
            {
                at += gap;
                spans[Math.Clamp((int)(at / _report.Seconds * Spans), 0, Spans - 1)].Add(gap * 1e3);
            }
        }

        return spans.Select((gaps, i) => (Seconds: (i + 0.5) / Spans * _report.Seconds, Gaps: gaps))
            .Where(span => span.Gaps.Count > 0)
            .Select(span => (span.Seconds, Latency.At([.. span.Gaps.Order()], 0.5)));
    }

    private void DrawLine(IEnumerable<(double X, double Y)> points, string metric)
    {
        var path = string.Join('L', points.Select(point => string.Create(CultureInfo.InvariantCulture, $"{point.X:F1} {point.Y:F1}")));
        if (path.Length > 0)
        {
            Line($"<path d=\"M{path}\" fill=\"none\" stroke=\"{s_colours[metric]}\" stroke-width=\"1.5\"/>");
        }
    }

    private void WriteAxes(string across, string upward, double top)
    {
        Line($"<text x=\"{_left + _chartWidth / 2:F1}\" y=\"{top + ChartHeight + 36:F1}\" text-anchor=\"middle\">{across}</text>");
        Line($"<text transform=\"translate(18 {top + ChartHeight / 2:F1}) rotate(-90)\" text-anchor=\"middle\">{upward}</text>");
    }

    private void WriteLegend(int index, double top)
    {
        var (x, y) = (_left + _chartWidth + 18, top + 12 + index * Size * SvgText.LineHeight * 1.1);
        Line($"<circle cx=\"{x:F1}\" cy=\"{y - 4:F1}\" r=\"4\" fill=\"{s_colours[Metrics[index]]}\"/>");
        Line($"<text x=\"{x + 10:F1}\" y=\"{y:F1}\">{Label(Metrics[index])}</text>");
    }

    // Where a latency lies between the first and the last decade, 0 to 1.
    private double Place(double milliseconds) =>
        Math.Clamp((Math.Log10(Math.Max(milliseconds, 1e-9)) - _decades[0]) / (_decades[^1] - _decades[0]), 0, 1);

    private string Label(string metric) => $"{metric.ToUpperInvariant()} p90 {Number(_report.Percentile(metric, 90))} ms";

    private static string Tick(int decade) => Math.Pow(10, decade).ToString("0.###", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString(value < 10 ? "0.##" : "0.#", CultureInfo.InvariantCulture);

    private void Line(FormattableString line) => _svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
