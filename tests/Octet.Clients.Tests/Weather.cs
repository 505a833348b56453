using System.Text.Json;
using System.Text.Json.Serialization;

namespace Octet.Clients.Tests;

/// <summary>What structured answers are asked to be: the small model, which knows no JSON, writes them only because it must.</summary>
public sealed record Weather(string City, long Days, Sky Sky, string[] Winds)
{
    /// <summary>The schema that those clients send which take one as it is.</summary>
    public const string Schema =
        """
        {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
          "sky": {"enum": ["Clear", "Grey"]}, "winds": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2}},
          "required": ["city", "days", "sky", "winds"], "additionalProperties": false}
        """;

    /// <summary>A schema of which one keyword is not supported.</summary>
    public const string Unsupported =
        """
        {"type": "object", "properties": {"city": {"type": "string", "pattern": "^Y"}}, "required": ["city"]}
        """;

    private static readonly JsonSerializerOptions s_json =
        new(JsonSerializerDefaults.Web) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    /// <summary>Reads an answer to <see cref="Schema"/>; what is not of it fails the test.</summary>
    public static void Check(string json)
    {
        var weather = JsonSerializer.Deserialize<Weather>(json, s_json)!;
        Assert.InRange(weather.Days, 1, 9);
        Assert.True(weather.City.Length <= 12 && weather.Winds.Length <= 2, json);
    }

    /// <summary>A function to call. Whole numbers without bounds may have 15 digits.</summary>
    public static string Tell(Sky sky, long days) => $"{sky} for {days} days";
}

/// <summary>How it looks up there.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Sky>))]
public enum Sky
{
    /// <summary>Blue.</summary>
    Clear,

    /// <summary>Not blue.</summary>
    Grey,
}
