using System.Globalization;
using System.Net;
using System.Text;

namespace Octet.Cli.Bench;

/// <summary>Draws a run as a roofline: operations per second against operations per byte, both logarithmic, under the two ceilings.</summary>
internal static class BenchPlot
{
    private const double Width = 760;
    private const double Height = 460;
    private const double Margin = 70;

    private static readonly string[] s_colours = ["#0066cc", "#cc3300", "#228833", "#aa3377", "#997700", "#555555", "#33aacc", "#663399"];

    /// <summary>The drawing, a whole SVG file.</summary>
    public static string Write(BenchReport report)
    {
        var shown = report.Results.Where(result => result.GFlops > 0 && result.GBytesPerSecond > 0).ToArray();
        var (low, high) = (Math.Log10(0.5), Math.Log10(Math.Max(1000, shown.Select(r => r.Intensity).DefaultIfEmpty(1).Max() * 2)));
        var top = Math.Log10(Math.Max(report.Ceilings.GFlops, shown.Select(r => r.GFlops).DefaultIfEmpty(1).Max()) * 2);
        var bottom = top - 3;
        double X(double intensity) => Margin + (Math.Log10(intensity) - low) / (high - low) * (Width - 2 * Margin);
        double Y(double gflops) => Height - Margin - (Math.Clamp(Math.Log10(gflops), bottom, top) - bottom) / (top - bottom) * (Height - 2 * Margin);

        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{Height}\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"12\">");
        Line(svg, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        Line(svg, $"<text x=\"{Margin}\" y=\"26\" font-size=\"15\">{WebUtility.HtmlEncode(report.Device)}: {report.Ceilings.GBytesPerSecond:F1} GB/s, {report.Ceilings.GFlops:F0} GFLOP/s measured in this run</text>");
        for (var decade = 0; decade <= (int)high; decade++)
        {
            var x = X(Math.Pow(10, decade));
            Line(svg, $"<path d=\"M{x:F1} {Height - Margin:F1}V{Margin:F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{x:F1}\" y=\"{Height - Margin + 18:F1}\" text-anchor=\"middle\">{Math.Pow(10, decade):F0}</text>");
        }

        for (var decade = (int)Math.Ceiling(bottom); decade <= (int)top; decade++)
        {
            var y = Y(Math.Pow(10, decade));
            Line(svg, $"<path d=\"M{Margin:F1} {y:F1}H{Width - Margin:F1}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{Margin - 8:F1}\" y=\"{y + 4:F1}\" text-anchor=\"end\">{Math.Pow(10, decade):0.##}</text>");
        }

        Line(svg, $"<text x=\"{Width / 2}\" y=\"{Height - 16}\" text-anchor=\"middle\">operations per byte</text>");
        Line(svg, $"<text transform=\"translate(18 {Height / 2}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>");
        if (report.Ceilings is { GBytesPerSecond: > 0, GFlops: > 0 } ceilings)
        {
            var knee = Math.Clamp(ceilings.GFlops / ceilings.GBytesPerSecond, Math.Pow(10, low), Math.Pow(10, high));
            var start = Math.Max(Math.Pow(10, low), Math.Pow(10, bottom) / ceilings.GBytesPerSecond);
            Line(svg, $"<path d=\"M{X(start):F1} {Y(start * ceilings.GBytesPerSecond):F1}L{X(knee):F1} {Y(ceilings.GFlops):F1}H{Width - Margin:F1}\" fill=\"none\" stroke=\"black\" stroke-width=\"1.5\"/>");
        }

        string[] ops = [.. shown.Select(result => result.Op).Distinct()];
        foreach (var result in shown)
        {
            var colour = s_colours[Array.IndexOf(ops, result.Op) % s_colours.Length];
            Line(svg, $"<circle cx=\"{X(result.Intensity):F1}\" cy=\"{Y(result.GFlops):F1}\" r=\"4.5\" fill=\"{colour}\"><title>{WebUtility.HtmlEncode($"{result.Op}: {result.Name}")}: {result.Microseconds:F0} us, {result.ShareOfCeiling:P0} of the ceiling</title></circle>");
        }

        for (var i = 0; i < ops.Length; i++)
        {
            var y = Height - Margin - 14 - 17 * (ops.Length - 1 - i);
            Line(svg, $"<circle cx=\"{Width - Margin - 130}\" cy=\"{y - 4}\" r=\"4.5\" fill=\"{s_colours[i % s_colours.Length]}\"/>");
            Line(svg, $"<text x=\"{Width - Margin - 120}\" y=\"{y}\">{ops[i]}</text>");
        }

        Line(svg, $"</svg>");
        return svg.ToString();
    }

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
