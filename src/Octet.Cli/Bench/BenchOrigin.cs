using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using Octet.Backends;

namespace Octet.Cli.Bench;

/// <summary>What a run was made with, and when: figures of two runs mean something beside each other only where this is known.</summary>
/// <param name="DeviceDescription">The product: "AMD Instinct MI325X", or the processor's name.</param>
/// <param name="Commit">Of the sources the command was built from, "-dirty" behind it where they had changes.</param>
/// <param name="Processor">The host's.</param>
/// <param name="Processors">Logical processors the process may use.</param>
/// <param name="System">The host's operating system and architecture.</param>
/// <param name="Runtime">".NET 10.0.1".</param>
/// <param name="Date">When it began, in UTC, to the second.</param>
internal sealed record BenchOrigin(
    string DeviceDescription, string Commit, string Processor, int Processors, string System, string Runtime, string Date)
{
    /// <summary>What stands where a file does not say.</summary>
    public const string Unknown = "unknown";

    /// <summary>This process on this machine.</summary>
    public static BenchOrigin Of(Device device) => new(
        device.Properties.Description, BuiltFrom(), CpuProvider.ProcessorName(), Environment.ProcessorCount,
        $"{RuntimeInformation.OSDescription} {RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}", RuntimeInformation.FrameworkDescription,
        DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));

    /// <summary>"commit 0123456789ab, .NET 10.0.1, 2 processors AMD EPYC, Linux 6.1 x64, 2026-01-31T12:00:00Z".</summary>
    public override string ToString()
    {
        var commit = Commit.Split('-') is [{ Length: 40 } hash, .. var rest] ? string.Join('-', [hash[..12], .. rest]) : Commit;
        return string.Create(CultureInfo.InvariantCulture, $"commit {commit}, {Runtime}, {Processors} processors {Processor}, {System}, {Date}");
    }

    // Octet.Cli.csproj writes it into the assembly.
    private static string BuiltFrom() =>
        typeof(BenchOrigin).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().FirstOrDefault(a => a.Key == "Commit")?.Value is { Length: > 0 } commit
            ? commit : Unknown;
}
