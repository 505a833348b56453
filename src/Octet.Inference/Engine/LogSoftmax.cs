namespace Octet.Inference.Engine;

/// <summary>log(softmax(logits)) of a row of logits on the host, in f64.</summary>
internal static class LogSoftmax
{
    /// <summary>What is to be subtracted from each logit: log(sum of exp(logit)).</summary>
    public static double LogSum(ReadOnlySpan<float> logits)
    {
        double largest = float.NegativeInfinity, total = 0;
        foreach (var logit in logits)
        {
            largest = Math.Max(largest, logit);
        }

        foreach (var logit in logits)
        {
            total += Math.Exp(logit - largest);
        }

        return largest + Math.Log(total);
    }

    /// <summary>Of one token, and of the most likely ones.</summary>
    public static TokenLogprobs Of(ReadOnlySpan<float> logits, int token, int alternatives)
    {
        var sum = LogSum(logits);
        var mostLikely = new List<TokenLogprob>(alternatives);
        for (var count = Math.Min(alternatives, logits.Length); mostLikely.Count < count;)
        {
            // The largest of those behind the one before; ties: the lowest id first.
            var (last, value) = mostLikely.Count > 0 ? (mostLikely[^1].Id, logits[mostLikely[^1].Id]) : (-1, float.PositiveInfinity);
            var next = -1;
            for (var i = 0; i < logits.Length; i++)
            {
                if ((logits[i] < value || (logits[i] == value && i > last)) && (next < 0 || logits[i] > logits[next]))
                {
                    next = i;
                }
            }

            mostLikely.Add(new TokenLogprob(next, (float)(logits[next] - sum)));
        }

        return new TokenLogprobs((float)(logits[token] - sum), mostLikely);
    }
}
