using Octet.Cases;

namespace Octet.Tests.Backends.Cpu;

/// <summary>What the cases do not see: every vector width and number of threads gives the same bits, and so does every batch.</summary>
public sealed class CpuKernelsTests
{
    [Theory]
    [InlineData(128, 1, true)]
    [InlineData(256, 2, false)]
    [InlineData(512, 3, false)]
    public void Every_case_passes_at_every_vector_width(int bits, int threads, bool fnuz)
    {
        using var device = CpuDevices.Open(bits, threads, fnuz);
        foreach (var test in CaseList.All.Where(c => c.Tier == CaseTier.Ci && !c.Name.StartsWith("model", StringComparison.Ordinal)))
        {
            var result = CaseResult.Run(test, device);
            Assert.True(result.Passed, $"{test}: {result.Failure}");
        }
    }

    [Theory]
    [InlineData(1, 17, 40, 0, 0)]
    [InlineData(1, 300, 512, 0, 0)]
    [InlineData(4, 129, 200, 64, 64)]
    [InlineData(7, 50, 129, 5, 3)]
    [InlineData(9, 50, 257, 127, 127)]
    [InlineData(65, 131, 384, 0, 64)]
    [InlineData(200, 33, 127, 0, 0)]
    public void Product_has_the_same_bits_at_every_width_and_count_of_threads_and_rows(
        int m, int n, int k, int rowOffset, int columnOffset)
    {
        foreach (var fp8 in new[] { true, false })
        {
            var expected = Gemm(256, 1, fp8, m, n, k, rowOffset, columnOffset, 0, m);
            foreach (var (bits, threads) in new[] { (128, 1), (512, 1), (256, 3), (128, 2) })
            {
                Assert.Equal(expected, Gemm(bits, threads, fp8, m, n, k, rowOffset, columnOffset, 0, m));
            }

            // Alone and in company, in registers and through the widened panel.
            foreach (var (first, count) in new[] { (0, 1), (m - 1, 1), (m / 2, Math.Min(3, m - (m / 2))), (m / 3, Math.Min(20, m - (m / 3))) })
            {
                var part = Gemm(256, 2, fp8, m, n, k, rowOffset, columnOffset, first, count);
                Assert.Equal(expected.AsSpan(first * n, count * n).ToArray(), part);
            }
        }
    }

    [Fact]
    public void Weight_that_is_NaN_spoils_its_column_alone()
    {
        // Through one row, pairs of columns (whole groups of k, few rows) and widened panels.
        foreach (var (m, k) in new[] { (1, 150), (3, 150), (40, 150), (1, 192), (2, 192), (8, 192), (20, 192), (64, 192) })
        {
            using var device = CpuDevices.Open(0, 2);
            var codes = new byte[5 * k];
            Array.Fill(codes, (byte)0x38);
            codes[(3 * k) + k - 1] = 0xFF;
            using var a = Tensor.From<Float8E4M3>(device, Array.ConvertAll(new byte[m * k], _ => Float8E4M3.FromCode(0x38)), m, k);
            using var aScales = Tensor.From<float>(device, Enumerable.Repeat(1f, m * 2).ToArray(), m, 2);
            using var values = Tensor.From<Float8E4M3>(device, Array.ConvertAll(codes, Float8E4M3.FromCode), 5, k);
            using var scales = Tensor.From<float>(device, [1, 1], 1, 2);
            using var output = Tensor.Create(device, DType.Float32, m, 5);
            Ops.Gemm(device.Stream, new GemmArgs { A = a, AScales = aScales, B = new Weight { Values = values, Scales = scales }, Output = output });
            var expected = Enumerable.Range(0, m * 5).Select(i => i % 5 == 3 ? float.NaN : k);
            Assert.Equal(expected, output.ToArray<float>());
        }
    }

