namespace Octet.Cases;

/// <summary>
/// rope: q within its BF16 rounding (1e-6 of calc_diff alone), K and V of an FP8 cache at most one code away and everywhere else untouched.
/// </summary>
internal static class RopeCases
{
    private const double OutputTolerance = 1e-5;
    private const double Eps = 1e-6;

    public static IEnumerable<Case> All =>
    [
        Rope("regular 20 tokens, 4q 2kv", 20, 4, 2, 16, 128),
        Rope("regular 20 tokens, 4q 2kv, head_dim 64, scale per head", 20, 4, 2, 32, 64, scalePerHead: true),
        Rope("regular 20 tokens, 4q 2kv, bf16", 20, 4, 2, 64, 128, fp8: false),
        Rope("regular without norm", 18, 2, 1, 16, 128, norm: false),
        Rope("tail 1 token, 1q 1kv", 1, 1, 1, 16, 64),
        Rope("tail 17 tokens, 3q 3kv", 17, 3, 3, 16, 64),
        Rope("tail 129 tokens, 1q 1kv", 129, 1, 1, 128, 64),
        Rope("tail rows 3 apart", 19, 2, 1, 16, 64, padding: 3),
        Rope("tail rows 8 apart", 19, 2, 1, 16, 64, padding: 8),
        Rope("corner no tokens", 0, 2, 1, 16, 64),
        Rope("corner padded slots", 33, 2, 1, 16, 64, outside: 0.5),
        Rope("corner positions outside the table", 20, 2, 1, 16, 64, positionsOutside: true),
        Rope("corner positions near 262,143", 5, 2, 1, 16, 64, firstPosition: 262_138),
        Rope("corner a head of zeros, NaN in another", 17, 3, 2, 16, 64, edit: true),
        Rope("corner slots beyond 2^31", 18, 1, 1, 16, 64, firstBlock: 1 << 28),
        Rope("regular 64 of 128 rotated", 20, 4, 2, 16, 128, rotaryDim: 64),
        Rope("regular 32 of 64 rotated, bf16", 20, 4, 2, 32, 64, fp8: false, rotaryDim: 32),
        Rope("regular 64 of 128 rotated, without norm", 18, 2, 1, 16, 128, norm: false, rotaryDim: 64),
        Rope("tail 16 of 64 rotated, scale per head", 17, 3, 3, 16, 64, scalePerHead: true, rotaryDim: 16),
        Rope("tail 48 of 64 rotated, 1 token", 1, 1, 1, 16, 64, rotaryDim: 48),
        Rope("tail 112 of 128 rotated, rows 3 apart", 19, 2, 1, 16, 128, padding: 3, rotaryDim: 112),
        Rope("tail 80 of 128 rotated, rows 8 apart", 33, 2, 1, 16, 128, padding: 8, rotaryDim: 80),
        Rope("corner 16 of 128 rotated by a table of one row", 20, 2, 1, 16, 128, norm: false, rotaryDim: 16, tableRows: 1),
        Rope("corner 32 of 64 rotated, positions outside the table", 20, 2, 1, 16, 64, positionsOutside: true, rotaryDim: 32),
        Rope("corner a norm of k alone", 18, 2, 2, 16, 128, onlyK: true),
        Rope("regular norm of all heads together", 20, 4, 2, 16, 128, together: true),
        Rope("regular norm of all heads together, head_dim 64, scale per head", 20, 4, 2, 32, 64, scalePerHead: true, together: true),
        Rope("regular norm of all heads together, bf16, 64 of 128 rotated", 20, 4, 2, 64, 128, fp8: false, rotaryDim: 64, together: true),
        Rope("tail norm of all heads together, 1 token, 2q 1kv", 1, 2, 1, 16, 64, together: true),
        Rope("tail norm of all heads together, 129 tokens, 3q 3kv, 48 of 64 rotated", 129, 3, 3, 128, 64, rotaryDim: 48, together: true),
        Rope("tail norm of all heads together, rows 3 apart", 35, 5, 2, 16, 64, padding: 3, together: true),
        Rope("tail norm of all heads together, rows 8 apart", 19, 2, 1, 16, 128, padding: 8, together: true),
        Rope("tail norm of all heads together, 67q 33kv", 3, 67, 33, 16, 128, rotaryDim: 64, together: true),
        Rope("corner norm of all heads together, no tokens", 0, 2, 2, 16, 64, together: true),
        Rope("corner norm of all heads together, padded slots, positions outside the table", 33, 2, 1, 16, 64, outside: 0.5, positionsOutside: true, together: true),
        Rope("corner norm of all heads together, a head of zeros, NaN in another", 17, 3, 2, 16, 64, edit: true, together: true),
        Rope("corner norm of all heads together, of k alone", 18, 2, 2, 16, 128, onlyK: true, together: true),
        Rope("corner norm of all heads together, slots beyond 2^31", 18, 2, 1, 16, 64, firstBlock: 1 << 28, together: true),
        Rope("model Mixtral 32q 8kv of 128, 3 tokens", 3, 32, 8, 64, 128, norm: false),
        Rope("model MiniMax-M2 48q 8kv of 128, 3 tokens", 3, 48, 8, 64, 128, rotaryDim: 64, together: true),
        Rope("model MiniMax-M2 48q 8kv of 128, 4096 tokens", 4096, 48, 8, 64, 128, rotaryDim: 64, together: true) with { Tier = CaseTier.Full },
        Rope("model 64q 4kv of 128, 3 tokens", 3, 64, 4, 64, 128),
        Rope("model TP8 8q 1kv of 128, 64 tokens", 64, 8, 1, 64, 128),
        Rope("model 64q 4kv of 128, 4096 tokens", 4096, 64, 4, 64, 128) with { Tier = CaseTier.Full },
    ];

