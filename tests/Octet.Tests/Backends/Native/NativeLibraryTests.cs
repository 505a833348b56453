using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;
using Octet.Backends;

namespace Octet.Tests.Backends.Native;

/// <summary>Where liboctet is looked for, and what is said of one that cannot be used.</summary>
public sealed class NativeLibraryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("octet-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Portable_runtime_looks_beside_the_application_and_under_its_identifier()
    {
        var places = NativeLibraryPlaces.Of(null, "/app", "/app/", "", "linux-x64", "linux-x64");
        Assert.Equal(["/app/liboctet.so", "/app/runtimes/linux-x64/native/liboctet.so"], places.Candidates());
    }

    [Theory]
    [InlineData("ubuntu.24.04-x64")]
    [InlineData("debian.12-x64")]
    [InlineData("fedora.41-x64")]
    public void Runtime_that_a_distribution_built_looks_under_the_portable_identifier_too(string identifier)
    {
        var places = NativeLibraryPlaces.Of(null, null, "/app/", "", identifier, "linux-x64");
        Assert.Equal(
            ["/app/liboctet.so", $"/app/runtimes/{identifier}/native/liboctet.so", "/app/runtimes/linux-x64/native/liboctet.so"],
            places.Candidates());
    }

    [Fact]
    public void Folders_of_the_host_come_last_and_each_once()
    {
        var places = NativeLibraryPlaces.Of(null, null, "/bin/", "/home/x/.net/App/hash/:/bin/:/usr/share/dotnet/", "linux-x64", "linux-x64");
        Assert.Equal(["/bin", "/home/x/.net/App/hash", "/usr/share/dotnet"], places.Folders);
        Assert.Contains("/home/x/.net/App/hash/runtimes/linux-x64/native/liboctet.so", places.Candidates());
    }

    // The layout of a bundle: the manifest's offset before the signature, which may lie across two chunks of the search.
    [Theory]
    [InlineData(1000)]
    [InlineData((1 << 20) - 3)]
    [InlineData((1 << 20) - 20)]
    [InlineData(1 << 20)]
    public void Self_extracting_file_is_unpacked_under_its_name_and_identifier(int signatureAt)
    {
        byte[] signature =
        [
            0x8b, 0x12, 0x02, 0xb9, 0x6a, 0x61, 0x20, 0x38, 0x72, 0x7b, 0x93, 0x02, 0x14, 0xd7, 0xa0, 0x32,
            0x13, 0xf5, 0xb9, 0xe6, 0xef, 0xae, 0x33, 0x18, 0xee, 0x3b, 0x2d, 0xce, 0x24, 0xb3, 0x6a, 0xae,
        ];
        var bytes = new byte[signatureAt + 3000];
        BitConverter.TryWriteBytes(bytes.AsSpan(signatureAt - 8), (long)signatureAt + 2000);
        signature.CopyTo(bytes, signatureAt);
        "\u0012YTMZRDFcRX3m_-4567"u8.CopyTo(bytes.AsSpan(signatureAt + 2000 + 12));
        var executable = Path.Combine(_folder, "App.Name");
        File.WriteAllBytes(executable, bytes);
        Assert.Null(ExtractionFolder.Of(executable, _folder + "/base"));
        var unpacked = Directory.CreateDirectory(Path.Combine(_folder, "base", "App.Name", "YTMZRDFcRX3m_-4567")).FullName;
        Assert.Equal(unpacked, ExtractionFolder.Of(executable, _folder + "/base"));
    }

    [Fact]
    public void Executable_that_is_no_bundle_was_not_unpacked()
    {
        Assert.Null(ExtractionFolder.Of(Environment.ProcessPath!, _folder));
        Assert.Null(ExtractionFolder.Of(Path.Combine(_folder, "none"), _folder));
    }

    [Fact]
    public void Plug_in_looks_in_its_own_folder_before_the_applications()
    {
        var places = NativeLibraryPlaces.Of(null, "/app/plugins/a", "/app/", "/app/", "linux-x64", "linux-x64");
        Assert.Equal(["/app/plugins/a", "/app"], places.Folders);
    }

    [Fact]
    public void Named_file_or_folder_is_the_only_place()
    {
        Assert.Equal(["/x/lib.so"], NativeLibraryPlaces.Of("/x/lib.so", "/a", "/b", "/c", "linux-x64", "linux-x64").Candidates());
        Assert.Equal([Path.Combine(_folder, "liboctet.so")], NativeLibraryPlaces.Of(_folder, "/a", "/b", "/c", "linux-x64", "linux-x64").Candidates());
    }

    // NOTE: only a named file can be missing here: the one this process has loaded is found again by its name, as the system's loader does.
    [Fact]
    public void Missing_library_is_said_with_the_place() => Assert.Equal(
        $"the native library was not found, tried {_folder}/liboctet.so", Load(new NativeLibraryPlaces(_folder, [], [])).Failure);

    [Fact]
    public void Library_for_another_architecture_is_named_as_such()
    {
        var header = File.ReadAllBytes(LoadedPath).AsSpan(0, 4096).ToArray();
        header[18] = 183; // e_machine: AArch64
        Assert.Equal(
            $"the native library was found but cannot be used: {_folder}/liboctet.so is built for arm64, this process runs on x64",
            LoadFile(header).Failure);
    }

    [Fact]
    public void File_that_is_no_library_is_named_as_such() =>
        Assert.Equal(
            $"the native library was found but cannot be used: {_folder}/liboctet.so is no shared library",
            LoadFile("version https://git-lfs.github.com/spec/v1\n"u8.ToArray()).Failure);

    // The system's loader would end the process with a bus error.
    [Theory]
    [InlineData(65536)]
    [InlineData(-1)]
    public void Truncated_library_is_named_as_such(int bytes)
    {
        var whole = File.ReadAllBytes(LoadedPath);
        var part = bytes < 0 ? whole[..^1] : whole[..bytes];
        Assert.Equal(
            $"the native library was found but cannot be used: {_folder}/liboctet.so is truncated: {part.Length} bytes of at least {whole.Length}",
            LoadFile(part).Failure);
    }

    [Fact]
    public void Another_library_of_that_name_is_named_as_such()
    {
        var other = Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "libSystem.Native.so");
        Assert.EndsWith("liboctet.so is another library: it has no octet_abi_version", LoadFile(File.ReadAllBytes(other)).Failure, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, "an older")]
    [InlineData(7, "a newer")]
    public void Library_of_another_version_is_said_with_both_numbers(byte version, string age)
    {
        Assert.EndsWith($"liboctet.so is of {age} Octet (ABI version {version}, this assembly needs 1)", LoadFile(OfVersion(version)).Failure, StringComparison.Ordinal);
    }

    [Fact]
    public void Bad_library_in_the_first_folder_does_not_hide_a_good_one_in_the_next()
    {
        File.WriteAllText(Path.Combine(_folder, "liboctet.so"), "");
        var outcome = Load(new NativeLibraryPlaces(null, [_folder, Path.GetDirectoryName(LoadedPath)!], []));
        Assert.Equal((LoadedPath, ""), (outcome.Path, outcome.Failure));
    }

    [Fact]
    public void Plug_in_with_a_copy_of_its_own_loads_that_one()
    {
        var native = Directory.CreateDirectory(Path.Combine(_folder, "runtimes", "linux-x64", "native")).FullName;
        File.Copy(LoadedPath, Path.Combine(native, "liboctet.so"));
        var assembly = LoadPlugIn(new AssemblyLoadContext("plug-in"));
        Assert.NotSame(typeof(Device).Assembly, assembly);
        using (var device = (IDisposable)assembly.GetType("Octet.Device")!.GetMethod("Open")!.Invoke(null, ["sim:gfx942"])!)
        {
            Assert.Equal("sim:gfx942 (simulated gfx942)", device.ToString());
        }

        var loader = assembly.GetType("Octet.Backends.NativeLibraryLoader")!;
        Assert.Equal(
            Path.Combine(native, "liboctet.so"), loader.GetProperty("LoadedPath", BindingFlags.Static | BindingFlags.NonPublic)!.GetValue(null));
    }

    [Fact]
    public void Plug_in_without_one_gets_what_its_load_context_knows_unless_the_user_has_named_a_file()
    {
        var context = new PlugInContext();
        var assembly = LoadPlugIn(context);
        var places = new NativeLibraryPlaces(null, [_folder], ["linux-x64"]);
        Assert.Equal(0, NativeLibraryLoader.Load(assembly, places with { Chosen = Path.Combine(_folder, "none.so") }).Handle);
        Assert.Equal(0, context.Asked);
        Assert.NotEqual(0, NativeLibraryLoader.Load(assembly, places).Handle);
        Assert.Equal(1, context.Asked);
    }

    private static string LoadedPath
    {
        get
        {
            Assert.True(NativeLibraryLoader.TryLoad(out var failure), failure);
            return NativeLibraryLoader.LoadedPath;
        }
    }

    private static NativeLibraryLoader.Outcome Load(NativeLibraryPlaces places) => NativeLibraryLoader.Load(typeof(Device).Assembly, places);

    private NativeLibraryLoader.Outcome LoadFile(byte[] bytes)
    {
        var path = Path.Combine(_folder, "liboctet.so");
        File.WriteAllBytes(path, bytes);
        return Load(new NativeLibraryPlaces(path, [], []));
    }

    private Assembly LoadPlugIn(AssemblyLoadContext context)
    {
        var path = Path.Combine(_folder, "Octet.dll");
        File.Copy(typeof(Device).Assembly.Location, path);
        return context.LoadFromAssemblyPath(path);
    }

    // The library with another number in 'mov eax, 1' of octet_abi_version, which /proc/self/maps places in the file.
    private static byte[] OfVersion(byte version)
    {
        var bytes = File.ReadAllBytes(LoadedPath);
        var handle = NativeLibrary.Load(LoadedPath);
        var address = NativeLibrary.GetExport(handle, "octet_abi_version");
        NativeLibrary.Free(handle);
        foreach (var line in File.ReadLines("/proc/self/maps").Where(l => l.EndsWith(LoadedPath, StringComparison.Ordinal)))
        {
            var fields = line.Split(' ');
            var range = Array.ConvertAll(fields[0].Split('-'), x => nint.Parse(x, NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            if (address >= range[0] && address < range[1])
            {
                var offset = (int)(address - range[0] + nint.Parse(fields[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
                var number = bytes.AsSpan(offset, 16).IndexOf<byte>([0xB8, 1, 0, 0, 0]) + 1;
                Assert.True(number > 0, "octet_abi_version holds no 'mov eax, 1'");
                bytes[offset + number] = version;
                return bytes;
            }
        }

        throw new InvalidOperationException($"{LoadedPath} is not mapped");
    }

    private sealed class PlugInContext() : AssemblyLoadContext("plug-in with a resolver")
    {
        public int Asked { get; private set; }

        protected override nint LoadUnmanagedDll(string unmanagedDllName)
        {
            Asked += unmanagedDllName == "octet" ? 1 : 0;
            return unmanagedDllName == "octet" ? LoadUnmanagedDllFromPath(LoadedPath) : 0;
        }
    }
}