    [Theory]
    [InlineData(1, 384, 1e-30f, 1f)]
    [InlineData(3, 320, 1e30f, 1e-35f)]
    [InlineData(20, 384, 1e-38f, 1e-3f)]
    [InlineData(1, 300, 3e38f, 1e-38f)]
    [InlineData(20, 200, 0f, 1e38f)]
    [InlineData(2, 256, -1e30f, 1e-30f)]
    public void Scales_may_be_far_apart(int m, int k, float first, float last)
    {
        // A row's first block has one scale and the others another, a weight's the other way round but for a factor.
        const int N = 6;
        using var device = CpuDevices.Open(0, 2);
        var blocks = (k + 127) / 128;
        var random = new Random(m + k);
        var a = Array.ConvertAll(new byte[m * k], _ => Float8E4M3.FromCode((byte)(random.Next(0x7F) | (random.Next(2) << 7))));
        var b = Array.ConvertAll(new byte[N * k], _ => Float8E4M3.FromCode((byte)(random.Next(0x7F) | (random.Next(2) << 7))));
        var rowScales = Enumerable.Range(0, m * blocks).Select(i => i % blocks == 0 ? first : last).ToArray();
        var blockScales = Enumerable.Range(0, blocks).Select(i => i == 0 ? last * 0.7f : MathF.Min(MathF.Abs(first), 1e37f) * 1.3f).ToArray();
        using var aTensor = Tensor.From<Float8E4M3>(device, a, m, k);
        using var aScales = Tensor.From<float>(device, rowScales, m, blocks);
        using var values = Tensor.From<Float8E4M3>(device, b, N, k);
        using var scales = Tensor.From<float>(device, blockScales, 1, blocks);
        using var output = Tensor.Create(device, DType.Float32, m, N);
        Ops.Gemm(device.Stream, new GemmArgs { A = aTensor, AScales = aScales, B = new Weight { Values = values, Scales = scales }, Output = output });
        var actual = output.ToArray<float>();
        for (var i = 0; i < m * N; i++)
        {
            var (row, column) = (i / N, i % N);
            var terms = Enumerable.Range(0, k).Select(x => (double)(float)a[(row * k) + x] * (float)b[(column * k) + x] *
                rowScales[(row * blocks) + (x / 128)] * blockScales[x / 128]).ToArray();
            Assert.InRange(Math.Abs(actual[i] - terms.Sum()), 0, 2e-6 * terms.Sum(Math.Abs));
        }
    }

    [Theory]
    [InlineData(DType.Float8E4M3, 64, 4, 2, 16, 0, false)]
    [InlineData(DType.Float8E4M3, 128, 16, 1, 64, 0, true)]
    [InlineData(DType.BFloat16, 64, 3, 1, 32, 0, false)]
    [InlineData(DType.BFloat16, 128, 8, 2, 128, 100, true)]
    [InlineData(DType.Float8E4M3, 128, 10, 2, 16, 600, false)]
    public void Prefill_in_chunks_and_decode_agree_to_the_bit_at_every_width(
        DType type, int dim, int qHeads, int kvHeads, int blockSize, int window, bool sinks)
    {
        const int Context = 1100; // three splits
        const int Rows = 90;      // the last positions
        var whole = Attend(256, 1, [Rows], decode: 0);
        Assert.Equal(whole, Attend(128, 1, [Rows], decode: 0));
        Assert.Equal(whole, Attend(512, 3, [7, 64, Rows], decode: 0));
        Assert.Equal(whole, Attend(256, 3, [Rows - 5], decode: 1));
        Assert.Equal(whole, Attend(256, 2, [1, Rows - 9], decode: 3));

        // Rows up to ends[^1] in chunks that end at ends, the rest by decode calls of so many queries.
        ushort[] Attend(int bits, int threads, int[] ends, int decode)
        {
            using var device = CpuDevices.Open(bits, threads);
            var random = new Random(3);
            var blocks = (Context + blockSize - 1) / blockSize;
            using var k = Codes(device, type, random, blocks + 3, kvHeads, blockSize, dim);
            using var v = Codes(device, type, random, blocks + 3, kvHeads, dim, blockSize);
            using var scales = Tensor.From<float>(device, [0.75f], 1);
            using var q = Codes(device, DType.BFloat16, random, Rows, qHeads, dim);
            using var output = Tensor.Create(device, DType.BFloat16, Rows, qHeads, dim);
            var table = Enumerable.Range(0, blocks).Select(i => (i * 5 % blocks) + 3).ToArray();
            table[1] = -1;
            using var blockTable = Tensor.From<int>(device, table, 1, blocks);
            using var sinkTensor = Tensor.From<float>(device, Enumerable.Range(0, qHeads).Select(h => h / 4f).ToArray(), qHeads);
            var cache = type == DType.BFloat16 ? new KvCache { K = k, V = v } : new KvCache { K = k, V = v, KScales = scales, VScales = scales };
            var done = 0;
            while (done < Rows)
            {
                var prefill = done < ends[^1];
                var end = prefill ? ends.First(e => e > done) : done + decode;
                using var lengths = Tensor.From<int>(device, [Context - Rows + end], 1);
                using var starts = Tensor.From<int>(device, [0, end - done], 2);
                if (prefill)
                {
                    Ops.AttentionPrefill(device.Stream, new AttentionPrefillArgs
                    {
                        Q = q.Slice(0, done, end - done), Cache = cache, BlockTable = blockTable, QueryStarts = starts, ContextLengths = lengths,
                        MaxQueries = end - done, MaxContext = Context, Scale = 0.1f, Window = window, Sinks = sinks ? sinkTensor : null,
                        Output = output.Slice(0, done, end - done),
                    });
                }
                else
                {
                    var args = new AttentionDecodeArgs
                    {
                        Q = q.Slice(0, done, end - done), Cache = cache, BlockTable = blockTable, ContextLengths = lengths, QueryLength = decode,
                        MaxContext = Context, Scale = 0.1f, Window = window, Sinks = sinks ? sinkTensor : null,
                        Output = output.Slice(0, done, end - done),
                    };
                    using var workspace = Tensor.Create(device, DType.Byte, Ops.AttentionDecodeWorkspace(device, args));
                    Ops.AttentionDecode(device.Stream, args with { Workspace = workspace });
                }

                done = end;
            }

            return Array.ConvertAll(output.ToArray<BFloat16>(), x => x.Bits);
        }
    }

