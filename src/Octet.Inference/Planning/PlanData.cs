using System.Text;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Inference.Planning;

/// <summary>The data files the planner carries: models, hardware, engines and the measurements they were fitted to.</summary>
internal static class PlanData
{
    public const string TargetModel = "Qwen3-235B-A22B-Instruct-2507-FP8";

    public static byte[] Read(string name)
    {
        using Stream stream = typeof(PlanData).Assembly.GetManifestResourceStream("Planning." + name)
            ?? throw new InvalidOperationException($"the assembly lacks its data file {name}");
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    public static string ReadText(string name) => Encoding.UTF8.GetString(Read(name));

    public static ModelJson ReadJson(string name) => ModelJson.Parse(name, Read(name));

    /// <summary>The model called <paramref name="name"/>, or the one in the directory of that name.</summary>
    public static ModelShape Model(string name)
    {
        // A repository prefix such as "Qwen/" names the same model.
        if (name.Split('/')[^1].Equals(TargetModel, StringComparison.OrdinalIgnoreCase) && !Directory.Exists(name))
        {
            return new ModelShape(TargetModel, ModelConfig.Parse(ReadJson(TargetModel.ToLowerInvariant() + ".json")));
        }
        return Directory.Exists(name)
            ? new ModelShape(Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(name))), ModelConfig.Load(name))
            : throw new PlanException($"model '{name}' is neither a directory with config.json nor a known name ({TargetModel})");
    }
}
