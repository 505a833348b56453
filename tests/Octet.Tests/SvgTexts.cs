using System.Globalization;
using System.Xml.Linq;

namespace Octet.Tests;

/// <summary>The texts of a drawing and the room each takes, by a rule of thumb of its own: no font's average character is wider than 0.66 of its size.</summary>
internal static class SvgTexts
{
    private const double Ems = 0.66;

    /// <summary>Fails for every text that reaches beyond the drawing.</summary>
    public static void LieInside(string svg)
    {
        var root = XElement.Parse(svg);
        var box = root.Attribute("viewBox")!.Value.Split(' ').Select(Number).ToArray();
        var texts = root.Descendants().Where(e => e.Name.LocalName == "text").ToArray();
        Assert.NotEmpty(texts);
        Assert.All(texts, text =>
        {
            var (left, top, right, bottom) = Extent(text);
            Assert.True(left >= box[0] && top >= box[1] && right <= box[2] && bottom <= box[3], $"{left:F0} {top:F0} {right:F0} {bottom:F0}: {text}");
        });
    }

    private static (double Left, double Top, double Right, double Bottom) Extent(XElement text)
    {
        var size = Number(text.AncestorsAndSelf().Select(e => e.Attribute("font-size")?.Value).First(s => s is not null)!);
        var width = Ems * size * text.Value.Length;
        var before = text.Attribute("text-anchor")?.Value switch { "middle" => width / 2, "end" => width, _ => 0 };
        if (text.Attribute("transform")?.Value is not { } transform)
        {
            var (x, y) = (Number(text.Attribute("x")!.Value), Number(text.Attribute("y")!.Value));
            return (x - before, y - size, x - before + width, y + (0.3 * size));
        }

        // "translate(18 230) rotate(-90)": it runs upwards.
        var parts = transform.Split('(', ')', ' ');
        Assert.Equal(("translate", "rotate", "-90"), (parts[0], parts[4], parts[5]));
        var (across, along) = (Number(parts[1]), Number(parts[2]));
        return (across - size, along + before - width, across + (0.3 * size), along + before);
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);
}
