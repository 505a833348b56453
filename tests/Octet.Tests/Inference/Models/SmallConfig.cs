using System.Text;
using System.Text.Json.Nodes;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Inference.Models;

/// <summary>The small checkpoint's config.json with changes.</summary>
internal static class SmallConfig
{
    public static JsonObject Json() =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "config.json")))!.AsObject();

    /// <summary>With the fields of <paramref name="changes"/> in place of its own.</summary>
    public static JsonObject With(string changes)
    {
        JsonObject json = Json();
        foreach (var (name, value) in JsonNode.Parse(changes)!.AsObject())
        {
            json[name] = value?.DeepClone();
        }
        return json;
    }

    public static ModelConfig Parse(string changes) => Parse(With(changes));

    public static ModelConfig Parse(JsonObject json) =>
        ModelConfig.Parse(ModelJson.Parse("config.json", Encoding.UTF8.GetBytes(json.ToJsonString())));

    public static string Refusal(string changes) => Assert.Throws<ModelFormatException>(() => Parse(changes)).Message;
}
