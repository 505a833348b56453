using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>
/// The adjustments of one text's logits as it grows: which tokens it has and how often, and which have a bias. Proposed tokens count for
/// the positions behind them and are forgotten with the next call, so that a text has the same adjustments with proposals as without.
/// </summary>
internal sealed class TokenAdjustments
{
    private readonly SamplingParams _sampling;
    private readonly List<Entry> _entries = [];
    private readonly Dictionary<int, int> _places = [];
    private readonly List<int> _proposed = [];
    private int _counted;

    public TokenAdjustments(SamplingParams sampling)
    {
        _sampling = sampling;
        foreach (var (token, bias) in sampling.Biases)
        {
            EntryOf(token).Bias = bias;
        }

        if (sampling.MinTokens > 0)
        {
            foreach (var token in sampling.EndTokens)
            {
                EntryOf(token).IsEnd = true;
            }
        }
    }

    /// <summary>Appends the adjustments for the draw behind the first tokens of a text: its own, and those proposed to follow.</summary>
    /// <param name="sequence">The text.</param>
    /// <param name="position">How many tokens, at least all of its own.</param>
    /// <param name="tokens">Which logits.</param>
    /// <param name="penalties">What they are divided by.</param>
    /// <param name="biases">What is added.</param>
    public void Write(Sequence sequence, int position, List<int> tokens, List<float> penalties, List<float> biases)
    {
        Count(sequence, position);
        var ends = position - sequence.PromptLength >= _sampling.MinTokens;
        foreach (ref readonly var entry in CollectionsMarshal.AsSpan(_entries))
        {
            var penalty = entry.Count > 0 ? _sampling.RepetitionPenalty : 1;
            var bias = entry.IsEnd && !ends
                ? float.NegativeInfinity
                : entry.Bias - _sampling.FrequencyPenalty * entry.Generated - (entry.Generated > 0 ? _sampling.PresencePenalty : 0);
            if (penalty != 1 || bias != 0)
            {
                tokens.Add(entry.Token);
                penalties.Add(penalty);
                biases.Add(bias);
            }
        }
    }

    private void Count(Sequence sequence, int position)
    {
        if (!_sampling.CountsTokens)
        {
            return;
        }

        foreach (var token in _proposed)
        {
            Add(token, isGenerated: true, -1);
        }

        _proposed.Clear();
        for (; _counted < sequence.Tokens.Count; _counted++)
        {
            // A prompt matters to the repetition penalty alone.
            var isGenerated = _counted >= sequence.PromptLength;
            if (isGenerated || _sampling.RepetitionPenalty != 1)
            {
                Add(sequence.Tokens[_counted], isGenerated, 1);
            }
        }

        for (var i = 0; i < position - sequence.Tokens.Count; i++)
        {
            _proposed.Add(sequence.Proposals[i]);
            Add(sequence.Proposals[i], isGenerated: true, 1);
        }
    }

    private void Add(int token, bool isGenerated, int times)
    {
        ref var entry = ref EntryOf(token);
        entry.Count += times;
        entry.Generated += isGenerated ? times : 0;
    }

    private ref Entry EntryOf(int token)
    {
        if (!_places.TryGetValue(token, out var place))
        {
            place = _entries.Count;
            _places.Add(token, place);
            _entries.Add(new Entry { Token = token });
        }

        return ref CollectionsMarshal.AsSpan(_entries)[place];
    }

    private struct Entry
    {
        public int Token;
        public int Count;
        public int Generated;
        public float Bias;
        public bool IsEnd;
    }
}
