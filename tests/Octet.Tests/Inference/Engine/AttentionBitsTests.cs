namespace Octet.Tests.Inference.Engine;

/// <summary>
/// Whether a row of attention has the same bits in prefill as in decode: on cpu it does; the GPU kernels keep P differently, so there the
/// engine computes a position always in the one way, and moves blocks to the host instead of computing continuations again.
/// </summary>
public sealed class AttentionBitsTests
{
    private const int QHeads = 4, KvHeads = 2, Dim = 128, BlockSize = 16;

    [Theory]
    [InlineData("cpu", true)]
    [InlineData("cpu:fnuz", true)]
    [InlineData("sim:gfx942", false)]
    [InlineData("sim:sm_90", false)]
    public void A_row_of_attention_in_prefill_and_in_decode(string name, bool same)
    {
        using var device = Device.Open(name);
        var equal = 0;
        int[] contexts = [1, 17, 100, 511, 512, 513, 700];
        foreach (var context in contexts)
        {
            var (prefill, decode) = Rows(device, context);
            Assert.True(TinyModel.Difference(prefill, decode) < 1e-5, $"context {context}");
            equal += prefill.AsSpan().SequenceEqual(decode) ? 1 : 0;
        }

        Assert.Equal(same, equal == contexts.Length);
    }

    private static (float[] Prefill, float[] Decode) Rows(Device device, int context)
    {
        var random = new Random(context);
        BFloat16[] Normal(int count) => [.. Enumerable.Range(0, count).Select(_ => (BFloat16)(float)((random.NextDouble() - 0.5) * 4))];
        var blocks = (context + BlockSize - 1) / BlockSize;
        using var scale = Tensor.From<float>(device, [device.Float8 == DType.Float8E4M3Fnuz ? 2f : 1f], 1);
        using var k = Tensor.Create(device, device.Float8, blocks, KvHeads, BlockSize, Dim);
        using var v = Tensor.Create(device, device.Float8, blocks, KvHeads, Dim, BlockSize);
        device.Stream.Fill(k, 0);
        device.Stream.Fill(v, 0);
        var cache = new KvCache { K = k, V = v, KScales = scale, VScales = scale };
        using var keys = Tensor.From<BFloat16>(device, Normal(context * KvHeads * Dim), context, KvHeads, Dim);
        using var values = Tensor.From<BFloat16>(device, Normal(context * KvHeads * Dim), context, KvHeads, Dim);
        using var slots = Tensor.From<long>(device, [.. Enumerable.Range(0, context).Select(i => (long)i)], context);
        Ops.KvWrite(device.Stream, new() { K = keys, V = values, Slots = slots, Cache = cache });

        using var q = Tensor.From<BFloat16>(device, Normal(QHeads * Dim), 1, QHeads, Dim);
        using var table = Tensor.From<int>(device, [.. Enumerable.Range(0, blocks)], 1, blocks);
        using var contexts = Tensor.From<int>(device, [context], 1);
        using var starts = Tensor.From<int>(device, [0, 1], 2);
        using var output = Tensor.Create(device, DType.BFloat16, 1, QHeads, Dim);
        var prefill = new AttentionPrefillArgs
        {
            Q = q, Cache = cache, BlockTable = table, QueryStarts = starts, ContextLengths = contexts, MaxQueries = 1, MaxContext = context,
            Scale = 0.09f, Output = output,
        };
        using (var workspace = Workspace(device, Ops.AttentionPrefillWorkspace(device, prefill)))
        {
            Ops.AttentionPrefill(device.Stream, prefill with { Workspace = workspace });
        }

        var first = Array.ConvertAll(output.ToArray<BFloat16>(), x => (float)x);
        var decode = new AttentionDecodeArgs
        {
            Q = q, Cache = cache, BlockTable = table, ContextLengths = contexts, MaxContext = context, Scale = 0.09f, Output = output,
        };
        using (var workspace = Workspace(device, Ops.AttentionDecodeWorkspace(device, decode)))
        {
            Ops.AttentionDecode(device.Stream, decode with { Workspace = workspace });
        }

        return (first, Array.ConvertAll(output.ToArray<BFloat16>(), x => (float)x));
    }

    private static Tensor? Workspace(Device device, long bytes) => bytes == 0 ? null : Tensor.Create(device, DType.Byte, bytes);
}
