namespace Octet.Cases;

/// <summary>moe_gate_up, moe_down: the grouped GEMMs over slots sorted by expert.</summary>
internal static class MoeCases
{
    private const double OutputTolerance = 1e-5; // BF16 rounding alone is 1e-6; 0.2 % of the codes one away is 1e-5
    private const double ScaleTolerance = 1e-7; // NVIDIA's FP8 matrix unit keeps some 14 bits of a partial sum: (2^-13)^2

    private static readonly int[] Tails = [1, 17, 127, 129];

    public static IEnumerable<Case> All =>
        [.. GateUps.Select(shape => Moe("moe_gate_up", shape)), .. Downs.Select(shape => Moe("moe_down", shape))];

    private static IEnumerable<Shape> Both =>
    [
        new("regular", 16, 2, 4, 128, 256),
        new("regular", 70, 4, 4, 256, 128),
        new("regular strides of 16 more", 9, 2, 3, 64, 144) { Padding = 16 },
        .. from size in Tails select new Shape("tail tokens", size, 2, 3, 32, 64),
        .. from size in Tails select new Shape("tail n", 5, 2, 3, size, 64),
        .. from size in Tails select new Shape("tail k", 5, 2, 3, 32, size),
        new("tail odd strides", 5, 2, 3, 33, 200) { Padding = 3 },
        new("corner no tokens", 0, 2, 4, 64, 64),
        new("corner no weights", 5, 2, 4, 0, 64),
        new("corner nothing to sum", 5, 2, 4, 40, 0),
        new("corner one of each", 1, 1, 1, 1, 1),
        new("corner one expert gets all", 150, 2, 8, 48, 128) { Choose = (_, _) => 5 },
        new("corner every second expert gets none", 40, 3, 12, 48, 128) { Choose = (random, _) => 2 * random.Next(6) },
        new("corner expert-parallel", 40, 4, 4, 48, 128) { Choose = (random, _) => random.Next(16) - 6 },
        new("corner all experts are elsewhere", 10, 4, 4, 48, 128) { Choose = (_, _) => -1 },
        new("corner 200 experts", 9, 8, 200, 16, 16),
        new("corner 512 experts, the last ones used", 3, 2, 512, 16, 16) { Choose = (random, _) => 508 + random.Next(4) },
        new("corner a power law", 200, 2, 8, 48, 128) { Choose = (random, experts) => (int)(experts * Math.Pow(random.NextDouble(), 3)) },
        new("corner expert-parallel, 8 of 64", 60, 8, 8, 48, 128) { Choose = (random, _) => random.Next(64) - 20, LayerExperts = 64 },
        new("corner many tokens", 8_192, 2, 4, 16, 16),
        new("corner 32,768 tokens", 32_768, 8, 128, 16, 16) { Full = true },
        new("corner 32,768 tokens, a power law", 32_768, 8, 128, 16, 16) { Choose = (random, experts) => (int)(experts * Math.Pow(random.NextDouble(), 4)), Full = true },
        new("corner shard rows", 9, 2, 3, 192, 128) { RowOffset = 71 },
        new("corner shard columns", 9, 2, 3, 48, 320) { ColumnOffset = 64 },
        new("corner shard columns", 9, 2, 3, 48, 300) { ColumnOffset = 100 },
        new("corner a slot's bits whatever the batch", 150, 2, 4, 144, 1024) { Alone = true },
        new("corner a slot's bits among 200 of its expert", 400, 2, 4, 144, 400) { Alone = true },
        new("corner a slot's bits where a scale block begins inside", 150, 2, 4, 144, 448) { ColumnOffset = 64, Alone = true },
    ];

    private static IEnumerable<Shape> GateUps =>
    [
        .. Both,
        new("model TP8 rank 1, 2 of 128 experts", 1, 2, 2, 192, 4096) { RowOffset = 64 },
        new("model 128 of 1536 columns, 2 of 128 experts", 17, 2, 2, 128, 4096),
        new("model TP1, 8 of 128 experts", 1, 8, 8, 1536, 4096) { Full = true },
    ];

