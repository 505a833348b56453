using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Octet.Extensions.AI;

/// <summary>Properties that <see cref="ChatOptions"/> has no member for: .NET's own values, or what was read from JSON.</summary>
/// <param name="values">By name; null: there are none.</param>
internal readonly struct ExtraProperties(AdditionalPropertiesDictionary? values)
{
    /// <summary>A property as it is; null: it is not there.</summary>
    public object? Value(string name) => values is not null && values.TryGetValue(name, out var value) ? value : null;

    /// <summary>A property as JSON; null: it is not there.</summary>
    public JsonElement? Json(string name) => Value(name) switch
    {
        null => null,
        JsonElement { ValueKind: JsonValueKind.Null or JsonValueKind.Undefined } => null,
        JsonElement json => json,
        var value => JsonSerializer.SerializeToElement(value, AIJsonUtilities.DefaultOptions.GetTypeInfo(typeof(object))),
    };

    public float? Number(string name) => Json(name) is not { } json ? null
        : json.ValueKind == JsonValueKind.Number ? json.GetSingle()
        : throw Wrong(name, json, "a number");

    public int? Integer(string name) => Json(name) is not { } json ? null
        : json.ValueKind == JsonValueKind.Number && json.TryGetInt32(out var value) ? value
        : throw Wrong(name, json, "a whole number");

    public bool? Boolean(string name) => Json(name) is not { } json ? null
        : json.ValueKind is JsonValueKind.True or JsonValueKind.False ? json.GetBoolean()
        : throw Wrong(name, json, "true or false");

    public string? Text(string name) => Json(name) is not { } json ? null
        : json.ValueKind == JsonValueKind.String ? json.GetString()
        : throw Wrong(name, json, "a string");

    public JsonElement? Object(string name) => Json(name) is not { } json ? null
        : json.ValueKind == JsonValueKind.Object ? json
        : throw Wrong(name, json, "an object");

    public static ArgumentException Wrong(string name, JsonElement value, string expected) =>
        new($"AdditionalProperties has '{name}' of {value.GetRawText()}, expected {expected}");
}
