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
        var order = new int[Math.Min(alternatives, logits.Length)];
        var found = 0;
        for (var i = 0; i < logits.Length && order.Length > 0; i++)
        {
            // Behind those at least as large: of equal ones, the lowest id comes first.
            if (found < order.Length || logits[i] > logits[order[^1]])
            {
                var place = found < order.Length ? found++ : found - 1;
                for (; place > 0 && logits[i] > logits[order[place - 1]]; place--)
                {
                    order[place] = order[place - 1];
                }

                order[place] = i;
            }
        }

        var mostLikely = new TokenLogprob[found];
        for (var i = 0; i < found; i++)
        {
            mostLikely[i] = new TokenLogprob(order[i], (float)(logits[order[i]] - sum));
        }

        return new TokenLogprobs((float)(logits[token] - sum), mostLikely);
    }
}
