namespace Octet.Cases;

/// <summary>gemm: BF16 output within its rounding (1e-6 of calc_diff alone); f32 output within the matrix unit's accumulation.</summary>
internal static class GemmCases
{
    private const double BFloat16Tolerance = 1e-5;
    private const double TreeTolerance = 2e-5; // against a sum that rounds nothing: the roundings of eight leaves' tree come to 6e-6
    private const double Float32Tolerance = 1e-7; // NVIDIA's FP8 matrix unit keeps some 14 bits of a partial sum: (2^-13)^2

    private static readonly int[] Tails = [1, 17, 127, 129];
    private static readonly int[] AlignedOffsets = [16, 64, 112];
    private static readonly int[] OddOffsets = [1, 100, 127];
    private static readonly int[] RowOffsets = [1, 64, 127];
    private static readonly int[] RankCounts = [1, 2, 4, 8];

    public static IEnumerable<Case> All =>
    [
        Gemm("regular", 16, 64, 256),
        Gemm("regular", 16, 64, 256, f32: true),
        Gemm("regular bias", 64, 128, 256, bias: true),
        Gemm("regular bias", 64, 128, 256, bias: true, f32: true),
        Gemm("regular", 128, 256, 512, f32: true),
        Gemm("regular", 16, 64, 256, bf16: true, f32: true),
        Gemm("regular bias", 64, 128, 512, bf16: true, bias: true),
        Gemm("regular strides of 16 bytes more", 5, 64, 144, padding: 16),
        Gemm("regular strides of 16 bytes more", 5, 64, 72, padding: 8, bf16: true),
        .. from size in Tails select Gemm("tail m", size, 64, 128, f32: true),
        .. from size in Tails select Gemm("tail n", 5, size, 128, bias: true),
        .. from size in Tails select Gemm("tail k", 5, 20, size, f32: true),
        .. from size in Tails select Gemm("tail all", size, size, size, bf16: true, bias: true),
        Gemm("tail odd strides", 17, 33, 200, padding: 3, f32: true),
        Gemm("tail odd strides", 17, 33, 200, padding: 3, bf16: true),
        Gemm("tail last scale block of 16", 17, 144, 272),
        Gemm("corner no tokens", 0, 64, 128),
        Gemm("corner no weights", 5, 0, 128),
        Gemm("corner one of each", 1, 1, 1, bias: true, f32: true),
        Gemm("corner nothing to sum", 5, 20, 0, bias: true, f32: true),
        Gemm("corner nothing to sum", 5, 20, 0, bf16: true, bias: true, f32: true),
        .. from offset in AlignedOffsets select Gemm("corner shard columns", 5, 64, 320, columnOffset: offset, f32: true),
        .. from offset in OddOffsets select Gemm("corner shard columns", 5, 64, 300, columnOffset: offset, f32: true),
        .. from offset in RowOffsets select Gemm("corner shard rows", 5, 192, 128, rowOffset: offset, f32: true),
        Gemm("corner shard rows and columns", 65, 200, 192, rowOffset: 71, columnOffset: 64),
        Gemm("corner many tokens", 32_768, 4, 16, f32: true),
        Gemm("corner many tokens", 9_000, 8, 8, bf16: true),
        Gemm("corner shard columns in 64 x 64 tiles", 70, 80, 320, columnOffset: 64, f32: true),
        Gemm("corner 128 x 128 tiles", 100, 38_912, 144, f32: true),
        Gemm("corner 128 x 128 tiles", 100, 38_912, 80, columnOffset: 64, f32: true) with { Tier = CaseTier.Full },
        Gemm("corner 128 x 128 tiles", 100, 38_912, 72, bf16: true, f32: true) with { Tier = CaseTier.Full },
        Rows("corner a row's bits whatever m", 192, 1152, bf16: false),
        Rows("corner a row's bits whatever m bf16", 192, 1152, bf16: true),
        Rows("corner a row's bits whatever m in 128 x 128 tiles", 38_912, 144, bf16: false),
        NaN("corner NaN in a row of a"),
        PartialSums("regular partial sums", 3, 128, 4096, bf16: true),
        PartialSums("regular partial sums", 17, 512, 1024, bf16: false),
        PartialSums("tail partial sums", 5, 132, 1100, bf16: false),
        Tree("regular tree", 16, 64, 1024),
        Tree("regular tree", 5, 64, 1024, bf16: true),
        Tree("regular tree bias", 64, 128, 512, bias: true),
        Tree("regular tree bias", 3, 48, 2048, bf16: true, bias: true),
        Tree("tail tree", 17, 33, 256),
        Tree("tail tree bias", 129, 65, 1024, bias: true),
        Tree("tail tree of one leaf", 5, 20, 384),
        Tree("tail tree of one leaf", 5, 20, 200, bias: true),
        Tree("tail tree odd strides", 5, 33, 512, padding: 3),
        Tree("corner tree no tokens", 0, 64, 1024),
        Tree("corner tree from the middle of a scale block", 5, 64, 512, columnOffset: 64),
        Tree("corner tree in 128 x 128 tiles", 100, 38_912, 256),
        Rows("corner a row's bits whatever m, a tree", 192, 1024, bf16: false, isTree: true),
        Rows("corner a row's bits whatever m, a tree bf16", 192, 1024, bf16: true, isTree: true),
        Rows("corner a row's bits whatever m, a tree in 128 x 128 tiles", 38_912, 256, bf16: false, isTree: true),
        Extremes("corner a tree of subnormal and large sums", 1024, 0, -133, 60, 100),
        Extremes("corner a tree of sums up to infinity", 1024, 0, 113, 122, -133),
        Extremes("corner a tree with NaN", 256, 0, NaNRow, 50, -133),
        Ranks("corner the bits of 1, 2, 4 and 8 ranks", 3, 80, 2048),
        Ranks("corner the bits of 1, 2, 4 and 8 ranks", 70, 80, 1024),
        Ranks("corner the bits of 1, 2, 4 and 8 ranks", 17, 48, 1024, bf16: true),
        Ranks("corner the bits of 1, 2 and 4 ranks", 130, 200, 1536),
        Ranks("corner the bits of 1 and 2 ranks in 128 x 128 tiles", 100, 38_912, 256) with { Tier = CaseTier.Full },
        Columns("corner the columns of a rank", 5, 512, 2048),
        Columns("corner the columns of a rank", 70, 512, 1024),
        Columns("corner the columns of a rank", 17, 512, 1024, bf16: true),
        PartialSums("regular partial sums of a tree", 3, 128, 4096, bf16: false, isTree: true),
        PartialSums("regular partial sums of a tree", 17, 512, 8192, bf16: true, isTree: true),
        PartialSums("tail partial sums of a tree", 5, 132, 2304, bf16: false, isTree: true),
        Tree("model O", 16, 512, 8192),
        Ranks("model O, 128 of its columns", 1, 128, 8192),
        Gemm("model QKV TP8", 1, 1280, 4096),
        Gemm("model QKV TP8", 16, 1280, 4096),
        Gemm("model O TP8", 16, 512, 1024, f32: true),
        Gemm("model down TP8 rank 1", 16, 512, 192, columnOffset: 64),
        Gemm("model router", 17, 128, 4096, bf16: true, f32: true),
        Gemm("model QKV TP1", 64, 9216, 4096) with { Tier = CaseTier.Full },
        Gemm("model O TP1", 512, 4096, 8192) with { Tier = CaseTier.Full },
        Gemm("model prefill", 2048, 4096, 4096) with { Tier = CaseTier.Full },
        Gemm("model LM head, a sixteenth of its columns", 2, 151_936, 256, bf16: true, f32: true) with { Tier = CaseTier.Full },
        Far("corner a weight row beyond 2^31 elements") with { Tier = CaseTier.Full },
    ];

