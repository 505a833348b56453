using System.Reflection;
using System.Text.RegularExpressions;
using Octet.Ilgpu;

namespace Octet.Tests.Contracts;

/// <summary>What one device refuses every device refuses, in the same words: code that runs on cpu runs on a GPU.</summary>
public sealed partial class ContractTests
{
    private const string Accepted = "accepted";

    public static TheoryData<string> AllOps => [.. OpCalls.Methods.Select(m => m.Op)];

    [Theory]
    [MemberData(nameof(AllOps))]
    public void Every_wrong_argument_is_refused_alike_by_all_devices(string op)
    {
        IlgpuBackend.Register();
        var cpu = Outcomes(op, "cpu");
        Assert.Contains(cpu, outcome => outcome.Value != Accepted);
        foreach (var name in (string[])["sim:gfx950", "ilgpu:cpu"])
        {
            Assert.Equal(Text(cpu), Text(Outcomes(op, name)));
        }

        Assert.Equal(Text(Outcomes(op, "cpu:fnuz")), Text(Outcomes(op, "sim:gfx942")));
        Assert.All(cpu, outcome => Assert.True(
            outcome.Value == Accepted || outcome.Value.StartsWith($"ArgumentException: {op}: ", StringComparison.Ordinal)
            || outcome.Key.EndsWith("disposed", StringComparison.Ordinal),
            $"{outcome.Key}: {outcome.Value}"));
    }

    [Theory]
    [MemberData(nameof(AllOps))]
    public void A_missing_argument_is_named(string op)
    {
        using var device = Device.Open("cpu");
        using var other = Device.Open("cpu");
        using var calls = new OpCalls(device);
        var missing = ArgumentVariation.Of(calls.ArgumentsOf(op), other).Where(v => v is { Change: "null" or "default", IsRequired: true }).ToArray();
        Assert.NotEmpty(missing);
        foreach (var variation in missing)
        {
            // Of what holds others the values are missed first, of a part its owner is named too.
            var names = variation.Path.Split('.').Select(OpCalls.Snake).Where(part => part != "values");
            var outcome = Outcome(device, op, variation.Arguments);
            Assert.Matches($"^ArgumentException: {op}: ({string.Join(' ', names)}|{string.Join("_", names)}|values).* is null$", outcome.ToLowerInvariant().Replace("argumentexception", "ArgumentException"));
        }
    }

    [Theory]
    [MemberData(nameof(AllOps))]
    public void Every_tensor_must_begin_at_a_multiple_of_16_bytes(string op)
    {
        using var device = Device.Open("cpu");
        using var other = Device.Open("cpu");
        using var calls = new OpCalls(device);
        var shifted = ArgumentVariation.Of(calls.ArgumentsOf(op), other).Where(v => v.Change.EndsWith("further", StringComparison.Ordinal)).ToArray();
        Assert.NotEmpty(shifted);
        Assert.All(shifted, v => Assert.Contains("must be aligned to 16 bytes", Outcome(device, op, v.Arguments), StringComparison.Ordinal));
    }

    [Fact]
    public void A_tensor_borrowed_unaligned_is_taken_where_it_lies_and_only_where_host_memory_is_read()
    {
        using var cpu = Device.Open("cpu");
        using var table = Tensor.From<BFloat16>(cpu, [(BFloat16)1f, (BFloat16)2f, (BFloat16)3f], 3);
        using var ids = Tensor.From<int>(cpu, [1], 1);
        using var output = Tensor.Create(cpu, DType.BFloat16, 1, 1);
        var unaligned = TensorView.BorrowUnaligned(cpu, table.Address + 2, DType.BFloat16, 2, 1);
        Ops.Embedding(cpu.Stream, new() { Table = unaligned.View(2, 1), Ids = ids, Output = output });
        Assert.Equal([(BFloat16)3f], output.ToArray<BFloat16>());
        var odd = TensorView.BorrowUnaligned(cpu, table.Address + 1, DType.BFloat16, 2, 1);
        Assert.Contains("aligned to 2 bytes", Assert.Throws<ArgumentException>(
            () => Ops.Embedding(cpu.Stream, new() { Table = odd, Ids = ids, Output = output })).Message, StringComparison.Ordinal);
        using var sim = Device.Open("sim:gfx950");
        Assert.Contains("sim:gfx950", Assert.Throws<ArgumentException>(
            () => TensorView.BorrowUnaligned(sim, 0x1002, DType.BFloat16, 2, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_stream_or_device_that_is_missing_is_named()
    {
        Assert.Equal("stream", Assert.Throws<ArgumentNullException>(() => Ops.Gemm(null!, default)).ParamName);
        Assert.Equal("device", Assert.Throws<ArgumentNullException>(() => Ops.GemmWorkspace(null!, default)).ParamName);
        Assert.Equal("device", Assert.Throws<ArgumentNullException>(() => Ops.GemmSegments(null!, default)).ParamName);
    }

    [Fact]
    public void Workspaces_are_asked_for_with_arguments_the_op_would_take()
    {
        using var device = Device.Open("sim:gfx950");
        Assert.Equal("gemm: b is null", Assert.Throws<ArgumentException>(() => Ops.GemmWorkspace(device, default)).Message);
        Assert.Equal("gemm: b is null", Assert.Throws<ArgumentException>(() => Ops.GemmSegments(device, default)).Message);
        foreach (var (op, _, workspace) in OpCalls.Methods.Where(m => m.Workspace is not null))
        {
            var arguments = Activator.CreateInstance(workspace!.GetParameters()[1].ParameterType.GetElementType()!);
            var error = Assert.Throws<ArgumentException>(() => workspace.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [device, arguments], null));
            Assert.Matches($"^{op}: .* is null$", error.Message);
        }
    }

    private static string Text(Dictionary<string, string> outcomes) => string.Join('\n', outcomes.Select(o => $"{o.Key}: {o.Value}"));

    private static Dictionary<string, string> Outcomes(string op, string name)
    {
        using var device = Device.Open(name);
        using var other = Device.Open(name);
        using var calls = new OpCalls(device);
        var arguments = calls.ArgumentsOf(op);
        Assert.Equal(Accepted, Outcome(device, op, arguments));
        return ArgumentVariation.Of(arguments, other).Where(v => !IsWorkspaceSize(v)).ToDictionary(v => $"{v.Path} {v.Change}", v => Outcome(device, op, v.Arguments));
    }

    // How much scratch memory an op needs is each device's own.
    private static bool IsWorkspaceSize(ArgumentVariation variation) =>
        variation is { Path: "Workspace", Change: "null" or "empty" or "of no dimension" or "of 2^40 rows" };

    private static string Outcome(Device device, string op, object arguments)
    {
        try
        {
            OpCalls.Methods.Single(m => m.Op == op).Call.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [device.Stream, arguments], null);
            device.Stream.Synchronize();
            return Accepted;
        }
        catch (Exception error)
        {
            // What differs between devices is not compared: their names, and where their memory lies.
            return $"{error.GetType().Name}: {Address().Replace(error.Message.Replace(device.Name, "DEVICE", StringComparison.Ordinal), "begins at ADDRESS")}";
        }
    }

    [GeneratedRegex("begins at [0-9a-f]+")]
    private static partial Regex Address();
}
