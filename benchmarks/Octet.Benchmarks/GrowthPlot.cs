using System.Globalization;
using System.Net;
using System.Text;
using Octet.Inference.Planning;

namespace Octet.Benchmarks;

/// <summary>Draws how times grow: milliseconds against each quantity, both logarithmic.</summary>
internal static class GrowthPlot
{
    private const double Width = 760;
    private const double Height = 440;
    private const double Margin = 60;
    private const double Size = 12;

    private static readonly string[] s_colours = ["#0066cc", "#cc3300", "#228833", "#aa3377"];

    /// <summary>The drawing, a whole SVG file.</summary>
    public static string Write(IReadOnlyList<Series> all)
    {
        var points = all.SelectMany(s => s.Points).ToArray();
        var right = Math.Ceiling(Math.Log10(points.Max(p => p.At)));
        var (bottom, top) = (Math.Floor(Math.Log10(points.Min(p => p.Milliseconds))), Math.Ceiling(Math.Log10(points.Max(p => p.Milliseconds))));
        double X(double at) => Margin + Math.Log10(at) / right * (Width - 2 * Margin);
        double Y(double ms) => Height - Margin - (Math.Log10(ms) - bottom) / (top - bottom) * (Height - 2 * Margin);
        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{Height}\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"{Size}\">");
        Line(svg, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"white\"/>");
        for (var decade = 0.0; decade <= right; decade++)
        {
            Line(svg, $"<path d=\"M{X(Math.Pow(10, decade)):F1} {Height - Margin}V{Margin}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{X(Math.Pow(10, decade)):F1}\" y=\"{Height - Margin + 18}\" text-anchor=\"middle\">{Math.Pow(10, decade):0}</text>");
        }

        for (var decade = bottom; decade <= top; decade++)
        {
            Line(svg, $"<path d=\"M{Margin} {Y(Math.Pow(10, decade)):F1}H{Width - Margin}\" stroke=\"#ddd\"/>");
            Line(svg, $"<text x=\"{Margin - 8}\" y=\"{Y(Math.Pow(10, decade)) + 4:F1}\" text-anchor=\"end\">{Math.Pow(10, decade):0.###}</text>");
        }

        Line(svg, $"<text transform=\"translate(16 {Height / 2}) rotate(-90)\" text-anchor=\"middle\">ms</text>");
        var y = Margin + 16;
        for (var i = 0; i < all.Count; i++)
        {
            var path = string.Join('L', all[i].Points.Select(p => FormattableString.Invariant($"{X(p.At):F1} {Y(p.Milliseconds):F1}")));
            Line(svg, $"<path d=\"M{path}\" fill=\"none\" stroke=\"{s_colours[i % s_colours.Length]}\" stroke-width=\"1.5\"/>");
            foreach (var (at, milliseconds) in all[i].Points)
            {
                Line(svg, $"<circle cx=\"{X(at):F1}\" cy=\"{Y(milliseconds):F1}\" r=\"3\" fill=\"{s_colours[i % s_colours.Length]}\"/>");
            }

            foreach (var line in SvgText.Wrap(all[i].Name, Size, Width - 2 * Margin - 24))
            {
                Line(svg, $"<text x=\"{Margin + 12}\" y=\"{y:F0}\" fill=\"{s_colours[i % s_colours.Length]}\">{WebUtility.HtmlEncode(line)}</text>");
                y += 16;
            }
        }

        Line(svg, $"</svg>");
        return svg.ToString();
    }

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

    /// <summary>Times of one quantity.</summary>
    internal sealed record Series(string Name, IReadOnlyList<(double At, double Milliseconds)> Points);
}
