namespace Octet.Tests.Contracts;

/// <summary>Norm of the nodes that the ranks of a group hold: which are taken, and which refused.</summary>
public sealed class NormNodesTests
{
    private const int Tokens = 2, Hidden = 16;

    [Fact]
    public void A_node_may_be_a_peers()
    {
        using var device = Device.Open("cpu");
        using var peer = Device.Open("cpu");
        using var own = Filled(device, 256);
        using var others = Filled(peer, 1);
        using var residual = Filled(device, 0);
        using var weight = Tensor.From<BFloat16>(device, Enumerable.Repeat((BFloat16)1f, Hidden).ToArray(), Hidden);
        using var output = Filled(device, 0);
        var args = new NormArgs { X = others, Nodes = [others, own, others, others], Residual = residual, Weight = weight, Eps = 1e-6f, Output = output };
        Ops.Norm(device.Stream, args);

        // (1 + 256) + (1 + 1): 257 is a tie in BF16, to 256.
        Assert.All(residual.ToArray<BFloat16>(), x => Assert.Equal(258f, x));
        Assert.All(output.ToArray<BFloat16>(), x => Assert.Equal(1f, x));
    }

    [Fact]
    public void Nodes_that_are_no_ranks_are_refused_with_their_values()
    {
        using var device = Device.Open("cpu");
        using var x = Filled(device, 1);
        using var output = Filled(device, 0);
        using var wide = Tensor.Create(device, DType.BFloat16, Tokens, Hidden + 16);
        using var singles = Tensor.Create(device, DType.Float32, Tokens, Hidden);
        using var weight = Tensor.Create(device, DType.BFloat16, Hidden);
        string Refusal(params TensorView[] nodes) => Assert.Throws<ArgumentException>(() => Ops.Norm(
            device.Stream, new() { X = x, Nodes = nodes, Weight = weight, Eps = 1e-6f, Output = output })).Message;

        Assert.Equal("norm: 3 nodes must be 2, 4 or 8, the first of them x", Refusal(x, x, x));
        Assert.Equal("norm: 2 nodes must be 2, 4 or 8, the first of them x", Refusal(output, x));
        Assert.Equal("norm: nodes[1] is null", Refusal(x, default));
        Assert.StartsWith("norm: nodes[1] ", Refusal(x, singles), StringComparison.Ordinal);
        Assert.Contains("of the shape and strides of the first", Refusal(x, wide), StringComparison.Ordinal);
        Assert.Contains("of the shape and strides of the first", Refusal(x, wide.Slice(1, 0, Hidden)), StringComparison.Ordinal);
        Assert.Contains("of the shape and strides of the first", Refusal(x, x.Slice(0, 0, 1)), StringComparison.Ordinal);
    }

    private static Tensor Filled(Device device, float value) =>
        Tensor.From<BFloat16>(device, Enumerable.Repeat((BFloat16)value, Tokens * Hidden).ToArray(), Tokens, Hidden);
}