    private static Case Rope(
        string name, int tokens, int qHeads, int kvHeads, int blockSize, int headDim, bool fp8 = true, bool norm = true,
        bool scalePerHead = false, int padding = 0, double outside = 0, bool positionsOutside = false, int firstPosition = 0,
        bool edit = false, int firstBlock = 0, int? rotaryDim = null, int? tableRows = null, bool together = false, bool onlyK = false) => new("rope", name, context =>
    {
        var rotary = rotaryDim ?? headDim;
        var blocks = (tokens + blockSize - 1) / blockSize + 1;
        var pages = new CachePages(context, blocks, kvHeads, blockSize, headDim, fp8, scalePerHead, firstBlock);
        var (cache, kOnDevice, vOnDevice) = pages.Upload(written: true);
        var slots = KvCases.Slots(context, pages, tokens, outside);
        var q = context.NormalBFloat16((long)tokens * qHeads * headDim);
        var k = context.NormalBFloat16((long)tokens * kvHeads * headDim);
        var v = context.NormalBFloat16((long)tokens * kvHeads * headDim);
        if (edit)
        {
            q.AsSpan(headDim, headDim).Clear();
            q[2 * headDim + 3] = k[1] = v[2] = (BFloat16)float.NaN;
        }

        var (qNorm, kNorm) = (context.NormalBFloat16(together ? qHeads * headDim : headDim), context.NormalBFloat16(together ? kvHeads * headDim : headDim));
        var rows = tableRows ?? tokens + 8; // of the table, from firstPosition on
        var table = Table(firstPosition, rows, rotary);
        var tableOnDevice = context.Input(table, rows, rotary);
        var positions = Enumerable.Range(0, tokens).Select(i => firstPosition + (i * 7 + 3) % rows).ToArray();
        if (positionsOutside)
        {
            (positions[0], positions[3], positions[4]) = (-1, rows, int.MaxValue);
        }

        var output = context.InOut(new BFloat16[tokens * (qHeads * headDim + padding)], tokens, qHeads * headDim + padding);
        var args = new RopeArgs
        {
            Q = KvCases.Heads(context, q, tokens, qHeads, headDim, padding),
            K = KvCases.Heads(context, k, tokens, kvHeads, headDim, padding),
            V = KvCases.Heads(context, v, tokens, kvHeads, headDim, padding),
            QNorm = norm && !onlyK ? context.Input(qNorm, qNorm.Length) : default,
            KNorm = norm ? context.Input(kNorm, kNorm.Length) : default,
            Eps = (float)Eps,
            CosSin = TensorView.Borrow(
                context.Device, tableOnDevice.Address - (nint)firstPosition * rotary * sizeof(float), DType.Float32,
                [firstPosition + rows, rotary]),
            Positions = context.Input(positions, tokens),
            Slots = context.Input(slots, tokens),
            QOutput = TensorView.Borrow(
                output.Device, output.Address, output.DType, [tokens, qHeads, headDim], [output.Strides[0], headDim, 1]),
            Cache = cache,
        };
        return new CaseBody(() => Ops.Rope(context.Stream, args), () =>
        {
            var row = new double[headDim];
            var expected = new double[output.ElementCount];
            for (var i = 0; i < tokens * (qHeads + kvHeads); i++)
            {
                var (token, head, isQ) = (i / (qHeads + kvHeads), i % (qHeads + kvHeads), i % (qHeads + kvHeads) < qHeads);
                head -= isQ ? 0 : qHeads;
                var heads = isQ ? qHeads : kvHeads;
                var projection = (isQ ? q : k).AsSpan(token * heads * headDim, heads * headDim);
                var x = projection.Slice(head * headDim, headDim);
                var weight = !norm || (isQ && onlyK) ? [] : (isQ ? qNorm : kNorm).AsSpan(together ? head * headDim : 0, headDim);
                var position = Math.Clamp(positions[token], firstPosition, firstPosition + rows - 1) - firstPosition;
                Reference(x, together ? projection : x, weight, table.AsSpan(position * rotary, rotary), row);
                if (isQ)
                {
                    row.CopyTo(expected.AsSpan(token * (int)output.Strides[0] + head * headDim));
                    continue;
                }

                if (slots[token] is var slot && slot >= 0 && slot / blockSize < firstBlock + blocks)
                {
                    for (var dim = 0; dim < headDim; dim++)
                    {
                        pages.SetK(slot / blockSize - firstBlock, head, (int)(slot % blockSize), dim, (float)row[dim]);
                        pages.SetV(slot / blockSize - firstBlock, head, (int)(slot % blockSize), dim, v[(token * kvHeads + head) * headDim + dim]);
                    }
                }
            }

            context.Compare("q_output", output, expected, OutputTolerance);
            context.Equal("v", context.Read(vOnDevice), pages.V);
            if (fp8)
            {
                context.CompareCodes("k", context.Read(kOnDevice), pages.K);
            }
            else
            {
                context.Compare("k", kOnDevice, pages.KValues(), OutputTolerance);
            }
        });
    })
    {
        Flops = tokens * (qHeads + kvHeads) * headDim * 7.0,
        Bytes = tokens * headDim * (4.0 * qHeads + kvHeads * (fp8 ? 6 : 8)),
    };

