using System.Globalization;
using System.Net;
using System.Text;

namespace Octet.Inference.Planning;

/// <summary>Draws a listing as SVG: requests per second against p90 time per output token, the up-and-left corner best.</summary>
public static class PlanPlot
{
    private const double Width = 720;
    private const double Height = 440;
    private const double Margin = 70;

    /// <summary>The drawing, a whole SVG file.</summary>
    public static string Write(PlanListing listing)
    {
        ArgumentNullException.ThrowIfNull(listing);
        // Splits of one group that differ in EP alone fall on one point: the one with whole experts stands for them.
        var shown = listing.Plans.Where(plan => plan.Prediction is not null).GroupBy(plan => plan.Tp).Select(group => group.MaxBy(plan => plan.Ep)!).ToList();
        double mostTpot = Ceiling(shown.Select(plan => plan.Prediction!.Tpot.P90));
        double mostRate = Ceiling(shown.Select(plan => plan.Prediction!.RequestsPerSecond));
        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{Height}\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"13\">");
        Line(svg, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        Line(svg, $"<text x=\"{Margin}\" y=\"28\" font-size=\"15\">{WebUtility.HtmlEncode(Title(listing))}</text>");
        for (int tick = 0; tick <= 5; tick++)
        {
            double x = X(tick / 5.0);
            double y = Y(tick / 5.0);
            Line(svg, $"<path d=\"M{x:F1} {Y(0):F1}V{Y(1):F1}M{X(0):F1} {y:F1}H{X(1):F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{x:F1}\" y=\"{Y(0) + 18:F1}\" text-anchor=\"middle\">{mostTpot * tick / 5:0.##}</text>");
            Line(svg, $"<text x=\"{X(0) - 8:F1}\" y=\"{y + 4:F1}\" text-anchor=\"end\">{mostRate * tick / 5:0.##}</text>");
        }
        Line(svg, $"<text x=\"{Width / 2}\" y=\"{Height - 14}\" text-anchor=\"middle\">p90 time per output token, ms</text>");
        Line(svg, $"<text transform=\"translate(18 {Height / 2}) rotate(-90)\" text-anchor=\"middle\">requests per second, whole node</text>");
        foreach (Plan plan in shown)
        {
            double x = X(plan.Prediction!.Tpot.P90 / mostTpot);
            double y = Y(plan.Prediction.RequestsPerSecond / mostRate);
            string colour = plan.Dp == listing.Best?.Dp && plan.Tp == listing.Best.Tp ? "#c00" : plan.Feasible ? "#06c" : "#999";
            Line(svg, $"<circle cx=\"{x:F1}\" cy=\"{y:F1}\" r=\"6\" fill=\"{colour}\"/>");
            bool right = x > Width * 0.75;
            Line(svg, $"<text x=\"{x + (right ? -10 : 10):F1}\" y=\"{y - 8:F1}\" text-anchor=\"{(right ? "end" : "start")}\">{plan.Name}{(plan.Feasible ? "" : " (not feasible)")}</text>");
        }
        Line(svg, $"</svg>");
        return svg.ToString();
    }

    private static double X(double share) => Margin + share * (Width - 2 * Margin);

    private static double Y(double share) => Height - Margin - share * (Height - 2 * Margin);

    // A round number a little above the largest, so that five ticks have short labels.
    private static double Ceiling(IEnumerable<double> values)
    {
        double most = values.DefaultIfEmpty(1).Max() * 1.1;
        double unit = Math.Pow(10, Math.Floor(Math.Log10(most)));
        return Math.Ceiling(most / unit * 2) / 2 * unit;
    }

    private static string Title(PlanListing listing) =>
        $"{listing.Model.Name} on {listing.Node.Count}x {listing.Node.Gpu.Name}: {listing.Workload.Input}/{listing.Workload.Output} tokens, {listing.Workload.Concurrency} per {(listing.Workload.PerGroup ? "group" : "node")}, modelled";

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
