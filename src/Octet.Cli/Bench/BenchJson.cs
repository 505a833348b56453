using System.Text.Json;

namespace Octet.Cli.Bench;

/// <summary>A run as JSON, and back.</summary>
internal static class BenchJson
{
    public static void Write(BenchReport report, Utf8JsonWriter writer)
    {
        writer.WriteString("device", report.Device);
        writer.WriteString("device_description", report.Origin.DeviceDescription);
        writer.WriteString("commit", report.Origin.Commit);
        writer.WriteStartObject("host");
        writer.WriteString("processor", report.Origin.Processor);
        writer.WriteNumber("processors", report.Origin.Processors);
        writer.WriteString("system", report.Origin.System);
        writer.WriteEndObject();
        writer.WriteString("runtime", report.Origin.Runtime);
        writer.WriteString("date", report.Origin.Date);
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
            writer.WriteBoolean("above_ceiling", result.IsAboveCeiling);
            writer.WriteNumber("allocated_bytes", result.AllocatedBytes);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    /// <summary>A file that <c>octet bench --json</c> wrote. Files from before the origin was recorded are read too.</summary>
    /// <exception cref="ArgumentException">It is not one.</exception>
    public static BenchReport Read(string path)
    {
        try
        {
            using var json = JsonDocument.Parse(Directory.Exists(path) ? throw new FormatException("it is a folder") : File.ReadAllText(path));
            return Report(json.RootElement);
        }
        catch (Exception error) when (error is JsonException or FormatException)
        {
            throw new ArgumentException($"--compare: {path} is no output of 'octet bench --json': {error.Message}", error);
        }
    }

    private static BenchReport Report(JsonElement root)
    {
        var ceilings = Member(root, "ceilings", JsonValueKind.Object);
        var host = root.TryGetProperty("host", out var given) && given.ValueKind == JsonValueKind.Object ? given : root;
        var origin = new BenchOrigin(
            Told(root, "device_description"), Told(root, "commit"), Told(host, "processor"),
            host.TryGetProperty("processors", out var count) && count.ValueKind == JsonValueKind.Number && count.TryGetInt32(out var processors) ? processors : 0,
            Told(host, "system"), Told(root, "runtime"), Told(root, "date"));
        var results = new List<BenchResult>();
        var seen = new HashSet<(string, string)>();
        foreach (var element in Member(root, "results", JsonValueKind.Array).EnumerateArray())
        {
            results.Add(Result(element));
            if (!seen.Add((results[^1].Op, results[^1].Name)))
            {
                throw new FormatException($"'{results[^1].Op} {results[^1].Name}' is there twice");
            }
        }

        return new BenchReport(
            Member(root, "device", JsonValueKind.String).GetString()!, origin, new BenchCeilings(Number(ceilings, "gbytes_per_second"), Number(ceilings, "gflops")), results);
    }

    private static BenchResult Result(JsonElement result)
    {
        var microseconds = Number(result, "microseconds");
        return microseconds > 0
            ? new(
                Member(result, "op", JsonValueKind.String).GetString()!, Member(result, "name", JsonValueKind.String).GetString()!, microseconds,
                Number(result, "spread"), Number(result, "gflops"), Number(result, "gbytes_per_second"), Number(result, "share_of_ceiling"),
                (long)Number(result, "allocated_bytes"))
            : throw new FormatException($"microseconds = {microseconds} must be positive");
    }

    private static JsonElement Member(JsonElement element, string name, JsonValueKind kind) =>
        element.ValueKind != JsonValueKind.Object ? throw new FormatException($"where an object with '{name}' belongs stands {Kind(element.ValueKind)}")
        : !element.TryGetProperty(name, out var member) ? throw new FormatException($"'{name}' is missing")
        : member.ValueKind == kind ? member
        : throw new FormatException($"'{name}' is {Kind(member.ValueKind)}, not {Kind(kind)}");

    private static double Number(JsonElement element, string name)
    {
        var number = Member(element, name, JsonValueKind.Number).GetDouble();
        return double.IsFinite(number) && number >= 0 ? number : throw new FormatException($"'{name}' = {number} must be finite and not negative");
    }

    private static string Told(JsonElement element, string name) =>
        element.TryGetProperty(name, out var member) && member.ValueKind == JsonValueKind.String ? member.GetString()! : BenchOrigin.Unknown;

    private static string Kind(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "a truth value",
        _ => "null",
    };
}