    // a, b and output have rows `padding` elements longer than the op uses; what lies between must stay as it is.
    private static Case Gemm(
        string name, int m, int n, int k, bool bf16 = false, bool f32 = false, bool bias = false, int padding = 0, int rowOffset = 0,
        int columnOffset = 0)
    {
        var offsets = (rowOffset, columnOffset) == (0, 0) ? "" : $" from {rowOffset}, {columnOffset}";
        return new Case("gemm", $"{name} m{m} n{n} k{k}{offsets}{(bf16 ? " bf16" : "")}{(f32 ? " to f32" : "")}", context =>
        {
            var (a, aScales, aValues) = Tokens(context, m, k, padding, bf16);
            var (b, bValues) = Weights(context, n, k, padding, bf16, rowOffset, columnOffset);
            var biasValues = bias ? context.NormalBFloat16(n) : new BFloat16[n];
            var wide = context.InOut(new byte[m * (n + padding) * (f32 ? 4 : 2)], m * (n + padding) * (f32 ? 4 : 2));
            var output = TensorView.Borrow(context.Device, wide.Address, f32 ? DType.Float32 : DType.BFloat16, m, n + padding);
            var args = new GemmArgs
            {
                A = a,
                AScales = aScales,
                B = b,
                Bias = bias ? context.Input(biasValues, n) : default,
                Output = output.Slice(1, 0, n),
            };
            args = args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
            return new CaseBody(() => Ops.Gemm(context.Stream, args), () =>
            {
                var actual = context.Values(output);
                var sample = Sample(context, m, n);
                context.Compare(
                    "output", [.. sample.Select(at => actual[at.Row * (n + padding) + at.Column])],
                    [.. sample.Select(at => Reference(aValues, bValues, at, k + padding, k) + biasValues[at.Column])],
                    f32 ? Float32Tolerance : BFloat16Tolerance);
                var between = Enumerable.Range(0, actual.Length).Where(i => i % (n + padding) >= n).Select(i => actual[i]).ToArray();
                context.Equal<double>("elements between rows", between, new double[between.Length]);
            });
        })
        {
            Flops = 2.0 * m * n * k,
            Bytes = ((double)m * k + (double)n * k) * (bf16 ? 2 : 1) + (double)m * n * (f32 ? 4 : 2),
        };
    }

