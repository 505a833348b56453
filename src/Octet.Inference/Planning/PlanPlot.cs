using System.Globalization;
using System.Net;
using System.Text;

namespace Octet.Inference.Planning;

/// <summary>Draws a listing as SVG: requests per second against p90 time per output token, the up-and-left corner best.</summary>
public static class PlanPlot
{
    private const double Width = 720;
    private const double ChartHeight = 300;
    private const double Margin = 70;
    private const double Edge = 10;
    private const double Size = 13;
    private const double TitleSize = 15;

    /// <summary>The drawing, a whole SVG file; no text reaches beyond it.</summary>
    public static string Write(PlanListing listing)
    {
        ArgumentNullException.ThrowIfNull(listing);
        // Splits of one group that differ in EP alone fall on one point: the one with whole experts stands for them.
        var shown = listing.Plans.Where(plan => plan.Prediction is not null).GroupBy(plan => plan.Tp).Select(group => group.MaxBy(plan => plan.Ep)!).ToList();
        double mostTpot = Ceiling(shown.Select(plan => plan.Prediction!.Tpot.P90));
        double mostRate = Ceiling(shown.Select(plan => plan.Prediction!.RequestsPerSecond));
        string[] rates = [.. Enumerable.Range(0, 6).Select(tick => Tick(mostRate * tick / 5))];
        IReadOnlyList<string> title = SvgText.Wrap(Title(listing), TitleSize, Width - 2 * Edge);
        double left = Math.Max(Margin, SvgText.Widest(rates, Size) + 46);
        double top = 20 + title.Count * TitleSize * SvgText.LineHeight + 22;
        double height = top + ChartHeight + Margin;
        double X(double share) => left + share * (Width - Margin - left);
        double Y(double share) => top + (1 - share) * ChartHeight;
        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{height:F0}\" viewBox=\"0 0 {Width} {height:F0}\" font-family=\"sans-serif\" font-size=\"{Size}\">");
        Line(svg, $"<rect width=\"{Width}\" height=\"{height:F0}\" fill=\"white\"/>");
        for (int i = 0; i < title.Count; i++)
        {
            Line(svg, $"<text x=\"{Edge}\" y=\"{26 + i * TitleSize * SvgText.LineHeight:F1}\" font-size=\"{TitleSize}\">{WebUtility.HtmlEncode(title[i])}</text>");
        }
        for (int tick = 0; tick <= 5; tick++)
        {
            double x = X(tick / 5.0);
            double y = Y(tick / 5.0);
            Line(svg, $"<path d=\"M{x:F1} {Y(0):F1}V{Y(1):F1}M{X(0):F1} {y:F1}H{X(1):F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{x:F1}\" y=\"{Y(0) + 18:F1}\" text-anchor=\"middle\">{Tick(mostTpot * tick / 5)}</text>");
            Line(svg, $"<text x=\"{X(0) - 8:F1}\" y=\"{y + 4:F1}\" text-anchor=\"end\">{rates[tick]}</text>");
        }
        Line(svg, $"<text x=\"{X(0.5):F1}\" y=\"{height - 14:F1}\" text-anchor=\"middle\">p90 time per output token, ms</text>");
        Line(svg, $"<text transform=\"translate(18 {Y(0.5):F1}) rotate(-90)\" text-anchor=\"middle\">requests per second, whole node</text>");
        foreach (Plan plan in shown)
        {
            double x = X(plan.Prediction!.Tpot.P90 / mostTpot);
            double y = Y(plan.Prediction.RequestsPerSecond / mostRate);
            string colour = plan.Dp == listing.Best?.Dp && plan.Tp == listing.Best.Tp ? "#c00" : plan.Feasible ? "#06c" : "#999";
            Line(svg, $"<circle cx=\"{x:F1}\" cy=\"{y:F1}\" r=\"6\" fill=\"{colour}\"/>");
            string label = $"{plan.Name}{(plan.Feasible ? "" : " (not feasible)")}";
            // Right of its point; left of it where the drawing ends before the label does.
            bool right = x + 10 + SvgText.Width(label, Size) <= Width - Edge;
            Line(svg, $"<text x=\"{x + (right ? 10 : -10):F1}\" y=\"{y - 8:F1}\" text-anchor=\"{(right ? "start" : "end")}\">{label}</text>");
        }
        Line(svg, $"</svg>");
        return svg.ToString();
    }

    // A round number a little above the largest, so that five ticks have short labels.
    private static double Ceiling(IEnumerable<double> values)
    {
        // A request of one output token has no time per output token.
        double most = values.DefaultIfEmpty(1).Max() is var largest and > 0 ? largest * 1.1 : 1;
        double unit = Math.Pow(10, Math.Floor(Math.Log10(most)));
        return Math.Ceiling(most / unit * 2) / 2 * unit;
    }

    private static string Tick(double value) => value.ToString("0.##", CultureInfo.InvariantCulture);

    private static string Title(PlanListing listing) =>
        $"{listing.Model.Name} on {listing.Node.Count}x {listing.Node.Gpu.Name}: {listing.Workload.Input}/{listing.Workload.Output} tokens, {listing.Workload.Concurrency} per {(listing.Workload.PerGroup ? "group" : "node")}, modelled";

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
