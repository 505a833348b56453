using System.Text.Json;

namespace Octet.Cli.Bench;

/// <summary>A run as JSON, and back.</summary>
internal static class BenchJson
{
    public static void Write(BenchReport report, Utf8JsonWriter writer)
    {
        writer.WriteString("device", report.Device);
        writer.WriteStartObject("ceilings");
        writer.WriteNumber("gbytes_per_second", Math.Round(report.Ceilings.GBytesPerSecond, 3));
        writer.WriteNumber("gflops", Math.Round(report.Ceilings.GFlops, 3));
        writer.WriteEndObject();
        writer.WriteStartArray("results");
        foreach (var result in report.Results)
        {
            writer.WriteStartObject();
            writer.WriteString("op", result.Op);
            writer.WriteString("name", result.Name);
            writer.WriteNumber("microseconds", Math.Round(result.Microseconds, 3));
            writer.WriteNumber("spread", Math.Round(result.Spread, 4));
            writer.WriteNumber("gflops", Math.Round(result.GFlops, 3));
            writer.WriteNumber("gbytes_per_second", Math.Round(result.GBytesPerSecond, 3));
            writer.WriteNumber("share_of_ceiling", Math.Round(result.ShareOfCeiling, 4));
            writer.WriteNumber("allocated_bytes", result.AllocatedBytes);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    /// <summary>A file that <c>octet bench --json</c> wrote.</summary>
    /// <exception cref="ArgumentException">It is not one.</exception>
    public static BenchReport Read(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllText(path));
            var (root, ceilings) = (json.RootElement, json.RootElement.GetProperty("ceilings"));
            return new BenchReport(
                root.GetProperty("device").GetString()!,
                new BenchCeilings(ceilings.GetProperty("gbytes_per_second").GetDouble(), ceilings.GetProperty("gflops").GetDouble()),
                [.. root.GetProperty("results").EnumerateArray().Select(Result)]);
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new ArgumentException($"{path}: not a file of 'octet bench --json': {error.Message}", error);
        }
    }

    private static BenchResult Result(JsonElement result) => new(
        result.GetProperty("op").GetString()!, result.GetProperty("name").GetString()!, result.GetProperty("microseconds").GetDouble(),
        result.GetProperty("spread").GetDouble(), result.GetProperty("gflops").GetDouble(), result.GetProperty("gbytes_per_second").GetDouble(),
        result.GetProperty("share_of_ceiling").GetDouble(), result.GetProperty("allocated_bytes").GetInt64());
}