    // The tree of all leaves, on one device; rows of a and b `padding` elements longer than the op uses.
    private static Case Tree(
        string name, int m, int n, int k, bool bf16 = false, bool bias = false, int padding = 0, int columnOffset = 0) =>
        new("gemm", $"{name} m{m} n{n} k{k}{(columnOffset == 0 ? "" : $" from {columnOffset}")}{(bf16 ? " bf16" : "")}", context =>
        {
            var (a, aScales, aValues) = Tokens(context, m, k, padding, bf16);
            var (b, bValues) = Weights(context, n, k, padding, bf16, columnOffset: columnOffset);
            var biasValues = bias ? context.NormalBFloat16(n) : new BFloat16[n];
            var leaves = SumTree.LeavesOfProduct(k);
            var args = new GemmArgs
            {
                A = a,
                AScales = aScales,
                B = b,
                Bias = bias ? context.Input(biasValues, n) : default,
                Leaves = leaves,
                Output = context.Output(DType.BFloat16, m, n),
            };
            args = args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
            return new CaseBody(() => Ops.Gemm(context.Stream, args), () =>
            {
                var actual = context.Values(args.Output);
                var sample = Sample(context, m, n);
                context.Compare(
                    "output", [.. sample.Select(at => actual[at.Row * n + at.Column])],
                    [.. sample.Select(at => TreeReference(aValues, bValues, at, k + padding, k, leaves, biasValues[at.Column]))], BFloat16Tolerance);
            });
        })
        {
            Flops = 2.0 * m * n * k,
            Bytes = ((double)m * k + (double)n * k) * (bf16 ? 2 : 1) + 2.0 * m * n,
        };

