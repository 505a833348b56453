using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>
/// Where <c>liboctet</c> may lie: the file or folder of OCTET_NATIVE_PATH alone, else in each folder of <see cref="Folders"/> the file
/// itself and runtimes/RID/native for each of <see cref="RuntimeIdentifiers"/>.
/// </summary>
/// <param name="Chosen">OCTET_NATIVE_PATH; null where it is not set.</param>
/// <param name="Folders">The assembly's (a plug-in's is not the application's; a single file's is where it was unpacked), the application's, and those of the host: of packages.</param>
/// <param name="RuntimeIdentifiers">The runtime's own ("ubuntu.24.04-x64" where a distribution built it), then the portable one.</param>
internal sealed record NativeLibraryPlaces(string? Chosen, IReadOnlyList<string> Folders, IReadOnlyList<string> RuntimeIdentifiers)
{
    /// <summary>The library's file name on this system.</summary>
    public static string FileName { get; } = OperatingSystem.IsWindows() ? "octet.dll" : "liboctet.so";

    /// <summary>OCTET_NATIVE_PATH; null where it is not set.</summary>
    public static string? ChosenByUser => Environment.GetEnvironmentVariable("OCTET_NATIVE_PATH") is { Length: > 0 } path ? path : null;

    /// <summary>The places of this process.</summary>
    /// <param name="assemblyFolder">Where this assembly lies; null in a single file.</param>
    public static NativeLibraryPlaces OfThisProcess(string? assemblyFolder)
    {
        // Assemblies in a single file have no folder, and ahead of time there are none.
        var unpacked = assemblyFolder is null && RuntimeFeature.IsDynamicCodeSupported ? ExtractionFolder.OfThisProcess() : null;
        var host = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        return Of(
            ChosenByUser, assemblyFolder ?? unpacked, AppContext.BaseDirectory, host,
            RuntimeInformation.RuntimeIdentifier, Portable());
    }

    /// <summary>The places for what a process knows of itself.</summary>
    /// <param name="chosen">OCTET_NATIVE_PATH; null where it is not set.</param>
    /// <param name="assemblyFolder">In a single file where it was unpacked; null where it was not.</param>
    /// <param name="applicationFolder">AppContext.BaseDirectory.</param>
    /// <param name="host">NATIVE_DLL_SEARCH_DIRECTORIES: folders with the system's separator of paths between them.</param>
    /// <param name="runtimeIdentifier">What the runtime was built for.</param>
    /// <param name="portable">The system and the architecture: "linux-x64".</param>
    public static NativeLibraryPlaces Of(
        string? chosen, string? assemblyFolder, string applicationFolder, string host, string runtimeIdentifier, string portable)
    {
        string[] folders =
        [
            .. assemblyFolder is null ? Array.Empty<string>() : [assemblyFolder], applicationFolder,
            .. host.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries),
        ];
        return new NativeLibraryPlaces(
            chosen,
            [.. folders.Select(Path.TrimEndingDirectorySeparator).Distinct()],
            runtimeIdentifier == portable ? [portable] : [runtimeIdentifier, portable]);
    }

    /// <summary>Files to try, in order.</summary>
    public IReadOnlyList<string> Candidates() => Chosen is { } chosen
        ? [Directory.Exists(chosen) ? Path.Combine(chosen, FileName) : chosen]
        : [.. Folders.SelectMany(folder => InFolder(folder, RuntimeIdentifiers))];

    private static string[] InFolder(string folder, IEnumerable<string> identifiers) =>
        [Path.Combine(folder, FileName), .. identifiers.Select(rid => Path.Combine(folder, "runtimes", rid, "native", FileName))];

    private static string Portable()
    {
        var system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
        return $"{system}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
    }
}
