namespace Octet.Cases;

/// <summary>
/// sampling: the ids are exactly those of the reference. f32 moves a score by some 1e-6, so a seed whose two best scores, or
/// whose mass at the edge of top_p, lay nearer than that would be a wrong choice of the case.
/// </summary>
internal static partial class SamplingCases
{
    private static readonly Row Greedy = new(0, 0, 1);
    private static readonly Row Usual = new(0.7f, 20, 0.8f);

    public static IEnumerable<Case> All =>
    [
        Sampling("regular arg max 4 of 512", 512, 4, _ => Greedy),
        Sampling("regular temperature 4 of 512", 512, 4, _ => new Row(1, 0, 1)),
        Sampling("regular top-k 20 top-p 0.8 8 of 512", 512, 8, _ => Usual),
        Sampling("regular top-p 0.9 8 of 512", 512, 8, _ => new Row(1.3f, 0, 0.9f)),
        Sampling("regular rows 6 apart", 250, 4, _ => Usual, stride: 256),
        Sampling("regular rows 1 apart", 256, 4, _ => Usual, stride: 257),
        Sampling("regular every row its own settings", 300, 9, row => row switch
        {
            0 => Greedy, 1 => Usual, 2 => new(1, 1, 1), 3 => new(1, 5, 1), 4 => new(2, 0, 0.5f), 5 => new(0.1f, 50, 0.99f),
            6 => new(1, 300, 1), 7 => new(1, 1000, 2), _ => new Row(5, -1, 0.95f),
        }),
        Sampling("tail 1", 1, 2, _ => Usual),
        Sampling("tail 17", 17, 3, _ => new Row(1.5f, 5, 0.9f)),
        Sampling("tail 127", 127, 3, _ => new Row(1.5f, 0, 0.9f)),
        Sampling("tail 129", 129, 3, _ => new Row(1.5f, 100, 0.95f)),
        Sampling("tail 1025", 1025, 2, _ => new Row(1.5f, 100, 0.95f)),
        Sampling("corner no rows", 128, 0, _ => Usual),
        Sampling("corner ties give the lowest index", 200, 2, _ => Greedy, edit: x => { x[150] = x[77] = x[201 + 70] = x[201 + 90] = 50; }),
        Sampling("corner 0 and -0 are equal", 200, 2, _ => Greedy, edit: x => { Array.Fill(x, -1); (x[5], x[9], x[209], x[220]) = (-0f, 0f, 0f, -0f); }),
        Sampling("corner the lowest floats are never drawn", 256, 8, _ => new Row(100, 0, 1), edit: x => { for (var i = 0; i < x.Length; i++) { x[i] = i % 32 == 5 ? x[i] : float.MinValue; } }),
        Sampling("corner top-k beyond the logits above the lowest float", 256, 4, _ => new Row(1, 50, 0.9f), edit: x => { for (var i = 0; i < x.Length; i++) { x[i] = i % 32 == 5 ? x[i] : float.MinValue; } }),
        Sampling("corner ties at the edge of top-k are kept", 64, 16, _ => new Row(1, 3, 1), edit: x => { for (var i = 0; i < x.Length; i++) { x[i] = i % 8; } }),
        Sampling("corner ties at the edge of top-p are kept", 64, 16, _ => new Row(1, 0, 0.1f), edit: x => { for (var i = 0; i < x.Length; i++) { x[i] = i % 8; } }),
        Sampling("corner top-p 0 and less, NaN", 200, 6, row => new Row(1, 0, row switch { 0 => 0, 1 => -1, 2 => 1e-30f, 3 => float.NegativeInfinity, 4 => float.NaN, _ => 0.99999994f })),
        Sampling("corner extreme temperatures", 200, 8, row => new Row(row switch { 0 => 1e-30f, 1 => float.Epsilon, 2 => 1e30f, 3 => float.MaxValue, 4 => float.PositiveInfinity, 5 => float.NaN, 6 => -1, _ => float.NegativeInfinity }, 0, 1)),
        Sampling("corner extreme logits", 200, 4, row => new Row(1 + row, 0, 0.9f), edit: x => { (x[1], x[2], x[3]) = (float.MaxValue, -float.MaxValue, float.Epsilon); x[250] = -float.MaxValue; }),
        NotFinite("corner a NaN", 0x7FC00000),
        NotFinite("corner a negative NaN", 0xFFC00000),
        NotFinite("corner a signalling NaN", 0x7F800001),
        NotFinite("corner +infinity", 0x7F800000),
        NotFinite("corner -infinity", 0xFF800000),
        NotFinite("corner a NaN, rows 1 apart", 0x7FC00000, stride: 133),
        Sampling("corner nothing but infinity or NaN", 130, 6, row => row % 2 == 0 ? Greedy : Usual, edit: x => { Array.Fill(x, float.NegativeInfinity, 0, 260); Array.Fill(x, float.NaN, 260, 260); Array.Fill(x, float.PositiveInfinity, 520, 260); }),
        Sampling("corner a vocabulary of one NaN", 1, 3, row => row == 0 ? Greedy : Usual, edit: x => { x[0] = x[2] = float.NaN; }),
        Sampling("model vocabulary 151936 with -infinity at its end", 151_936, 2, row => row == 0 ? Greedy : Usual, edit: x => { x[151_935] = x[^1] = float.NegativeInfinity; }),
        Sampling("model vocabulary 151936 arg max", 151_936, 2, _ => Greedy),
        Sampling("model vocabulary 151936 top-k 20 top-p 0.8", 151_936, 1, _ => Usual),
        Sampling("model vocabulary 151936 temperature", 151_936, 1, _ => new Row(1, 0, 1)),
        Sampling("model vocabulary 151936 top-p 0.95", 151_936, 8, _ => new Row(1, 0, 0.95f)) with { Tier = CaseTier.Full },
        Frequencies(),
        Precision(),
        .. AdjustedCases(),
    ];