    // Ranks that share k end at the bits of one device, within the tree's roundings of the sum itself.
    private static Case Ranks(string name, int m, int n, int k, bool bf16 = false) => new("gemm", $"{name} m{m} n{n} k{k}{(bf16 ? " bf16" : "")}", context =>
    {
        var (a, aScales, aValues) = Tokens(context, m, k, 0, bf16);
        var (b, bValues) = Weights(context, n, k, 0, bf16);
        var bias = context.NormalBFloat16(n);
        var biasInput = context.Input(bias, n);
        var leaves = SumTree.LeavesOfProduct(k);
        int[] counts = [.. RankCounts.Where(ranks => ranks <= leaves)];
        GemmArgs Shard(int rank, int ranks)
        {
            // A rank has scales of its own.
            var columns = k / ranks;
            TensorView Scales(TensorView all) => all.IsNull ? default : context.Input(
                context.Values(all).Where((_, i) => i % Blocks(k) * ranks / Blocks(k) == rank).Select(scale => (float)scale).ToArray(),
                all.Shape[0], Blocks(columns));
            var args = new GemmArgs
            {
                A = a.Slice(1, rank * columns, columns),
                AScales = Scales(aScales),
                B = b with { Values = b.Values.Slice(1, rank * columns, columns), Scales = Scales(b.Scales) },
                Bias = rank == 0 ? biasInput : default,
                FullN = n,
                FullK = k,
                Leaves = leaves / ranks,
                Output = context.Output(DType.BFloat16, m, n),
            };
            return args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
        }

        GemmArgs[][] groups = [.. counts.Select(ranks => Enumerable.Range(0, ranks).Select(rank => Shard(rank, ranks)).ToArray())];
        void Launch()
        {
            foreach (var args in groups.SelectMany(group => group))
            {
                Ops.Gemm(context.Stream, args);
            }
        }

        return new CaseBody(Launch, () =>
        {
            var whole = context.Values(groups[0][0].Output);
            var sample = Sample(context, m, n);
            context.Compare(
                "output", [.. sample.Select(at => whole[at.Row * n + at.Column])],
                [.. sample.Select(at => Reference(aValues, bValues, at, k, k) + bias[at.Column])], TreeTolerance);
            foreach (var group in groups[1..])
            {
                double[][] nodes = [.. group.Select(args => context.Values(args.Output))];
                context.Equal<double>($"{group.Length} ranks", Roots(nodes), whole);
            }
        });
    });

