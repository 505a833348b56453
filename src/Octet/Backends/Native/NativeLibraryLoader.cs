using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;

namespace Octet.Backends;

/// <summary>Finds <c>liboctet</c>: OCTET_NATIVE_PATH, then the application's folder, then runtimes/&lt;rid&gt;/native in it.</summary>
internal static class NativeLibraryLoader
{
    private const int AbiVersion = 1;

    private static readonly Lazy<(nint Handle, string Failures)> Loaded = new(Load);

    /// <summary>What is missing and how to get it, for humans.</summary>
    public const string Remedy =
        "build it with clang 22 (Debian: apt-get install clang-22 lld-22 llvm-22 libboost-context-dev cmake ninja-build, then build again), "
        + "or set OCTET_NATIVE_PATH to a liboctet.so";

    /// <summary>The library; false with every place tried and the loader's own message for each.</summary>
    public static bool TryLoad(out string failures)
    {
        (var handle, failures) = Loaded.Value;
        return handle != 0;
    }

    /// <summary>The resolver behind every LibraryImport of this assembly.</summary>
    public static nint Resolve(string library, Assembly assembly, DllImportSearchPath? path)
    {
        if (library != NativeBackend.Library)
        {
            return 0;
        }

        return TryLoad(out var failures)
            ? Loaded.Value.Handle
            : throw new OctetException(OctetStatus.NoDevice, $"the native library was not found: {failures}; {Remedy}");
    }

    private static (nint Handle, string Failures) Load()
    {
        var failures = new StringBuilder();
        foreach (var path in Candidates())
        {
            if (!File.Exists(path))
            {
                Append($"{path}: no such file");
                continue;
            }

            try
            {
                var handle = NativeLibrary.Load(path);
                var version = AbiVersionOf(handle);
                if (version == AbiVersion)
                {
                    return (handle, "");
                }

                NativeLibrary.Free(handle);
                Append($"{path}: ABI version {version}, this assembly needs {AbiVersion}");
            }
            catch (Exception error) when (error is DllNotFoundException or BadImageFormatException or EntryPointNotFoundException)
            {
                Append($"{path}: {error.Message.ReplaceLineEndings(" ")}");
            }
        }

        return (0, failures.ToString());

        void Append(string text) => failures.Append(failures.Length == 0 ? "" : "; ").Append(text);
    }

    private static unsafe int AbiVersionOf(nint handle) =>
        ((delegate* unmanaged<int>)NativeLibrary.GetExport(handle, "octet_abi_version"))();

    private static IEnumerable<string> Candidates()
    {
        var file = OperatingSystem.IsWindows() ? "octet.dll" : "liboctet.so";
        var chosen = Environment.GetEnvironmentVariable("OCTET_NATIVE_PATH");
        if (!string.IsNullOrEmpty(chosen))
        {
            // Chosen by the user: nothing else is tried behind their back.
            return [Directory.Exists(chosen) ? Path.Combine(chosen, file) : chosen];
        }

        var folder = AppContext.BaseDirectory;
        return [Path.Combine(folder, file), Path.Combine(folder, "runtimes", RuntimeInformation.RuntimeIdentifier, "native", file)];
    }
}
