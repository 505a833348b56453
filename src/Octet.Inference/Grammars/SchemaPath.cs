using System.Text.Json;

namespace Octet.Inference.Grammars;

/// <summary>Places in a schema: <c>$.properties.age</c>, <c>$.anyOf[1]</c>, <c>$.properties['a b']</c>.</summary>
internal static class SchemaPath
{
    /// <summary>The whole.</summary>
    public const string Root = "$";

    private const int LongestName = 64;

    /// <summary>A member's place.</summary>
    public static string Member(string path, string name)
    {
        static bool IsPlain(char c) => char.IsAsciiLetterOrDigit(c) || c is '_' or '$' or '-';
        var isPlain = name.Length is > 0 and <= LongestName && !char.IsAsciiDigit(name[0]) && name.All(IsPlain);
        var shown = name.Length <= LongestName ? name : name[..LongestName] + "...";
        return isPlain ? $"{path}.{name}" : $"{path}[{JsonTerms.Quote(shown).Replace('"', '\'')}]";
    }

    /// <summary>An item's place.</summary>
    public static string Item(string path, int index) => $"{path}[{index}]";

    /// <summary>
    /// What a reference of JSON Schema stands for: <c>#</c>, or <c>#/</c> and the names on the way, with ~1 for / and ~0 for ~.
    /// </summary>
    /// <param name="root">The whole schema.</param>
    /// <param name="reference">The reference.</param>
    /// <param name="at">Where it is.</param>
    /// <exception cref="GrammarException">It leads nowhere, or outside.</exception>
    public static (JsonElement Value, string Path) Resolve(JsonElement root, JsonElement reference, string at)
    {
        var text = reference.ValueKind == JsonValueKind.String ? reference.GetString()! : "";
        if (text != "#" && !text.StartsWith("#/", StringComparison.Ordinal))
        {
            throw new GrammarException(
                at, $"refers to {Shown(reference)}; only places in the same schema are supported, such as '#' and '#/$defs/name'");
        }

        var (value, path) = (root, Root);
        foreach (var part in text.Split('/').Skip(1))
        {
            var name = Uri.UnescapeDataString(part)
                .Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            (value, path) = value.ValueKind switch
            {
                JsonValueKind.Object when value.TryGetProperty(name, out var member) => (member, Member(path, name)),
                JsonValueKind.Array when int.TryParse(name, out var index) && index >= 0 && index < value.GetArrayLength() =>
                    (value[index], Item(path, index)),
                _ => throw new GrammarException(at, $"refers to {Shown(reference)}, which is not in the schema"),
            };
        }

        return (value, path);
    }

    /// <summary>A value for a message, cut where it is long.</summary>
    public static string Shown(JsonElement value)
    {
        var text = value.GetRawText();
        return text.Length > LongestName ? text[..LongestName] + "..." : text;
    }
}