    private static IEnumerable<Shape> Downs =>
    [
        .. Both,
        new("corner rows of a shard, bit by bit", 20, 2, 3, 320, 512) { ShardFrom = 192 },
        new("model TP8 rank 1, 512 of 4096 columns, 2 of 128 experts", 1, 2, 2, 512, 192) { ColumnOffset = 64 },
        new("model 256 of 4096 columns, 2 of 128 experts", 17, 2, 2, 256, 1536),
        new("model TP1, 8 of 128 experts", 1, 8, 8, 4096, 1536) { Full = true },
    ];

    // gate_up and down with a slot's input and output, x and y: the tokens of gate_up are gathered, the slots of down are not.
    private static Case Moe(string op, Shape shape) => new(op, shape.ToString(), context =>
    {
        var gateUp = op == "moe_gate_up";
        var ids = new int[shape.Tokens * shape.TopK];
        for (var pair = 0; pair < ids.Length; pair++)
        {
            ids[pair] = shape.Choose(context.Random, shape.Experts);
        }

        var slots = ExpertSlots.Of(ids, 0, shape.Experts);
        var rows = gateUp ? shape.Tokens : ids.Length;
        var (x, xValues) = Tokens(context, rows, shape);
        var (first, firstValues) = Weights(context, shape);
        var (up, upValues) = gateUp ? Weights(context, shape) : (first, firstValues);

        var output = new Output(context, gateUp, ids.Length, shape);
        Action launch = Launch(context, gateUp, slots, x, first, up, output, shape);
        if (shape.ShardFrom > 0)
        {
            // The last rows of the weight as a shard of their own, which begins inside a scale block: the same bits.
            var shard = Shard(first, shape.ShardFrom);
            var shardShape = shape with { N = shape.N - shape.ShardFrom };
            var shardOutput = new Output(context, gateUp, ids.Length, shardShape);
            launch += Launch(context, gateUp, slots, x, shard, shard, shardOutput, shardShape);
            return new CaseBody(launch, () =>
            {
                for (var slot = 0; slot < ids.Length; slot++)
                {
                    context.Equal<byte>($"row {slot}", shardOutput.Row(slot), output.Row(slot).AsSpan(shape.ShardFrom * sizeof(ushort)).ToArray());
                }
            });
        }

        if (!shape.Alone)
        {
            return new CaseBody(launch, () => output.Verify(Reference(slots, shape, gateUp, xValues, firstValues, upValues), slots.Offsets[^1]));
        }

        // The last pair on its own, as the only one of its expert: the same bits as in the batch.
        var expert = ids[^1];
        var lone = new ExpertSlots([.. Enumerable.Range(0, shape.Experts + 1).Select(e => e > expert ? 1 : 0)], [0], [0]);
        var from = gateUp ? shape.Tokens - 1 : slots.PairSlots[^1];
        var loneX = x.Rows(from, 1);
        var loneOutput = new Output(context, gateUp, 1, shape);
        launch += Launch(context, gateUp, lone, loneX, first, up, loneOutput, shape with { TopK = 1 });
        return new CaseBody(launch, () => context.Equal<byte>("bits", loneOutput.Row(0), output.Row(slots.PairSlots[^1])));
    })
    {
        Tier = shape.Full ? CaseTier.Full : CaseTier.Ci,
        Flops = 2.0 * shape.Tokens * shape.TopK * shape.N * shape.K * (op == "moe_gate_up" ? 2 : 1),
        Bytes = (double)Math.Min(shape.Experts, shape.Tokens * shape.TopK) * shape.N * shape.K * (op == "moe_gate_up" ? 2 : 1),
    };