    private static ushort[] Gemm(
        int bits, int threads, bool fp8, int m, int n, int k, int rowOffset, int columnOffset, int first, int count)
    {
        using var device = CpuDevices.Open(bits, threads);
        var random = new Random(7);
        var type = fp8 ? DType.Float8E4M3 : DType.BFloat16;
        var (aBlocks, bRows, bColumns) = ((k + 127) / 128, (rowOffset + n + 127) / 128, (columnOffset + k + 127) / 128);
        using var a = Codes(device, type, random, m, k + ((16 - (k % 16)) % 16));
        using var aScales = Scales(device, random, m, (aBlocks + 3) / 4 * 4);
        using var b = Codes(device, type, random, n, k);
        using var bScales = Scales(device, random, bRows, bColumns);
        using var output = Tensor.Create(device, DType.BFloat16, count, n);
        Ops.Gemm(device.Stream, new GemmArgs
        {
            A = a.Slice(0, first, count).Slice(1, 0, k),
            AScales = fp8 ? aScales.Slice(0, first, count).Slice(1, 0, aBlocks) : default,
            B = fp8
                ? new Weight { Values = b, Scales = bScales, ScaleRowOffset = rowOffset, ScaleColumnOffset = columnOffset }
                : new Weight { Values = b },
            Output = output,
        });
        return Array.ConvertAll(output.ToArray<BFloat16>(), x => x.Bits);
    }

    private static Tensor Scales(Device device, Random random, params long[] shape)
    {
        var scales = new float[shape.Aggregate((x, y) => x * y)];
        for (var i = 0; i < scales.Length; i++)
        {
            scales[i] = random.NextSingle() + 0.1f;
        }

        return Tensor.From<float>(device, scales, shape);
    }

    // Any codes but NaN and the extremes: attention over values of such different sizes shows every change of order.
    private static Tensor Codes(Device device, DType type, Random random, params long[] shape)
    {
        var count = shape.Aggregate((x, y) => x * y);
        if (type == DType.BFloat16)
        {
            var values = new BFloat16[count];
            for (var i = 0; i < count; i++)
            {
                values[i] = (BFloat16)((random.NextSingle() - 0.5f) * 4f);
            }

            return Tensor.From<BFloat16>(device, values, shape);
        }

        var codes = new Float8E4M3[count];
        for (var i = 0; i < count; i++)
        {
            codes[i] = (Float8E4M3)((random.NextSingle() - 0.5f) * 4f);
        }

        return Tensor.From<Float8E4M3>(device, codes, shape);
    }
}
