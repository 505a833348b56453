using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>Finds <c>liboctet</c> in the places of <see cref="NativeLibraryPlaces"/>, else wherever the runtime itself would find it.</summary>
internal static class NativeLibraryLoader
{
    private const int AbiVersion = 1;

    private static readonly Lazy<Outcome> Loaded = new(() => Load(typeof(NativeLibraryLoader).Assembly, NativeLibraryPlaces.OfThisProcess(FolderOfAssembly())));

    /// <summary>What to do about its absence, for humans.</summary>
    public static string Remedy =>
        !OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64
            ? "it exists for Linux on x64 only; elsewhere the cpu device computes the same"
        : NativeLibraryPlaces.ChosenByUser is not null
            ? "set OCTET_NATIVE_PATH to a liboctet.so of this version, or unset it"
            : "build it with clang 22 (Debian: apt-get install clang-22 lld-22 llvm-22 libboost-context-dev cmake ninja-build, then build "
                + "again), or set OCTET_NATIVE_PATH to a liboctet.so";

    /// <summary>The library; false with what was tried and why that failed, as one sentence without its full stop.</summary>
    public static bool TryLoad(out string failure)
    {
        failure = Loaded.Value.Failure;
        return Loaded.Value.Handle != 0;
    }

    /// <summary>The file that was loaded; empty where there is none, or where the runtime found it.</summary>
    internal static string LoadedPath => Loaded.Value.Path;

    /// <summary>The resolver behind every LibraryImport of this assembly.</summary>
    public static nint Resolve(string library, Assembly assembly, DllImportSearchPath? path)
    {
        if (library != NativeBackend.Library)
        {
            return 0;
        }

        return TryLoad(out var failure)
            ? Loaded.Value.Handle
            : throw new OctetException(OctetStatus.NoDevice, $"{failure}; {Remedy}");
    }

    /// <summary>Loads the first good library; <paramref name="assembly"/> is the one whose load context is asked last.</summary>
    internal static Outcome Load(Assembly assembly, NativeLibraryPlaces places)
    {
        var tried = places.Candidates();
        var failures = new List<string>();
        foreach (var path in tried.Where(File.Exists))
        {
            if (ElfFile.Obstacle(path, RuntimeInformation.ProcessArchitecture) is { } obstacle)
            {
                failures.Add($"{path} {obstacle}");
                continue;
            }

            try
            {
                if (Accept(NativeLibrary.Load(path), path, failures) is { } outcome)
                {
                    return outcome;
                }
            }
            catch (Exception error) when (error is DllNotFoundException or BadImageFormatException)
            {
                failures.Add($"{path}: {LastLine(error.Message)}");
            }
        }

        // What a plug-in's load context or the system's loader knows of: not behind the back of a user who has named a file.
        if (places.Chosen is null && NativeLibrary.TryLoad(NativeBackend.Library, assembly, null, out var found)
            && Accept(found, "", failures) is { } other)
        {
            return other;
        }

        return new Outcome(0, "", failures.Count > 0
            ? $"the native library was found but cannot be used: {string.Join("; ", failures)}"
            : $"the native library was not found, tried {string.Join(", ", tried)}");
    }

    private static Outcome? Accept(nint handle, string path, List<string> failures)
    {
        var name = path.Length > 0 ? path : $"{NativeLibraryPlaces.FileName} from the runtime's own search";
        if (!NativeLibrary.TryGetExport(handle, "octet_abi_version", out var version))
        {
            failures.Add($"{name} is another library: it has no octet_abi_version");
        }
        else if (Call(version) is var actual && actual != AbiVersion)
        {
            failures.Add($"{name} is of {(actual < AbiVersion ? "an older" : "a newer")} Octet (ABI version {actual}, this assembly needs {AbiVersion})");
        }
        else
        {
            return new Outcome(handle, path, "");
        }

        NativeLibrary.Free(handle);
        return null;
    }

    private static unsafe int Call(nint version) => ((delegate* unmanaged<int>)version)();

    // The loader's own words stand last, behind .NET's advice.
    private static string LastLine(string message) =>
        message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault() ?? message;

    [UnconditionalSuppressMessage("SingleFile", "IL3000", Justification = "Empty in a single file, whose folder is the application's.")]
    private static string? FolderOfAssembly() =>
        typeof(NativeLibraryLoader).Assembly.Location is { Length: > 0 } location ? Path.GetDirectoryName(location) : null;

    /// <summary>The library, or why there is none.</summary>
    /// <param name="Handle">0 where there is none.</param>
    /// <param name="Path">The file; empty where the runtime found it.</param>
    /// <param name="Failure">Empty where there is one.</param>
    internal sealed record Outcome(nint Handle, string Path, string Failure);
}
