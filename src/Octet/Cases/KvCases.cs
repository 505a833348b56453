namespace Octet.Cases;

/// <summary>kv_write and kv_copy: every byte of the cache exact, also where nothing was to be written.</summary>
internal static class KvCases
{
    public static IEnumerable<Case> All =>
    [
        Write("regular 20 tokens, block 16", 20, 2, 16, 128),
        Write("regular 33 tokens, block 64, head_dim 64", 33, 3, 64, 64),
        Write("regular 40 tokens, block 32, scale per head", 40, 4, 32, 128, scalePerHead: true),
        Write("regular 20 tokens, bf16", 20, 2, 16, 128, fp8: false),
        Write("regular 35 tokens, bf16, block 128, head_dim 64", 35, 1, 128, 64, fp8: false),
        Write("tail 1 token", 1, 4, 64, 128),
        Write("tail 17 tokens, 1 head", 17, 1, 16, 64),
        Write("tail 127 tokens", 127, 1, 32, 64),
        Write("tail 129 tokens", 129, 1, 128, 64),
        Write("tail rows 3 apart", 19, 2, 16, 64, padding: 3),
        Write("tail rows 8 apart", 19, 2, 16, 64, padding: 8),
        Write("corner no tokens", 0, 2, 16, 64),
        Write("corner padded slots", 40, 2, 16, 64, outside: 0.5),
        Write("corner NaN, infinities and values beyond the range", 24, 2, 16, 64, extreme: true),
        Write("corner NaN and infinities, bf16", 24, 2, 16, 64, fp8: false, extreme: true),
        Write("corner slots beyond 2^31", 20, 1, 16, 64, firstBlock: 1 << 28),
        Write("corner addresses beyond 2 GiB, bf16", 20, 2, 64, 128, fp8: false, firstBlock: 1 << 20),
        Write("model 4 heads of 128, 64 tokens, block 64", 64, 4, 64, 128),
        Write("model 1 head of 128, 8192 tokens, block 64", 8192, 1, 64, 128) with { Tier = CaseTier.Full },
        Copy("regular 3 pairs, block 16", 3, 2, 16, 128),
        Copy("regular 3 pairs, block 64, bf16", 3, 2, 64, 64, fp8: false),
        Copy("corner no pairs", 0, 2, 16, 64),
        Copy("corner pairs outside the cache", 6, 1, 16, 64, outside: true),
        Copy("corner addresses beyond 2 GiB", 4, 1, 16, 64, firstBlock: 1 << 24),
        Copy("model 4 heads of 128, block 64", 5, 4, 64, 128),
    ];

    private static Case Write(
        string name, int tokens, int kvHeads, int blockSize, int headDim, bool fp8 = true, bool scalePerHead = false, int padding = 0,
        double outside = 0, bool extreme = false, int firstBlock = 0) => new("kv_write", name, context =>
    {
        var blocks = (tokens + blockSize - 1) / blockSize + 2;
        var pages = new CachePages(context, blocks, kvHeads, blockSize, headDim, fp8, scalePerHead, firstBlock);
        var (cache, kOnDevice, vOnDevice) = pages.Upload(written: true);
        var slots = Slots(context, pages, tokens, outside);
        var (k, v) = (Rows(context, tokens, kvHeads * headDim, extreme), Rows(context, tokens, kvHeads * headDim, extreme));
        var args = new KvWriteArgs
        {
            K = Heads(context, k, tokens, kvHeads, headDim, padding),
            V = Heads(context, v, tokens, kvHeads, headDim, padding),
            Slots = context.Input(slots, tokens),
            Cache = cache,
        };
        return new CaseBody(() => Ops.KvWrite(context.Stream, args), () =>
        {
            for (var i = 0; i < k.Length; i++)
            {
                var (token, head, dim) = (i / (kvHeads * headDim), i / headDim % kvHeads, i % headDim);
                if (slots[token] is var slot && slot >= 0 && slot / blockSize < firstBlock + blocks)
                {
                    pages.SetK(slot / blockSize - firstBlock, head, (int)(slot % blockSize), dim, k[i]);
                    pages.SetV(slot / blockSize - firstBlock, head, (int)(slot % blockSize), dim, v[i]);
                }
            }

            context.Equal("k", context.Read(kOnDevice), pages.K);
            context.Equal("v", context.Read(vOnDevice), pages.V);
        });
    })
    {
        Bytes = tokens * (double)kvHeads * headDim * (fp8 ? 6 : 8),
    };

