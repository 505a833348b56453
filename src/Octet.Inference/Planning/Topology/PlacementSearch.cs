namespace Octet.Inference.Planning.Topology;

/// <summary>Branch and bound over all ways to put groups of one size on GPUs, least sum of pair scores first found in ordinal order.</summary>
internal sealed class PlacementSearch
{
    private readonly int[,] _pairs;
    private readonly int _size;
    private readonly int _mostVisits;
    private readonly int _leastPair;
    private readonly int[][] _groups;
    private readonly bool[] _used;
    private int[][] _best;
    private long _bestScore;
    private int _visits;

    public PlacementSearch(int[,] pairs, int groups, int size, int mostVisits)
    {
        (_pairs, _size, _mostVisits) = (pairs, size, mostVisits);
        _groups = [.. Enumerable.Range(0, groups).Select(_ => new int[size])];
        _used = new bool[pairs.GetLength(0)];
        _leastPair = int.MaxValue;
        for (int i = 0; i < _used.Length; i++)
        {
            for (int j = 0; j < i; j++)
            {
                _leastPair = Math.Min(_leastPair, pairs[i, j]);
            }
        }
        // A greedy start bounds the search from its first branch; one more, so that an equal in better order still replaces it.
        _best = Greedy();
        _bestScore = _best.Sum(Score) + 1;
    }

    /// <summary>Whether every split was weighed or ruled out.</summary>
    public bool Complete => _visits <= _mostVisits;

    public int[][] Run()
    {
        Extend(0, 0, 0, 0);
        return _best;
    }

    private void Extend(int group, int member, int from, long score)
    {
        if (++_visits > _mostVisits)
        {
            return;
        }
        if (group == _groups.Length)
        {
            (_best, _bestScore) = ([.. _groups.Select(g => g.ToArray())], score);
            return;
        }
        for (int gpu = from; gpu < _used.Length; gpu++)
        {
            if (_used[gpu])
            {
                continue;
            }
            long added = score;
            for (int i = 0; i < member; i++)
            {
                added += _pairs[_groups[group][i], gpu];
            }
            if (added + (long)PairsLeft(group, member + 1) * _leastPair >= _bestScore)
            {
                continue;
            }
            _used[gpu] = true;
            _groups[group][member] = gpu;
            if (member + 1 == _size)
            {
                // Groups are interchangeable: the next one's first GPU comes after this one's.
                Extend(group + 1, 0, _groups[group][0] + 1, added);
            }
            else
            {
                Extend(group, member + 1, gpu + 1, added);
            }
            _used[gpu] = false;
        }
    }

    private int PairsLeft(int group, int members)
    {
        int whole = _size * (_size - 1) / 2;
        return (_groups.Length - group) * whole - members * (members - 1) / 2;
    }

    private int[][] Greedy()
    {
        bool[] taken = new bool[_used.Length];
        var groups = new List<int[]>();
        for (int g = 0; g < _groups.Length; g++)
        {
            var group = new List<int> { Array.IndexOf(taken, false) };
            taken[group[0]] = true;
            while (group.Count < _size)
            {
                int nearest = Enumerable.Range(0, taken.Length).Where(gpu => !taken[gpu]).MinBy(gpu => group.Sum(other => _pairs[other, gpu]));
                group.Add(nearest);
                taken[nearest] = true;
            }
            group.Sort();
            groups.Add([.. group]);
        }
        return [.. groups];
    }

    private long Score(int[] group)
    {
        long score = 0;
        for (int i = 0; i < group.Length; i++)
        {
            for (int j = 0; j < i; j++)
            {
                score += _pairs[group[i], group[j]];
            }
        }
        return score;
    }
}
