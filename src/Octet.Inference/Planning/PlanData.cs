using System.Text;
using Octet.Inference.Loading;

namespace Octet.Inference.Planning;

/// <summary>The data files the planner carries: models, hardware, engines and the measurements they were fitted to.</summary>
internal static class PlanData
{
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
}
