using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Octet.Backends;
using Octet.Cases;

namespace Octet.Tests.Backends.Native;

/// <summary>The C# side of the ABI against the library's own tables and exports.</summary>
public sealed class AbiTests
{
    // Looked up by name here, or a table this test reads itself.
    private static readonly string[] UsedByName = ["octet_abi_version", "octet_abi_layout"];

    // Ops of several devices: no case runs on one. GroupTests has them.
    private static readonly string[] Collectives = ["gather", "group_sync"];

    [Fact]
    public void Every_struct_has_the_librarys_size_and_field_offsets()
    {
        var types = typeof(NativeBackend).Assembly.GetTypes()
            .Where(t => t is { IsValueType: true, IsNested: false, Namespace: "Octet.Backends" } && t.Name.StartsWith("Native", StringComparison.Ordinal))
            .ToDictionary(t => "octet" + Snake(t.Name["Native".Length..]));
        var compared = 0;
        foreach (var (structName, fieldName, value) in Layout())
        {
            if (!types.TryGetValue(structName, out var type))
            {
                Assert.DoesNotContain("_args", structName, StringComparison.Ordinal);
                continue;
            }

            var actual = fieldName.Length == 0
                ? Marshal.SizeOf(type)
                : Marshal.OffsetOf(type, type.GetFields(BindingFlags.Public | BindingFlags.Instance).Single(f => Snake(f.Name) == "_" + fieldName).Name);
            Assert.True(value == actual, $"{structName}.{fieldName}: {actual} here, {value} in the library");
            compared++;
        }

        Assert.True(compared > 100, $"only {compared} entries were compared");
    }

    [Fact]
    public void Every_op_of_the_library_has_a_case_and_every_export_a_binding()
    {
        var header = File.ReadAllText(Path.Combine(TinyModel.Directory, "..", "..", "..", "native", "include", "octet.h"));
        var ops = System.Text.RegularExpressions.Regex.Matches(header, @"^OCTET_OP(?:_WITH_WORKSPACE)?\((\w+)\);", System.Text.RegularExpressions.RegexOptions.Multiline)
            .Select(m => m.Groups[1].Value).ToArray();
        Assert.Equal(ops.Except(Collectives).Order(), CaseList.All.Select(c => c.Op).Distinct().Order());

        var bound = typeof(NativeBackend).GetMethods(BindingFlags.Static | BindingFlags.NonPublic).Select(m => m.Name).ToHashSet();
        var exports = System.Text.RegularExpressions.Regex.Matches(header, @"OCTET_API [\w ]+[ *](octet_\w+)\(").Select(m => m.Groups[1].Value)
            .Where(name => !name.Contains("##", StringComparison.Ordinal))
            .Concat(ops.Select(op => $"octet_{op}"));
        Assert.DoesNotContain(exports, name => name != "octet_" && !bound.Contains(name) && !UsedByName.Contains(name));
    }

    [Fact]
    public unsafe void Every_op_refuses_bad_arguments_with_a_status_and_a_text()
    {
        using var device = Device.Open("sim");
        var stream = device.Stream.Handle.DangerousGetHandle();
        var library = NativeLibrary.Load("octet", typeof(NativeBackend).Assembly, null);
        var ops = 0;
        foreach (var (structName, fieldName, size) in Layout().Where(e => e.Struct.EndsWith("_args", StringComparison.Ordinal) && e.Field.Length == 0))
        {
            var op = (delegate* unmanaged<long*, nint, OctetStatus>)NativeLibrary.GetExport(library, structName[..^"_args".Length]);
            var args = new long[size / 8];
            fixed (long* pointer = args)
            {
                Refused($"{structName} null", op(null, stream));
                args[0] = size + 8;
                Refused($"{structName} of another size", op(pointer, stream));

                // Misaligned pointers, negative sizes and strides, enums out of range, all at once.
                args.AsSpan().Fill(-1);
                args[0] = size;
                Refused($"{structName} of -1", op(pointer, stream));

                // Nothing to do, or refused: never a fault.
                args.AsSpan().Clear();
                args[0] = size;
                op(pointer, stream);

                // Sizes that want work, and no memory to do it on.
                for (var i = 1; i < args.Length; i++)
                {
                    args[i] = 0x1_0000_0001;
                }

                Refused($"{structName} of misaligned pointers", op(pointer, stream));
            }

            ops++;
        }

        Assert.Equal(20, ops);
    }

    [Fact]
    public void The_simulator_counts_launches_and_reset_clears_them()
    {
        using var device = Device.Open("sim");
        var backend = (NativeBackend)device.Backend;
        using var x = Tensor.From<float>(device, new float[256], 2, 128);
        using var codes = Tensor.Create(device, device.Float8, 2, 128);
        using var scales = Tensor.Create(device, DType.Float32, 2, 1);
        NativeBackend.Noop(device.Stream);
        Ops.Quantize(device.Stream, new() { X = x, Output = new(codes, scales) });
        Assert.Equal(1, backend.SimCounters().Sum(c => c.Launches));
        backend.ResetSimCounters();
        Assert.Equal(0, backend.SimCounters().Sum(c => c.Launches));
    }

    private static void Refused(string what, OctetStatus status) =>
        Assert.True(status is OctetStatus.InvalidArgument or OctetStatus.Unsupported, $"{what}: {status}");

    private static unsafe List<(string Struct, string Field, long Value)> Layout()
    {
        using (Device.Open("sim"))
        {
        }

        var library = NativeLibrary.Load("octet", typeof(NativeBackend).Assembly, null);
        var layout = (delegate* unmanaged<nint*, int*, int>)NativeLibrary.GetExport(library, "octet_abi_layout");
        nint entries;
        int count;
        Assert.Equal(0, layout(&entries, &count));
        var list = new List<(string, string, long)>();
        for (var i = 0; i < count; i++)
        {
            var entry = (nint*)entries + 3 * i;
            list.Add((Marshal.PtrToStringUTF8(entry[0])!, Marshal.PtrToStringUTF8(entry[1])!, entry[2]));
        }

        return list;
    }

    // "XScaleStride" is "_x_scale_stride", "Fp8Dtype" "_fp8_dtype".
    private static string Snake(string name)
    {
        var text = new StringBuilder();
        foreach (var c in name)
        {
            text.Append(char.IsUpper(c) ? $"_{char.ToLowerInvariant(c)}" : c.ToString());
        }

        return text.ToString();
    }
}