    // The settings of one row.
    private sealed record Row(float Temperature, int TopK, float TopP, float MinP = 0)
    {
        public (int Token, float Penalty, float Bias)[] Adjustments { get; init; } = [];

        public Func<int, bool>? Allows { get; init; }

        public int Logprobs { get; init; } = -1;
    }

    private static Case Sampling(string name, int vocabulary, int rows, Func<int, Row> settings, int stride = 0, Action<float[]>? edit = null) =>
        new("sampling", name, context =>
        {
            stride = Math.Max(stride, vocabulary);
            var logits = context.Normal((long)rows * stride, 3);
            edit?.Invoke(logits);
            var (seeds, counters) = Draws(context, rows);
            Row[] each = [.. Enumerable.Range(0, rows).Select(settings)];
            return Prepare(context, logits, vocabulary, stride, each, seeds, counters, (ids, expected) =>
                context.Equal<int>("ids", ids, expected));
        })
        {
            Bytes = 4.0 * rows * vocabulary,
        };

    // Every other row has one logit that is not finite: its first, one amid, and its last; greedy rows, then drawn ones. What
    // lies between the rows is not finite either, and no part of them.
    private static Case NotFinite(string name, uint bits, int stride = 0)
    {
        const int Vocabulary = 130;
        int[] places = [0, 67, Vocabulary - 1];
        var damage = BitConverter.UInt32BitsToSingle(bits);
        return Sampling(name, Vocabulary, 4 * places.Length, row => row < 2 * places.Length ? Greedy : Usual, stride, x =>
        {
            for (var i = 0; i < x.Length; i++)
            {
                var (row, column) = (i / Math.Max(stride, Vocabulary), i % Math.Max(stride, Vocabulary));
                x[i] = column >= Vocabulary || (row % 2 == 1 && column == places[row / 2 % places.Length]) ? damage : x[i];
            }
        });
    }

    // 2,048 draws from one distribution: their shares are its probabilities, to within what so many draws scatter.
    private static Case Frequencies() => new("sampling", "regular frequencies of 2048 draws", context =>
    {
        float[] row = [0, 1, 2, -1, 1.5f];
        const int Count = 2048;
        var logits = new float[Count * row.Length];
        for (var i = 0; i < logits.Length; i++)
        {
            logits[i] = row[i % row.Length];
        }

        var (seeds, counters) = Draws(context, Count);
        Row[] each = [.. Enumerable.Repeat(new Row(2, 0, 1), Count)];
        return Prepare(context, logits, row.Length, row.Length, each, seeds, counters, (ids, expected) =>
        {
            context.Equal<int>("ids", ids, expected);
            var shares = new double[row.Length];
            foreach (var id in ids)
            {
                shares[id] += 1.0 / Count;
            }

            var sum = row.Sum(x => Math.Exp(x / 2));
            context.Compare("frequencies", shares, [.. row.Select(x => Math.Exp(x / 2) / sum)], 2e-3);
        });
    });

    // Logits that cancel the noise: all scores are 0 but for one of 2e-5, which only draws exact to that find. The noise is
    // largest where u is next to 1, and there f32 has no digits left unless -log(u) is taken from 1 - u.
    private static Case Precision() => new("sampling", "regular scores 2e-5 apart", context =>
    {
        const int Vocabulary = 4096;
        var rows = Enumerable.Repeat(new Row(1, 0, 1), 8).ToArray();
        var (seeds, counters) = Draws(context, rows.Length);
        var logits = new float[rows.Length * Vocabulary];
        for (var i = 0; i < logits.Length; i++)
        {
            var (row, id) = (i / Vocabulary, i % Vocabulary);
            logits[i] = (float)((id == 500 * row + 7 ? 2e-5 : 0) - Gumbel(Philox(seeds[row], counters[row], (uint)id)));
        }

        return Prepare(context, logits, Vocabulary, Vocabulary, rows, seeds, counters, (ids, expected) =>
            context.Equal<int>("ids", ids, expected));
    });

