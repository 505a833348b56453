using System.Globalization;
using System.Net;
using System.Text;
using Octet.Inference.Planning;

namespace Octet.Cli.Bench;

/// <summary>Draws a run as a roofline: operations per second against operations per byte, both logarithmic, under the two ceilings.</summary>
internal static class BenchPlot
{
    private const double ChartWidth = 560;
    private const double FewestChartHeight = 320;
    private const double Bottom = 62;
    private const double Edge = 12;
    private const double Size = 12;
    private const double TitleSize = 15;
    private const double LegendLine = 17;

    private static readonly string[] s_colours =
    [
        "#0066cc", "#cc3300", "#228833", "#aa3377", "#997700", "#555555", "#33aacc", "#663399",
        "#000000", "#ff8800", "#66bb22", "#ee66aa", "#004466", "#884422", "#99aa00", "#7799dd",
    ];

    /// <summary>The drawing, a whole SVG file; no text reaches beyond it.</summary>
    public static string Write(BenchReport report)
    {
        var shown = report.Results.Where(result => result.GFlops > 0 && result.GBytesPerSecond > 0).ToArray();
        string[] ops = [.. shown.Select(result => result.Op).Distinct()];
        var (low, high) = (Math.Log10(0.5), Math.Log10(Math.Max(1000, shown.Select(r => r.Intensity).DefaultIfEmpty(1).Max() * 2)));
        var most = Math.Log10(Math.Max(report.Ceilings.GFlops, shown.Select(r => r.GFlops).DefaultIfEmpty(1).Max()) * 2);
        var least = most - 3;
        var decades = Enumerable.Range((int)Math.Ceiling(least), (int)Math.Floor(most) - (int)Math.Ceiling(least) + 1).Select(d => Math.Pow(10, d)).ToArray();

        var left = 44 + SvgText.Widest(decades.Select(Tick), Size);
        var width = left + ChartWidth + 40 + SvgText.Widest(ops, Size) + Edge;
        var title = SvgText.Wrap(
            $"{report.Device}: {Number(report.Ceilings.GBytesPerSecond)} GB/s, {report.Ceilings.GFlops.ToString("F0", CultureInfo.InvariantCulture)} GFLOP/s measured in this run", TitleSize, width - 2 * Edge);
        var origin = SvgText.Wrap($"{report.Origin.DeviceDescription}; {report.Origin}", Size, width - 2 * Edge);
        var top = 14 + title.Count * TitleSize * SvgText.LineHeight + origin.Count * Size * SvgText.LineHeight + 14;
        var chartHeight = Math.Max(FewestChartHeight, ops.Length * LegendLine);
        var height = top + chartHeight + Bottom;
        double X(double intensity) => left + (Math.Log10(intensity) - low) / (high - low) * ChartWidth;
        double Y(double gflops) => top + chartHeight - (Math.Clamp(Math.Log10(gflops), least, most) - least) / (most - least) * chartHeight;

        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:F0}\" height=\"{height:F0}\" viewBox=\"0 0 {width:F0} {height:F0}\" font-family=\"sans-serif\" font-size=\"{Size}\">");
        Line(svg, $"<rect width=\"{width:F0}\" height=\"{height:F0}\" fill=\"white\"/>");
        var y = 8.0;
        foreach (var line in title)
        {
            y += TitleSize * SvgText.LineHeight;
            Line(svg, $"<text x=\"{Edge}\" y=\"{y:F1}\" font-size=\"{TitleSize}\">{WebUtility.HtmlEncode(line)}</text>");
        }

        foreach (var line in origin)
        {
            y += Size * SvgText.LineHeight;
            Line(svg, $"<text x=\"{Edge}\" y=\"{y:F1}\" fill=\"#555\">{WebUtility.HtmlEncode(line)}</text>");
        }

        for (var decade = 0; decade <= (int)high; decade++)
        {
            var x = X(Math.Pow(10, decade));
            Line(svg, $"<path d=\"M{x:F1} {top + chartHeight:F1}V{top:F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{x:F1}\" y=\"{top + chartHeight + 18:F1}\" text-anchor=\"middle\">{Math.Pow(10, decade):F0}</text>");
        }

        foreach (var decade in decades)
        {
            Line(svg, $"<path d=\"M{left:F1} {Y(decade):F1}H{left + ChartWidth:F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{left - 8:F1}\" y=\"{Y(decade) + 4:F1}\" text-anchor=\"end\">{Tick(decade)}</text>");
        }

        Line(svg, $"<text x=\"{left + ChartWidth / 2:F1}\" y=\"{height - 16:F1}\" text-anchor=\"middle\">operations per byte</text>");
        Line(svg, $"<text transform=\"translate(18 {top + chartHeight / 2:F1}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>");
        if (report.Ceilings is { GBytesPerSecond: > 0, GFlops: > 0 } ceilings)
        {
            var knee = Math.Clamp(ceilings.GFlops / ceilings.GBytesPerSecond, Math.Pow(10, low), Math.Pow(10, high));
            var start = Math.Max(Math.Pow(10, low), Math.Pow(10, least) / ceilings.GBytesPerSecond);
            Line(svg, $"<path d=\"M{X(start):F1} {Y(start * ceilings.GBytesPerSecond):F1}L{X(knee):F1} {Y(ceilings.GFlops):F1}H{left + ChartWidth:F1}\" fill=\"none\" stroke=\"black\" stroke-width=\"1.5\"/>");
        }

        foreach (var result in shown)
        {
            var colour = s_colours[Array.IndexOf(ops, result.Op) % s_colours.Length];
            Line(svg, $"<circle cx=\"{X(result.Intensity):F1}\" cy=\"{Y(result.GFlops):F1}\" r=\"4.5\" fill=\"{colour}\"><title>{WebUtility.HtmlEncode($"{result.Op}: {result.Name}")}: {result.Microseconds:F0} us, {result.ShareOfCeiling:P0} of the ceiling</title></circle>");
        }

        for (var i = 0; i < ops.Length; i++)
        {
            Line(svg, $"<circle cx=\"{left + ChartWidth + 22:F1}\" cy=\"{top + 10 + LegendLine * i:F1}\" r=\"4.5\" fill=\"{s_colours[i % s_colours.Length]}\"/>");
            Line(svg, $"<text x=\"{left + ChartWidth + 34:F1}\" y=\"{top + 14 + LegendLine * i:F1}\">{WebUtility.HtmlEncode(ops[i])}</text>");
        }

        Line(svg, $"</svg>");
        return svg.ToString();
    }

    private static string Number(double value) => value.ToString("F1", CultureInfo.InvariantCulture);

    private static string Tick(double value) => value.ToString("0.###", CultureInfo.InvariantCulture);

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