    // y = x / sqrt(mean of normed^2 + eps) * weight; out[i] = y[i] cos - y[i + d/2] sin, out[i + d/2] = y[i + d/2] cos + y[i] sin; the rest is y
    private static void Reference(
        ReadOnlySpan<BFloat16> x, ReadOnlySpan<BFloat16> normed, ReadOnlySpan<BFloat16> weight, ReadOnlySpan<float> cosSin, double[] output)
    {
        double squares = 0;
        foreach (var value in normed)
        {
            squares += (double)value * value;
        }

        var inverse = 1 / Math.Sqrt(squares / normed.Length + Eps);
        for (var i = 0; i < x.Length; i++)
        {
            output[i] = x[i] * (weight.IsEmpty ? 1 : inverse * weight[i]);
        }

        var half = cosSin.Length / 2;
        for (var i = 0; i < half; i++)
        {
            var (low, high) = (output[i], output[i + half]);
            output[i] = low * cosSin[i] - high * cosSin[i + half];
            output[i + half] = high * cosSin[i] + low * cosSin[i + half];
        }
    }

    // Angles in f32, as the checkpoints' own code computes them.
    private static float[] Table(int first, int rows, int rotaryDim)
    {
        var table = new float[rows * rotaryDim];
        for (var i = 0; i < table.Length; i++)
        {
            var (position, dim) = (first + i / rotaryDim, i % rotaryDim);
            var angle = position * (float)Math.Pow(1e6, -2.0 * (dim % (rotaryDim / 2)) / rotaryDim);
            table[i] = dim < rotaryDim / 2 ? MathF.Cos(angle) : MathF.Sin(angle);
        }

        return table;
    }
}
