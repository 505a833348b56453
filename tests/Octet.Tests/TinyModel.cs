using System.Text.Json;
using Octet.Cases;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests;

/// <summary>The small checkpoint and its golden data.</summary>
internal static class TinyModel
{
    /// <summary>The repository's folder.</summary>
    public static string Root { get; } = FindRoot();

    public static string Directory { get; } = Path.Combine(Root, "tests", "models", "tiny-shakespeare");

    public static string Golden(string file) => Path.Combine(Directory, "golden", file);

    public static LanguageModel Load(
        Device device, KvEncoding kv = KvEncoding.Float8, int chunk = 512, int maxBatch = 8, string? directory = null) =>
        LanguageModel.Load(directory ?? Directory, device, new() { KvEncoding = kv, TokenBudget = chunk, MaxSequences = maxBatch, KvCacheTokens = 4096 });

    public static int[] Ids(string name) => Read<int>($"{name}.ids");

    public static T[] Read<T>(string tensor) where T : unmanaged
    {
        using var file = SafeTensorsFile.Open(Golden("golden.safetensors"));
        return file[tensor].As<T>().ToArray();
    }

    /// <summary>Tokens and gaps of greedy.json: "short.w8a8_kv8".</summary>
    public static (int[] Ids, double[] Gaps) Greedy(string name)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Golden("greedy.json")));
        var entry = json.RootElement.GetProperty(name);
        return (
            [.. entry.GetProperty("ids").EnumerateArray().Select(e => e.GetInt32())],
            [.. entry.GetProperty("margin").EnumerateArray().Select(e => e.GetDouble())]);
    }

    public static float[] Logits(LanguageModel model, int[] ids, int? chunk = null)
    {
        var all = new List<float>();
        model.Logits(ids, (_, rows) => all.AddRange(rows), chunk);
        return [.. all];
    }

    public static double Difference(float[] actual, float[] expected) =>
        CaseContext.Difference(Array.ConvertAll(actual, x => (double)x), Array.ConvertAll(expected, x => (double)x));

    public static int ArgMax(ReadOnlySpan<float> row)
    {
        var best = 0;
        for (var i = 1; i < row.Length; i++)
        {
            best = row[i] > row[best] ? i : best;
        }

        return best;
    }

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Kernels.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException("the tests run from inside the repository");
    }
}