    private static Action Launch(
        CaseContext context, bool gateUp, ExpertSlots slots, QuantizedTensor x, Weight first, Weight up, Output output, Shape shape)
    {
        var offsets = context.Input(slots.Offsets, slots.Offsets.Length);
        if (!gateUp)
        {
            var down = new MoeDownArgs { X = x, Down = first, ExpertOffsets = offsets, TopK = shape.TopK, LayerExperts = shape.LayerExperts, Output = output.Tensor };
            down = down with { Workspace = context.Workspace(Ops.MoeDownWorkspace(context.Device, down)) };
            return () => Ops.MoeDown(context.Stream, down);
        }

        var args = new MoeGateUpArgs
        {
            X = x,
            Gate = first,
            Up = up,
            ExpertOffsets = offsets,
            SlotPairs = context.Input(slots.SlotPairs, slots.SlotPairs.Length),
            TopK = shape.TopK,
            LayerExperts = shape.LayerExperts,
            Output = new QuantizedTensor(output.Tensor, output.Scales),
        };
        args = args with { Workspace = context.Workspace(Ops.MoeGateUpWorkspace(context.Device, args)) };
        return () => Ops.MoeGateUp(context.Stream, args);
    }

    private static Weight Shard(Weight whole, int row) => new()
    {
        Values = whole.Values.Slice(1, row, whole.N - row),
        Scales = whole.Scales.Slice(1, row / Float8.Block, whole.Scales.Shape[1] - row / Float8.Block),
        ScaleRowOffset = row % Float8.Block,
    };

    // y[slot] = x[row] . w[expert]^T, and for gate_up silu of that times the same with up. 0 in slots without a pair.
    private static double[] Reference(ExpertSlots slots, Shape shape, bool gateUp, double[] x, double[] first, double[] up)
    {
        var y = new double[slots.SlotPairs.Length * shape.N];
        for (var expert = 0; expert < shape.Experts; expert++)
        {
            for (var at = slots.Offsets[expert] * shape.N; at < slots.Offsets[expert + 1] * shape.N; at++)
            {
                var (slot, row) = (at / shape.N, expert * shape.N + at % shape.N);
                var token = x.AsSpan((gateUp ? slots.SlotPairs[slot] / shape.TopK : slot) * shape.K, shape.K);
                var product = Dot(token, first.AsSpan(row * shape.K, shape.K));
                y[at] = gateUp ? product / (1 + Math.Exp(-product)) * Dot(token, up.AsSpan(row * shape.K, shape.K)) : product;
            }
        }

        return y;
    }

    private static double Dot(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (var k = 0; k < x.Length; k++)
        {
            sum += x[k] * y[k];
        }

        return sum;
    }

    private static (QuantizedTensor Tensor, double[] Values) Tokens(CaseContext context, int rows, Shape shape)
    {
        var (tensor, values) = context.QuantizedInput(rows, shape.K);
        var stride = shape.K + shape.Padding;
        var wide = context.Codes(Rows.Widen(context.Read(tensor.Values), shape.K, stride), rows, stride);
        return (tensor with { Values = wide.Slice(1, 0, shape.K) }, values);
    }

    // Deviation 1/sqrt(k): products near 1, where silu is neither 0 nor the identity.
    private static (Weight Weight, double[] Values) Weights(CaseContext context, Shape shape)
    {
        var (weight, values) = context.WeightInput(
            shape.N, shape.K, shape.Experts, shape.RowOffset, shape.ColumnOffset, 1 / Math.Sqrt(Math.Max(shape.K, 1)), stack: true);
        var stride = shape.K + shape.Padding;
        var wide = context.Codes(Rows.Widen(context.Read(weight.Values), shape.K, stride), shape.Experts, shape.N, stride);
        return (weight with { Values = wide.Slice(2, 0, shape.K) }, values);
    }

    /// <summary>What a case is about: n and k are those of the weights.</summary>
    private sealed record Shape(string Purpose, int Tokens, int TopK, int Experts, int N, int K)
    {
        /// <summary>Columns between the rows of tokens, weights and output, which must stay as they are.</summary>
        public int Padding { get; init; }

        public int RowOffset { get; init; }

        public int ColumnOffset { get; init; }

        /// <summary>Whether one slot is run alone too, and compared bit by bit.</summary>
        public bool Alone { get; init; }

