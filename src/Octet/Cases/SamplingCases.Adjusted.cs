namespace Octet.Cases;

/// <summary>
/// What sampling does beside drawing: adjustments of single logits, masks, min-p, and logarithms of the probabilities. That the logits are
/// as before when the op is done, every case checks of its inputs.
/// </summary>
internal static partial class SamplingCases
{
    private const float Untouched = -7;

    private static IEnumerable<Case> AdjustedCases() =>
    [
        Sampling("regular min-p 0.1 8 of 512", 512, 8, _ => new Row(1, 0, 1, 0.1f)),
        Sampling("regular min-p 0.02 of top-p 0.95 of top-k 100 8 of 512", 512, 8, row => new Row(1.5f, 100, 0.95f, row % 2 == 0 ? 0.02f : 0.2f)),
        Sampling("corner min-p 0, 1 and beyond, below 0, NaN", 200, 5, row => new Row(1, 0, 1, row switch { 0 => 0, 1 => 1, 2 => 7, 3 => -1, _ => float.NaN })),
        Sampling("regular adjustments 6 of 300", 300, 6, row => (row % 2 == 0 ? Greedy : Usual) with { Adjustments = Spread(300, 40 + row, i => (1.3f, i % 3 - 1.5f)) }),
        Sampling("regular a penalty divides what is positive and multiplies what is negative", 64, 4, row => Greedy with { Adjustments = [(9, 2, 0), (10, 2, 0)] },
            edit: x => { Array.Fill(x, -3); (x[9], x[64 + 9], x[64 + 11], x[128 + 9], x[128 + 12], x[192 + 10]) = (4, 4, 2.5f, -2, -3.5f, -1); }),
        Sampling("regular rows with adjustments beside rows without", 257, 7, row => row % 3 == 0 ? Usual with { Adjustments = Spread(257, 257, i => (1, i % 5)) } : Usual),
        Sampling("corner more adjustments than threads", 3000, 2, _ => new Row(0.7f, 0, 0.9f) with { Adjustments = Spread(3000, 3000, i => (1 + i % 4 * 0.25f, i % 7 * 0.3f)) }),
        Sampling("corner adjusted tokens outside the vocabulary are skipped", 100, 4, row => (row % 2 == 0 ? Greedy : Usual) with { Adjustments = [(-1, 1, 100), (100, 1, 100), (int.MaxValue, 1, 100), (int.MinValue, 1, 100), (7, 1, 1)] }),
        Sampling("corner biases beyond the floats", 100, 6, row => row switch
        {
            0 => Greedy with { Adjustments = [(3, 1, float.NegativeInfinity), (4, 1, float.PositiveInfinity)] },
            1 => Usual with { Adjustments = [.. Enumerable.Range(0, 99).Select(i => (i, 1f, float.NegativeInfinity))] },
            2 => Usual with { Adjustments = [(50, 1, float.MaxValue), (51, 1, float.MaxValue)] },
            3 => Greedy with { Adjustments = [(50, 1e-38f, 0), (51, 1, -float.MaxValue)] },
            4 => Greedy with { Adjustments = [.. Enumerable.Range(0, 100).Select(i => (i, 1f, float.NegativeInfinity))] },
            _ => new Row(5, 3, 1) with { Adjustments = [.. Enumerable.Range(0, 98).Select(i => (i, 1f, float.NegativeInfinity))] },
        }, edit: x => x[350] = 20),
        Sampling("corner not finite stays so where it is adjusted or masked", 130, 6, row => (row % 2 == 0 ? Greedy : Usual) with
        {
            Adjustments = [(5, 1, float.NegativeInfinity)], Allows = row < 4 ? i => i != 5 && i != 6 : null, Logprobs = 3,
        }, edit: x => { (x[5], x[130 + 5], x[260 + 6], x[390 + 5]) = (float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.NaN); }),
        Sampling("regular masks 8 of 300", 300, 8, row => (row % 2 == 0 ? Greedy : Usual) with { Allows = row % 4 == 3 ? null : i => i % (3 + row) == 1 }),
        Sampling("tail masks of 1, rows 1 apart", 33, 4, row => (row % 2 == 0 ? Greedy : Usual) with { Allows = i => i == 8 * row + 8 }, stride: 34),
        Sampling("corner a mask that allows fewer than top-k, and nothing", 96, 6, row => new Row(row % 2, 20, 0.9f) with { Allows = row < 4 ? i => i is 0 or 31 or 32 or 95 : _ => false, Logprobs = 2 }),
        Sampling("corner a mask keeps the adjusted from being drawn", 96, 4, row => (row % 2 == 0 ? Greedy : Usual) with { Adjustments = [(40, 1, 50), (41, 1, 40)], Allows = i => i != 40 }),
        Sampling("regular logprobs 5 of 300", 300, 5, row => (row % 2 == 0 ? Greedy : Usual) with { Logprobs = row * 5 - 1 }),
        Sampling("regular logprobs of what came, not of what is drawn from", 128, 4, row => new Row(row % 2 * 3, 0, 1) with
        {
            Logprobs = 8, Adjustments = Spread(128, 100, i => (2, i % 9 - 4)), Allows = row < 2 ? null : i => i % 2 == 1,
        }),
        Sampling("corner logprobs of ties, the lowest index first", 70, 2, _ => Greedy with { Logprobs = 6 }, edit: x => { for (var i = 0; i < x.Length; i++) { x[i] = i % 7 == 3 ? 2 : 0.5f; } }),
        Sampling("corner more alternatives than tokens", 3, 2, row => Greedy with { Logprobs = 5 }),
        Sampling("corner logprobs of extreme logits", 200, 3, _ => Greedy with { Logprobs = 4 }, edit: x => { (x[1], x[2], x[201]) = (float.MaxValue, -float.MaxValue, 90); x[250] = -float.MaxValue; }),
        Sampling("model vocabulary 151936, all together", 151_936, 2, row => new Row(0.7f, 20, 0.8f, 0.05f) with
        {
            Logprobs = 20, Adjustments = Spread(151_936, 2000, i => (1.1f, i % 2 * -0.5f)), Allows = row == 0 ? null : i => i % 3 != 0,
        }),
    ];

