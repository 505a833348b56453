using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace Octet.Inference.Loading.Templates;

/// <summary>Values from JSON: as Python reads it, and all strings data.</summary>
internal static class TemplateJson
{
    private const int MostDigits = 4300;

    /// <exception cref="ArgumentException">A number has too many digits.</exception>
    public static object? Value(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                var dictionary = new TemplateDictionary();
                foreach (JsonProperty member in element.EnumerateObject())
                {
                    dictionary.Set(new TemplateText(member.Name, TextOrigin.Data), Value(member.Value));
                }
                return dictionary;
            case JsonValueKind.Array:
                return element.EnumerateArray().Select(Value).ToList();
            case JsonValueKind.String:
                return new TemplateText(element.GetString()!, TextOrigin.Data);
            case JsonValueKind.Number:
                string number = element.GetRawText();
                if (number.AsSpan().ContainsAny('.', 'e', 'E'))
                {
                    return double.Parse(number, CultureInfo.InvariantCulture);
                }
                return number.Length <= MostDigits
                    ? BigInteger.Parse(number, CultureInfo.InvariantCulture)
                    : throw new ArgumentException($"a number has {number.Length} digits, more than {MostDigits}", nameof(element));
            default:
                return element.ValueKind is JsonValueKind.True or JsonValueKind.False ? element.GetBoolean() : null;
        }
    }
}