    // A rank's rows of the weight, where k is whole: the bits of the whole product's columns.
    private static Case Columns(string name, int m, int n, int k, bool bf16 = false) => new("gemm", $"{name} m{m} n{n} k{k}{(bf16 ? " bf16" : "")}", context =>
    {
        const int Ranks = 4;
        var (a, aScales, _) = Tokens(context, m, k, 0, bf16);
        var (b, _) = Weights(context, n, k, 0, bf16);
        var whole = new GemmArgs { A = a, AScales = aScales, B = b, Output = context.Output(DType.BFloat16, m, n) };
        whole = whole with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, whole)) };
        var count = n / Ranks;
        GemmArgs[] shards =
        [
            .. Enumerable.Range(0, Ranks).Select(rank =>
            {
                var args = whole with
                {
                    B = b with { Values = b.Values.Slice(0, rank * count, count), Scales = b.Scales.IsNull ? default : b.Scales.Slice(0, rank * count / Float8.Block, count / Float8.Block) },
                    FullN = n,
                    FullK = k,
                    Output = context.Output(DType.BFloat16, m, count),
                };
                return args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
            }),
        ];
        void Launch()
        {
            Ops.Gemm(context.Stream, whole);
            foreach (var args in shards)
            {
                Ops.Gemm(context.Stream, args);
            }
        }

        return new CaseBody(Launch, () =>
        {
            var expected = context.Values(whole.Output);
            for (var rank = 0; rank < Ranks; rank++)
            {
                context.Equal<double>(
                    $"rank {rank}", context.Values(shards[rank].Output), [.. expected.Where((_, i) => i % n / count == rank)]);
            }
        });
    });

    // f32 rows added in order.
    private static double[] Sum(double[][] rows) =>
        [.. Enumerable.Range(0, rows[0].Length).Select(i => (double)rows.Aggregate(0f, (sum, row) => sum + (float)row[i]))];

    // The tree over [leaves][elements], each rounded first.
    private static double[] Roots(double[][] leaves) =>
        [.. Enumerable.Range(0, leaves[0].Length).Select(i => (double)SumTree.Root([.. leaves.Select(leaf => (BFloat16)(float)leaf[i])]))];

    // Added in order, and with leaves by the tree, the partial sums are the bits of the product itself. A device that leaves none is held to
    // the product alone.
    private static Case PartialSums(string name, int m, int n, int k, bool bf16, bool isTree = false) =>
        new("gemm", $"{name} m{m} n{n} k{k}{(bf16 ? " bf16" : "")}", context =>
        {
            var (a, aScales, aValues) = Tokens(context, m, k, 0, bf16);
            var (b, bValues) = Weights(context, n, k, 0, bf16);
            var leaves = isTree ? SumTree.LeavesOfProduct(k) : 0;
            var whole = new GemmArgs
            {
                A = a, AScales = aScales, B = b, Leaves = leaves, Output = context.Output(isTree ? DType.BFloat16 : DType.Float32, m, n),
            };
            whole = whole with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, whole)) };
            var segments = Ops.GemmSegments(context.Device, whole);
            var parts = context.Output(DType.Float32, segments, m, n);
            void Launch()
            {
                Ops.Gemm(context.Stream, whole);
                if (segments > 0)
                {
                    Ops.Gemm(context.Stream, whole with { Output = parts, Workspace = default });
                }
            }

            double Expected(int i) => isTree
                ? TreeReference(aValues, bValues, (i / n, i % n), k, k, leaves, 0)
                : Reference(aValues, bValues, (i / n, i % n), k, k);
            return new CaseBody(Launch, () =>
            {
                var product = context.Values(whole.Output);
                context.Compare(
                    "output", product, [.. Enumerable.Range(0, m * n).Select(Expected)], isTree ? BFloat16Tolerance : Float32Tolerance);
                if (segments > 0)
                {
                    var rows = context.Values(parts).Chunk(m * n);
                    var sum = isTree ? Roots([.. rows.Chunk(segments / Math.Min(leaves, segments)).Select(Sum)]) : Sum([.. rows]);
                    context.Equal<double>(isTree ? "roots of the parts" : "sums of the parts", sum, product);
                }
            });
        })
        {
            Flops = 2.0 * m * n * k,
            Bytes = ((double)m * k + (double)n * k) * (bf16 ? 2 : 1) + (isTree ? 2.0 : 4.0) * m * n,
        };

    // output[i, j] = sum over k of a[i, k] * b[j, k]
    private static double Reference(double[] a, double[] b, (int Row, int Column) at, int stride, int k)
    {
        double sum = 0;
        for (var i = 0; i < k; i++)
        {
            sum += a[(long)at.Row * stride + i] * b[(long)at.Column * stride + i];
        }

        return sum;
    }

    // The same as a tree over leaves, every node rounded to BF16; the bias is the first leaf's.
    private static double TreeReference(double[] a, double[] b, (int Row, int Column) at, int stride, int k, int leaves, double bias)
    {
        var nodes = new BFloat16[leaves];
        for (var leaf = 0; leaf < leaves; leaf++)
        {
            var sum = leaf == 0 ? bias : 0;
            for (var i = leaf * (k / leaves); i < (leaf + 1) * (k / leaves); i++)
            {
                sum += a[(long)at.Row * stride + i] * b[(long)at.Column * stride + i];
            }

            nodes[leaf] = (BFloat16)(float)sum;
        }

        return SumTree.Root(nodes);
    }

    // Every element of a small output, 16,384 of a large one.
    private static (int Row, int Column)[] Sample(CaseContext context, int m, int n)
    {
        const int Size = 16_384;
        return (long)m * n <= 4 * Size
            ? [.. from row in Enumerable.Range(0, m) from column in Enumerable.Range(0, n) select (row, column)]
            : [.. Enumerable.Range(0, Size).Select(_ => (context.Random.Next(m), context.Random.Next(n)))];
    }

    private static (TensorView A, TensorView Scales, double[] Values) Tokens(CaseContext context, int m, int k, int padding, bool bf16)
    {
        if (bf16)
        {
            var elements = context.NormalBFloat16((long)m * (k + padding));
            return (context.Input(elements, m, k + padding).Slice(1, 0, k), default, Array.ConvertAll(elements, x => (double)(float)x));
        }

        var (tensor, values) = context.QuantizedInput(m, k + padding);
        return (tensor.Values.Slice(1, 0, k), tensor.Scales.Slice(1, 0, Blocks(k)), values);
    }

    private static (Weight B, double[] Values) Weights(
        CaseContext context, int n, int k, int padding, bool bf16, int rowOffset = 0, int columnOffset = 0)
    {
        if (bf16)
        {
            var elements = context.NormalBFloat16((long)n * (k + padding));
            var b = new Weight { Values = context.Input(elements, n, k + padding).Slice(1, 0, k) };
            return (b, Array.ConvertAll(elements, x => (double)(float)x));
        }

        var (weight, values) = context.WeightInput(n, k + padding, 1, rowOffset, columnOffset);
        weight = weight with
        {
            Values = weight.Values.Slice(1, 0, k),
            Scales = weight.Scales.Slice(1, 0, Blocks(columnOffset + k)),
        };
        return (weight, values);
    }

    private static int Blocks(int elements) => (elements + Float8.Block - 1) / Float8.Block;

    // The same rows in batches of several sizes, so in several tiles, split over K or not: the bits must agree.
    private static Case Rows(string name, int n, int k, bool bf16, bool isTree = false) => new("gemm", $"{name} n{n} k{k}", context =>
    {
        int[] sizes = n > 1000 ? [100, 3] : [1, 16, 17, 64, 65, 130];
        var (a, aScales, _) = Tokens(context, sizes.Max(), k, 0, bf16);
        var (b, _) = Weights(context, n, k, 0, bf16);
        var all = sizes.Select(m =>
        {
            var args = new GemmArgs
            {
                A = a.Slice(0, 0, m),
                AScales = aScales.IsNull ? default : aScales.Slice(0, 0, m),
                B = b,
                Leaves = isTree ? SumTree.LeavesOfProduct(k) : 0,
                Output = context.Output(isTree ? DType.BFloat16 : DType.Float32, m, n),
            };
            return args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
        }).ToArray();
        return new CaseBody(
            () =>
            {
                foreach (var args in all)
                {
                    Ops.Gemm(context.Stream, args);
                }
            },
            () =>
            {
                var largest = context.Read(all.MaxBy(args => args.A.Shape[0]).Output);
                foreach (var args in all)
                {
                    var bytes = context.Read(args.Output);
                    context.Equal<byte>($"rows of m = {args.A.Shape[0]}", bytes, largest.AsSpan(0, bytes.Length));
                }
            });
    });

    private const int NaNRow = int.MaxValue;

    // Rows of the same codes, times powers of two or NaN: a row's bits are the same in the tiles of few tokens and of many, and the products
    // are each other's multiples as long as they are normal numbers. NOTE: so many columns that a block has all leaves.
    private static Case Extremes(string name, int k, params int[] exponents) => new("gemm", $"{name} k{k}", context =>
    {
        const int N = 153 * 64;
        int[] sizes = [16, 65];
        var row = new byte[k];
        context.Random.NextBytes(row);
        row = Array.ConvertAll(row, code => double.IsFinite((double)Float8.Widen(code, context.Float8)) ? code : (byte)0x38);
        int Exponent(int i) => exponents[i % exponents.Length];
        var scales = Enumerable.Range(0, sizes.Max() * Blocks(k)).Select(i =>
            Exponent(i / Blocks(k)) == NaNRow ? float.NaN : (float)Math.ScaleB(1.0 / 256, Exponent(i / Blocks(k)))).ToArray();
        var a = context.Codes([.. Enumerable.Repeat(row, sizes.Max()).SelectMany(codes => codes)], sizes.Max(), k);
        var aScales = context.Input(scales, sizes.Max(), Blocks(k));
        var (b, _) = Weights(context, N, k, 0, bf16: false);
        var all = sizes.Select(m =>
        {
            var args = new GemmArgs
            {
                A = a.Slice(0, 0, m),
                AScales = aScales.Slice(0, 0, m),
                B = b,
                Leaves = SumTree.LeavesOfProduct(k),
                Output = context.Output(DType.BFloat16, m, N),
            };
            return args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
        }).ToArray();
        void Launch()
        {
            foreach (var args in all)
            {
                Ops.Gemm(context.Stream, args);
            }
        }

        return new CaseBody(Launch, () =>
        {
            var few = context.Values(all[0].Output);
            double[] Row(int i) => few[(i * N)..((i + 1) * N)];
            foreach (var args in all)
            {
                var actual = context.Values(args.Output);
                for (var i = 0; i < args.A.Shape[0]; i++)
                {
                    double[] values = actual[(i * N)..((i + 1) * N)];
                    var expected = Exponent(i) == NaNRow ? [.. Row(0).Select(_ => double.NaN)]
                        : Exponent(i) > -100 && values.All(double.IsFinite) ? [.. Row(0).Select(x => Math.ScaleB(x, Exponent(i)))]
                        : Row(i % exponents.Length);
                    // As bits, so that a zero's sign counts.
                    context.Equal<long>($"row {i} of m = {args.A.Shape[0]}", Bits(values), Bits(expected));
                }
            }
        });

        static long[] Bits(double[] values) =>
            Array.ConvertAll(values, x => BitConverter.DoubleToInt64Bits(double.IsNaN(x) ? double.NaN : x));
    });

    private static Case NaN(string name) => new("gemm", name, context =>
    {
        const int M = 18, N = 40, K = 160;
        var codes = new byte[M * K];
        Array.Fill(codes, (byte)0x40);
        codes[16 * K + 130] = Float8.NaNCode(context.Float8);
        var scales = new float[M * Blocks(K)];
        Array.Fill(scales, 1f);
        var (b, bValues) = Weights(context, N, K, 0, bf16: false);
        var output = context.Output(DType.Float32, M, N);
        var args = new GemmArgs
        {
            A = context.Codes(codes, M, K),
            AScales = context.Input(scales, M, Blocks(K)),
            B = b,
            Output = output,
        };
        args = args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
        return new CaseBody(() => Ops.Gemm(context.Stream, args), () =>
        {
            var aValues = Array.ConvertAll(codes, code => (double)Float8.Widen(code, context.Float8));
            context.Compare(
                "output", output, [.. Sample(context, M, N).Select(at => Reference(aValues, bValues, at, K, K))], Float32Tolerance);
        });
    });

    // Weight rows whose last begins beyond 2^31 elements: an offset kept in 32 bits would miss it.
    private static Case Far(string name) => new("gemm", name, context =>
    {
        const int M = 2, N = 5, K = 256;
        var (a, _, aValues) = Tokens(context, M, K, 0, bf16: true);
        var b = context.NormalBFloat16(N * K);
        var weights = context.Large(DType.BFloat16, N, (1L << 29) + 8).Slice(1, 0, K);
        for (var row = 0; row < N; row++)
        {
            context.Stream.Write<BFloat16>(weights.Slice(0, row, 1), b.AsSpan(row * K, K));
        }

        var output = context.Output(DType.Float32, M, N);
        var args = new GemmArgs { A = a, B = new Weight { Values = weights }, Output = output };
        args = args with { Workspace = context.Workspace(Ops.GemmWorkspace(context.Device, args)) };
        return new CaseBody(() => Ops.Gemm(context.Stream, args), () =>
        {
            var bValues = Array.ConvertAll(b, x => (double)(float)x);
            context.Compare(
                "output", output,
                [.. Sample(context, M, N).Select(at => Reference(aValues, bValues, at, K, K))], Float32Tolerance);
        });
    });
}