    private static Case Copy(
        string name, int count, int kvHeads, int blockSize, int headDim, bool fp8 = true, bool outside = false, int firstBlock = 0) =>
        new("kv_copy", name, context =>
    {
        var pages = new CachePages(context, 2 * count + 1, kvHeads, blockSize, headDim, fp8, firstBlock: firstBlock);
        for (var block = 0; block < count; block++)
        {
            pages.Fill(block, blockSize);
        }

        // Sources 0..count-1, destinations behind them, backwards.
        var pairs = new long[2 * count];
        for (var i = 0; i < count; i++)
        {
            (pairs[2 * i], pairs[2 * i + 1]) = (firstBlock + i, firstBlock + 2 * count - i);
        }

        if (outside)
        {
            (pairs[0], pairs[3], pairs[4], pairs[7]) = (-1, firstBlock + pages.Blocks, long.MaxValue, long.MinValue);
        }

        var (cache, kOnDevice, vOnDevice) = pages.Upload(written: true);
        var args = new KvCopyArgs { Pairs = context.Input(pairs, count, 2), Cache = cache };
        return new CaseBody(() => Ops.KvCopy(context.Stream, args), () =>
        {
            var (k, v) = (pages.K.ToArray(), pages.V.ToArray());
            var size = k.Length / pages.Blocks;
            for (var i = 0; i < count; i++)
            {
                var (from, to) = (pairs[2 * i] - firstBlock, pairs[2 * i + 1] - firstBlock);
                if (from >= 0 && from < pages.Blocks && to >= 0 && to < pages.Blocks)
                {
                    k.AsSpan((int)from * size, size).CopyTo(k.AsSpan((int)to * size));
                    v.AsSpan((int)from * size, size).CopyTo(v.AsSpan((int)to * size));
                }
            }

            context.Equal<byte>("k", context.Read(kOnDevice), k);
            context.Equal<byte>("v", context.Read(vOnDevice), v);
        });
    })
    {
        Bytes = 4.0 * count * kvHeads * blockSize * headDim * (fp8 ? 1 : 2),
    };

    /// <summary>A slot for each token, none twice, in random order; some outside the cache.</summary>
    internal static long[] Slots(CaseContext context, CachePages pages, int tokens, double outside)
    {
        var (low, high) = ((long)pages.FirstBlock * pages.BlockSize, (long)(pages.FirstBlock + pages.Blocks) * pages.BlockSize);
        var slots = Enumerable.Range(0, (int)(high - low)).Select(i => low + i).ToArray();
        context.Random.Shuffle(slots);
        long[] beyond = [-1, high, long.MaxValue, long.MinValue];
        return [.. slots.Take(tokens).Select((slot, i) => context.Random.NextDouble() < outside ? beyond[i % beyond.Length] : slot)];
    }

    /// <summary>Normal BF16 rows, with what does not fit FP8 among them if <paramref name="extreme"/>.</summary>
    internal static BFloat16[] Rows(CaseContext context, int tokens, int columns, bool extreme)
    {
        var rows = context.NormalBFloat16((long)tokens * columns);
        float[] edges = [float.NaN, float.PositiveInfinity, float.NegativeInfinity, 1e6f, -3e38f, 1e-30f, -0f];
        for (var i = 0; extreme && i < rows.Length; i += 5)
        {
            rows[i] = (BFloat16)edges[i / 5 % edges.Length];
        }

        return rows;
    }

    /// <summary>[tokens, heads, head_dim] on the device, tokens <paramref name="padding"/> elements further apart than they must be.</summary>
    internal static TensorView Heads(CaseContext context, BFloat16[] rows, int tokens, int heads, int headDim, int padding)
    {
        var (width, stride) = (heads * headDim, heads * headDim + padding);
        var wide = new BFloat16[tokens * stride];
        for (var token = 0; token < tokens; token++)
        {
            rows.AsSpan(token * width, width).CopyTo(wide.AsSpan(token * stride));
        }

        var tensor = context.Input(wide, tokens, stride);
        return TensorView.Borrow(tensor.Device, tensor.Address, tensor.DType, [tokens, heads, headDim], [stride, headDim, 1]);
    }

    /// <summary>The first <paramref name="width"/> values of each row; what lies between rows must be zeros.</summary>
    internal static double[] Dense(CaseContext context, TensorView rows, int width)
    {
        var (values, stride) = (context.Values(rows), (int)rows.Strides[0]);
        for (var i = 0; i < values.Length; i++)
        {
            if (i % stride >= width && values[i] != 0)
            {
                context.Record($"row {i / stride}: {values[i]} between rows", 1, 0);
            }
        }

        return [.. values.Where((_, i) => i % stride < width)];
    }
}