        /// <summary>Experts of the layer on all devices; 0: those of the case.</summary>
        public int LayerExperts { get; init; }

        /// <summary>Rows from here on are run as a shard too, and compared bit by bit; a multiple of 64.</summary>
        public int ShardFrom { get; init; }

        public bool Full { get; init; }

        /// <summary>The expert of a pair; one outside 0..experts-1 is elsewhere.</summary>
        public Func<Random, int, int> Choose { get; init; } = (random, experts) => random.Next(experts);

        public override string ToString()
        {
            var offsets = (RowOffset, ColumnOffset) == (0, 0) ? "" : $" from {RowOffset}, {ColumnOffset}";
            return $"{Purpose} {Tokens} x {TopK} of {Experts}, n{N} k{K}{offsets}";
        }
    }

    /// <summary>The output of either op, with space between its rows.</summary>
    private sealed class Output
    {
        private const byte Untouched = 0x33;
        private readonly CaseContext _context;
        private readonly TensorView _wide;
        private readonly int _columns;
        private readonly int _stride;

        public Output(CaseContext context, bool quantized, int slots, Shape shape)
        {
            (_context, _columns, _stride) = (context, shape.N, shape.N + shape.Padding);
            var initial = new byte[slots * _stride * (quantized ? 1 : 2)];
            initial.AsSpan().Fill(Untouched);
            _wide = quantized
                ? context.CodesInOut(initial, slots, _stride)
                : context.InOut(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, BFloat16>(initial).ToArray(), slots, _stride);
            Tensor = _wide.Slice(1, 0, _columns);
            var blocks = (_columns + Float8.Block - 1) / Float8.Block;
            Scales = quantized ? context.InOut(new float[slots * blocks], slots, blocks) : default;
        }

        public TensorView Tensor { get; }

        public TensorView Scales { get; }

        /// <summary>The bytes of a row, scales included.</summary>
        public byte[] Row(int slot)
        {
            var row = _context.Read(_wide).Chunk(_stride * _wide.DType.SizeInBytes()).ElementAt(slot);
            return Scales.IsNull ? row : [.. row, .. _context.Read(Scales).Chunk((int)Scales.Shape[1] * sizeof(float)).ElementAt(slot)];
        }

        /// <summary>Holds the used slots to y, row by row, and everything else to what it was.</summary>
        public void Verify(double[] y, int used)
        {
            var size = _wide.DType.SizeInBytes();
            var bytes = _context.Read(_wide);
            byte[] untouched = [.. bytes.Where((_, i) => i / size % _stride >= _columns || i / size / _stride >= used)];
            _context.Equal<byte>("beyond the output", untouched, [.. untouched.Select(_ => Untouched)]);

            y = y[..(used * _columns)];
            double[] actual = [.. _context.Values(_wide).Where((_, i) => i % _stride < _columns && i / _stride < used)];
            if (!Scales.IsNull)
            {
                var (codes, scales) = Rows.Quantize(y, _columns, _context.Float8);
                double[] actualScales = _context.Values(Scales);
                _context.Compare("scales", actualScales, [.. scales, .. new double[actualScales.Length - scales.Length]], ScaleTolerance);
                y = Dequantize(Array.ConvertAll(codes, code => (double)Float8.Widen(code, _context.Float8)), scales);
                actual = Dequantize(actual, actualScales);
                _context.Compare("output", actual, y, OutputTolerance);
                return;
            }

            _context.Compare("output", actual, y, OutputTolerance);
            for (var slot = 0; slot < used && _columns > 0; slot++)
            {
                var (from, to) = (slot * _columns, (slot + 1) * _columns);
                _context.Compare($"row {slot}", actual.AsSpan(from, _columns), y.AsSpan()[from..to], OutputTolerance);
            }
        }

        private double[] Dequantize(double[] codes, double[] scales)
        {
            var blocks = (_columns + Float8.Block - 1) / Float8.Block;
            return [.. codes.Select((code, i) => code * scales[i / _columns * blocks + i % _columns / Float8.Block])];
        }
    }
}