    // Seeds of 64 bits, counters within and beyond 32.
    private static (long[] Seeds, long[] Counters) Draws(CaseContext context, int rows) => (
        [.. Enumerable.Range(0, rows).Select(_ => context.Random.NextInt64(long.MinValue, long.MaxValue))],
        [.. Enumerable.Range(0, rows).Select(i => i % 3 == 0 ? i : (1L << 33) + i)]);

    private static CaseBody Prepare(
        CaseContext context, float[] logits, int vocabulary, int stride, Row[] rows, long[] seeds, long[] counters,
        Action<int[], int[]> verify)
    {
        var args = new SamplingArgs
        {
            Logits = context.Input(logits, rows.Length, stride).Slice(1, 0, vocabulary),
            Temperatures = context.Input(Array.ConvertAll(rows, r => r.Temperature), rows.Length),
            TopK = context.Input(Array.ConvertAll(rows, r => r.TopK), rows.Length),
            TopP = context.Input(Array.ConvertAll(rows, r => r.TopP), rows.Length),
            Seeds = context.Input(seeds, rows.Length),
            Counters = context.Input(counters, rows.Length),
            Ids = context.Output(DType.Int32, rows.Length),
        };
        args = Adjusted(context, args, rows, vocabulary);
        args = args with { Workspace = context.Workspace(Ops.SamplingWorkspace(context.Device, args)) };
        return new CaseBody(() => Ops.Sampling(context.Stream, args), () =>
        {
            VerifyLogprobs(context, args, logits, stride, rows);
            var expected = new int[rows.Length];
            for (var i = 0; i < expected.Length; i++)
            {
                expected[i] = Reference(logits.AsSpan(i * stride, vocabulary), rows[i], seeds[i], counters[i]);
            }

            verify(Array.ConvertAll(context.Values(args.Ids), id => (int)id), expected);
        });
    }

    private static int Reference(ReadOnlySpan<float> logits, Row row, long seed, long counter)
    {
        double[] x = [.. logits.ToArray().Select(l => (double)l)];
        if (!x.All(double.IsFinite))
        {
            return -1;
        }

        foreach (var (token, penalty, bias) in row.Adjustments.Where(a => a.Token >= 0 && a.Token < x.Length))
        {
            x[token] = Math.Clamp((x[token] > 0 ? x[token] / penalty : x[token] * penalty) + bias, -float.MaxValue, float.MaxValue);
        }

        // Stable: ties by index.
        var descending = Enumerable.Range(0, x.Length).Where(row.Allows ?? (_ => true)).OrderByDescending(i => x[i]).ToArray();
        if (descending.Length == 0 || !(row.Temperature > 0))
        {
            return descending.FirstOrDefault(-1);
        }

        var largest = x[descending[0]];
        var edge = row.TopK > 0 && row.TopK < descending.Length ? x[descending[row.TopK - 1]] : double.NegativeInfinity;
        double Mass(int i) => x[i] >= edge ? Math.Exp((x[i] - largest) / row.Temperature) : 0;
        if (row.TopP < 1)
        {
            var target = row.TopP * descending.Sum(Mass);
            double sum = 0;
            edge = x[descending.First(i => (sum += Mass(i)) >= target)];
        }

        return descending.Where(i => x[i] >= edge && !(Math.Exp((x[i] - largest) / row.Temperature) < Math.Min(row.MinP, 1)))
            .OrderBy(i => i)
            .MaxBy(i => (x[i] - largest) / row.Temperature + Gumbel(Philox(seed, counter, (uint)i)));
    }

    private static double Gumbel(uint word) => -Math.Log(-Math.Log(((word >> 8) + 0.5) * Math.Pow(2, -24)));

    /// <summary>The first output word of Philox4x32-10 with key {low, high of seed} and counter {index, 0, low, high of counter}.</summary>
    public static uint Philox(long seed, long counter, uint index)
    {
        var (c0, c1, c2, c3) = (index, 0u, (uint)counter, (uint)(counter >> 32));
        var (k0, k1) = ((uint)seed, (uint)(seed >> 32));
        for (var round = 0; round < 10; round++)
        {
            var (p0, p1) = (c0 * 0xD2511F53ul, c2 * 0xCD9E8D57ul);
            (c0, c1, c2, c3) = ((uint)(p1 >> 32) ^ c1 ^ k0, (uint)p1, (uint)(p0 >> 32) ^ c3 ^ k1, (uint)p0);
            (k0, k1) = (k0 + 0x9E3779B9u, k1 + 0xBB67AE85u);
        }

        return c0;
    }
}
