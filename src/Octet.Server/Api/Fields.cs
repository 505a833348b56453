using System.Text.Json;

namespace Octet.Server.Api;

/// <summary>The fields of a JSON object that a client sent. What has the wrong type or is out of range is refused by its path; null is as good as absent.</summary>
/// <param name="body">The object.</param>
/// <param name="path">Where it stands: empty for the body, else with a dot at its end.</param>
internal readonly struct Fields(JsonElement body, string path = "")
{
    /// <summary>The object.</summary>
    public JsonElement Body => body;

    /// <summary>Takes a JSON object.</summary>
    /// <exception cref="ApiException">It is none.</exception>
    public static Fields Of(JsonElement value, string name) => value.ValueKind == JsonValueKind.Object
        ? new(value, name + ".")
        : throw ApiException.BadField(name, $"is {Describe(value)}, expected an object");

    /// <summary>A field's path.</summary>
    public string PathOf(string name) => path + name;

    /// <summary>A field, if it is there and not null.</summary>
    public JsonElement? Find(string name) =>
        body.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    public string? Text(string name) => Find(name) is { } value ? TextOf(value, PathOf(name)) : null;

    public string RequiredText(string name) => Text(name) ?? throw ApiException.BadField(PathOf(name), "is missing, expected a string");

    public bool? Boolean(string name) => Find(name) is not { } value ? null
        : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
        : throw ApiException.BadField(PathOf(name), $"is {Describe(value)}, expected true or false");

    public int? Integer(string name, int least = int.MinValue, int most = int.MaxValue) =>
        (int?)Long(name, least, most);

    public long? Long(string name, long least = long.MinValue, long most = long.MaxValue)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        // Some clients write whole numbers as 1.0.
        if (value.ValueKind != JsonValueKind.Number || !(value.TryGetInt64(out var number) || IsWhole(value, out number)))
        {
            throw ApiException.BadField(PathOf(name), $"is {Describe(value)}, expected a whole number");
        }

        return number >= least && number <= most ? number : throw OutOfRange(name, value, least, most);
    }

    public float? Number(string name, double least = double.NegativeInfinity, double most = double.PositiveInfinity)
    {
        if (Find(name) is not { } value)
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDouble(out var number) || !float.IsFinite((float)number))
        {
            throw ApiException.BadField(PathOf(name), $"is {Describe(value)}, expected a number");
        }

        return number >= least && number <= most ? (float)number : throw OutOfRange(name, value, least, most);
    }

    /// <summary>A field that is an array, if it is there.</summary>
    public JsonElement? Array(string name) => Find(name) is not { } value ? null
        : value.ValueKind == JsonValueKind.Array ? value
        : throw ApiException.BadField(PathOf(name), $"is {Describe(value)}, expected an array");

    /// <summary>A field that is an object, if it is there.</summary>
    public Fields? Object(string name) => Find(name) is { } value ? Of(value, PathOf(name)) : null;

    /// <summary>A string.</summary>
    public static string TextOf(JsonElement value, string path) => value.ValueKind == JsonValueKind.String
        ? value.GetString()!
        : throw ApiException.BadField(path, $"is {Describe(value)}, expected a string");

    /// <summary>A value in a message: short, and none of what a string says.</summary>
    public static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => "a string",
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.Undefined => "missing",
        _ when value.GetRawText() is { Length: <= 40 } text => text,
        _ => "a number of many digits",
    };

    private static bool IsWhole(JsonElement value, out long number)
    {
        number = 0;
        if (!value.TryGetDouble(out var real) || Math.Abs(real) >= 1L << 53 || real != Math.Truncate(real))
        {
            return false;
        }

        number = (long)real;
        return true;
    }

    private ApiException OutOfRange(string name, JsonElement value, double least, double most) => ApiException.BadField(
        PathOf(name),
        $"is {Describe(value)}, expected {(double.IsInfinity(most) || most >= int.MaxValue ? $"at least {least}" : $"{least} to {most}")}");
}