    // Adjustments of so many tokens, far apart from one another.
    private static (int Token, float Penalty, float Bias)[] Spread(int vocabulary, int count, Func<int, (float Penalty, float Bias)> values) =>
        [.. Enumerable.Range(0, count).Select(i => ((int)((long)i * vocabulary / count), values(i).Penalty, values(i).Bias))];

    // What no row asks for is not given to the op at all.
    private static SamplingArgs Adjusted(CaseContext context, SamplingArgs args, Row[] rows, int vocabulary)
    {
        if (rows.Any(r => r.MinP != 0))
        {
            args = args with { MinP = context.Input(Array.ConvertAll(rows, r => r.MinP), rows.Length) };
        }

        if (rows.Any(r => r.Adjustments.Length > 0))
        {
            // Room for more than there is, as callers have it.
            (int Token, float Penalty, float Bias)[] all = [.. rows.SelectMany(r => r.Adjustments), (0, 1, 1000)];
            int[] starts = [0, .. rows.Select((_, i) => rows.Take(i + 1).Sum(r => r.Adjustments.Length))];
            args = args with
            {
                Adjustments = new LogitAdjustments
                {
                    Starts = context.Input(starts, starts.Length),
                    Tokens = context.Input(Array.ConvertAll(all, a => a.Token), all.Length),
                    Penalties = context.Input(Array.ConvertAll(all, a => a.Penalty), all.Length),
                    Biases = context.Input(Array.ConvertAll(all, a => a.Bias), all.Length),
                },
            };
        }

        if (rows.Any(r => r.Allows is not null))
        {
            // In the order opposite to the rows'.
            Row[] masked = [.. rows.Where(r => r.Allows is not null).Reverse()];
            var width = (vocabulary + 31) / 32;
            var words = new int[masked.Length * width];
            for (var i = 0; i < masked.Length * vocabulary; i++)
            {
                var (mask, token) = (i / vocabulary, i % vocabulary);
                words[mask * width + token / 32] |= masked[mask].Allows!(token) ? 1 << token : 0;
            }

            args = args with
            {
                Masks = new TokenMasks
                {
                    Rows = context.Input(Array.ConvertAll(rows, r => Array.FindIndex(masked, m => ReferenceEquals(m, r))), rows.Length),
                    Words = context.Input(words, masked.Length, width),
                },
            };
        }

        if (rows.Any(r => r.Logprobs >= 0))
        {
            var alternatives = rows.Max(r => r.Logprobs);
            args = args with
            {
                Logprobs = new LogprobOutputs
                {
                    Counts = context.Input(Array.ConvertAll(rows, r => r.Logprobs), rows.Length),
                    Drawn = context.InOut(Enumerable.Repeat(Untouched, rows.Length).ToArray(), rows.Length),
                    Ids = context.InOut(Enumerable.Repeat((int)Untouched, rows.Length * alternatives).ToArray(), rows.Length, alternatives),
                    Values = context.InOut(Enumerable.Repeat(Untouched, rows.Length * alternatives).ToArray(), rows.Length, alternatives),
                },
            };
        }

        return args;
    }

    // log(softmax(x)) of the logits as they came, in f64; the ids are held to the reference by the caller.
    private static void VerifyLogprobs(CaseContext context, SamplingArgs args, float[] logits, int stride, Row[] rows)
    {
        if (args.Logprobs is not { } outputs)
        {
            return;
        }

        var (vocabulary, alternatives) = ((int)args.Logits.Shape[1], (int)outputs.Ids.Shape[1]);
        var drawn = context.Values(args.Ids);
        var (ofDrawn, ids, values) = (new double[rows.Length], new double[rows.Length * alternatives], new double[rows.Length * alternatives]);
        for (var row = 0; row < rows.Length; row++)
        {
            double[] x = [.. logits.AsSpan(row * stride, vocabulary).ToArray().Select(l => (double)l)];
            var isFinite = x.All(double.IsFinite);
            var largest = x.Max();
            var logSum = largest + Math.Log(x.Sum(l => Math.Exp(l - largest)));
            int[] order = isFinite ? [.. Enumerable.Range(0, vocabulary).OrderByDescending(i => x[i])] : [];
            ofDrawn[row] = rows[row].Logprobs < 0 ? Untouched : drawn[row] < 0 ? double.NaN : x[(int)drawn[row]] - logSum;
            for (var i = 0; i < alternatives; i++)
            {
                var (place, exists) = (row * alternatives + i, i < order.Length);
                ids[place] = i >= rows[row].Logprobs ? Untouched : exists ? order[i] : -1;
                values[place] = i >= rows[row].Logprobs ? Untouched : exists ? x[order[i]] - logSum : isFinite ? double.NegativeInfinity : double.NaN;
            }
        }

        context.Equal<double>("top ids", context.Values(outputs.Ids), ids);
        context.Compare("logprobs of the tokens drawn", outputs.Drawn, ofDrawn, 1e-11);
        context.Compare("logprobs of the most likely tokens", outputs.Values, values, 1e-11);
    }
}
