using System.Runtime.InteropServices;
using Octet.Inference.Engine;

namespace Octet.Inference.Parallel;

/// <summary>
/// Which data parallel group takes a request: the one with the longest beginning of its prompt, of those that are not overloaded; else the
/// one with the fewest outstanding tokens; else the lowest. Pure: no device, no clock, no lock.
/// </summary>
/// <remarks>
/// It remembers the blocks of the prompts it gave to each group, as many as the group's KV cache has; what the group really keeps of them it
/// does not ask, so a text may be routed to a beginning that is gone, and is then computed like any other.
/// A group is overloaded when it has over <c>imbalance</c> outstanding tokens more than the one with the fewest. So a common beginning does
/// not hold all texts on one group: the next one goes to another group, which has the beginning from then on, too.
/// </remarks>
internal sealed class RequestRouter
{
    /// <summary>Outstanding tokens of a group that takes no requests any more.</summary>
    public const long Lost = long.MaxValue;

    /// <summary>The imbalance of a model's groups, in token budgets of a step.</summary>
    public const int ImbalanceInSteps = 8;

    private readonly int _blockSize;
    private readonly long _imbalance;
    private readonly GivenBlocks[] _given;
    private readonly List<UInt128> _prompt = [];

    /// <param name="groups">Data parallel groups.</param>
    /// <param name="blocks">Blocks of each group's KV cache that can be found again; 0: there is no prefix cache.</param>
    /// <param name="blockSize">Tokens of a block.</param>
    /// <param name="imbalance">Tokens by which a group may have more to do than another and still be chosen for a prompt's beginning.</param>
    public RequestRouter(int groups, int blocks, int blockSize, long imbalance)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(groups, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(blockSize, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(imbalance);
        (_blockSize, _imbalance) = (blockSize, imbalance);
        _given = new GivenBlocks[groups];
        for (var group = 0; group < groups; group++)
        {
            _given[group] = new GivenBlocks(blocks);
        }
    }

    /// <summary>Blocks remembered of all groups.</summary>
    public int Remembered => _given.Sum(given => given.Count);

    /// <summary>Chooses the group of a text and remembers its prompt; -1 where all groups are lost.</summary>
    /// <param name="sequence">The text, of which nothing is computed.</param>
    /// <param name="outstanding">Tokens each group has yet to compute, or <see cref="Lost"/>.</param>
    public int Route(Sequence sequence, ReadOnlySpan<long> outstanding)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(outstanding.Length, _given.Length);
        var least = Lost;
        foreach (var tokens in outstanding)
        {
            least = Math.Min(least, tokens);
        }

        if (least == Lost)
        {
            return -1;
        }

        NameBlocks(sequence);
        var (chosen, longest) = (-1, -1);
        for (var group = 0; group < outstanding.Length; group++)
        {
            if (outstanding[group] == Lost || outstanding[group] - least > _imbalance)
            {
                continue;
            }

            // An evaluation computes all of its text, wherever.
            var length = sequence.IsEvaluation ? 0 : _given[group].LengthOf(_prompt);
            if (length > longest || (length == longest && outstanding[group] < outstanding[chosen]))
            {
                (chosen, longest) = (group, length);
            }
        }

        _given[chosen].Add(_prompt);
        return chosen;
    }

    // The blocks of a prompt that a later text can find: the full ones. With one group there is nothing to choose by them.
    private void NameBlocks(Sequence sequence)
    {
        _prompt.Clear();
        if (_given.Length == 1 || _given[0].Capacity == 0)
        {
            return;
        }

        var prompt = CollectionsMarshal.AsSpan(sequence.Tokens)[..sequence.PromptLength];
        var hash = PrefixHash.Root(sequence.Salt);
        for (var end = _blockSize; end <= prompt.Length; end += _blockSize)
        {
            _prompt.Add(hash = PrefixHash.Next(hash, prompt[(end - _blockSize)..end]));
        }
    }

    /// <summary>The blocks given to one group, those given last; the ones that are given again stay longest.</summary>
    private sealed class GivenBlocks(int capacity)
    {
        private readonly Dictionary<UInt128, LinkedListNode<UInt128>> _places = [];
        private readonly LinkedList<UInt128> _oldestFirst = [];

        public int Capacity => capacity;

        public int Count => _places.Count;

        /// <summary>How many blocks at the beginning of a prompt are there.</summary>
        public int LengthOf(List<UInt128> prompt)
        {
            var length = 0;
            while (length < prompt.Count && _places.ContainsKey(prompt[length]))
            {
                length++;
            }

            return length;
        }

        // The last block first: none is forgotten before those behind it.
        public void Add(List<UInt128> prompt)
        {
            for (var i = Math.Min(prompt.Count, capacity) - 1; i >= 0; i--)
            {
                if (_places.TryGetValue(prompt[i], out var place))
                {
                    _oldestFirst.Remove(place);
                    _oldestFirst.AddLast(place);
                }
                else
                {
                    _places.Add(prompt[i], _oldestFirst.AddLast(prompt[i]));
                }
            }

            while (_places.Count > capacity)
            {
                _places.Remove(_oldestFirst.First!.Value);
                _oldestFirst.RemoveFirst();
            }
        }
    }
}
