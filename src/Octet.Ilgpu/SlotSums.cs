using ILGPU;

namespace Octet.Ilgpu;

/// <summary>The weighted sums of tokens' slots: within a leaf by ascending slot, over leaves by the tree.</summary>
internal struct SlotSums
{
    /// <summary>Numbers of shared memory that hold a token's order.</summary>
    public const int OrderLength = (2 * MaxTopK) + 1;

    private const int MaxTopK = 16;
    private const int Count = 2 * MaxTopK; // where in an order the number of its pairs lies, behind pairs and leaves

    public ArrayView<ushort> Y;         // [slots, hidden] BF16
    public ArrayView<int> PairSlots;    // [tokens * top_k]; empty: there are none
    public ArrayView<int> PairExperts;  // [tokens * top_k]; empty with one leaf
    public ArrayView<float> Weights;    // [tokens, top_k]
    public long Slots, Stride;
    public int TopK, FirstExpert, LeafExperts, Leaves;

    /// <summary>The pairs of a token in the order they are added, with their leaves: called by the whole group.</summary>
    public readonly void Order(long token, ArrayView<int> order)
    {
        GroupWork.Sync();
        if (Group.IdxX == 0)
        {
            var count = 0;
            for (var choice = 0; choice < TopK; choice++)
            {
                var pair = (token * TopK) + choice;
                var slot = PairSlots[pair];
                var leaf = Leaves == 1 ? 0 : PairExperts[pair] < FirstExpert ? -1 : (PairExperts[pair] - FirstExpert) / LeafExperts;
                if (slot < 0 || slot >= Slots || leaf < 0 || leaf >= Leaves)
                {
                    continue;
                }

                // Stable: of equal slots the lower choice comes first.
                var at = count;
                for (; at > 0 && IsBehind(order, at - 1, token, leaf, slot); at--)
                {
                    order[at] = order[at - 1];
                    order[MaxTopK + at] = order[MaxTopK + at - 1];
                }

                order[at] = choice;
                order[MaxTopK + at] = leaf;
                count++;
            }

            order[Count] = count;
        }

        GroupWork.Sync();
    }

    /// <summary>A column of a token's sum, rounded to BF16.</summary>
    public readonly float Sum(long token, ArrayView<int> order, long column)
    {
        var nodes = default(TreeNodes);
        var next = 0;
        for (var leaf = 0; leaf < Leaves; leaf++)
        {
            var sum = 0f;
            for (; next < order[Count] && order[MaxTopK + next] == leaf; next++)
            {
                var pair = (token * TopK) + order[next];
                sum += Weights[pair] * BFloat16Element.Widen(Y[(PairSlots[pair] * Stride) + column]);
            }

            nodes = nodes.Add(sum);
        }

        return nodes.Root(Leaves);
    }

    private readonly bool IsBehind(ArrayView<int> order, int at, long token, int leaf, int slot) =>
        order[MaxTopK + at] > leaf || (order[MaxTopK + at] == leaf && PairSlots[(token * TopK) + order[at]] > slot);
}

/// <summary>The nodes of a sum's tree that wait for their neighbours, and its root: each rounded to BF16.</summary>
internal struct TreeNodes
{
    private float _one, _two, _four, _eight;
    private int _count;

    /// <summary>With one leaf more.</summary>
    public readonly TreeNodes Add(float leaf)
    {
        var next = this;
        next._count++;
        var node = Round(leaf);
        next._one = (_count & 1) == 0 ? node : _one;
        if ((next._count & 1) == 0)
        {
            node = Round(_one + node);
            next._two = (next._count & 2) != 0 ? node : _two;
        }

        if ((next._count & 3) == 0)
        {
            node = Round(_two + node);
            next._four = (next._count & 4) != 0 ? node : _four;
        }

        if ((next._count & 7) == 0)
        {
            next._eight = Round(_four + node);
        }

        return next;
    }

    /// <summary>What so many leaves end at: 1, 2, 4 or 8.</summary>
    public readonly float Root(int leaves) => leaves == 1 ? _one : leaves == 2 ? _two : leaves == 4 ? _four : _eight;

    private static float Round(float value) => BFloat16Element.Widen(BFloat16Element.Narrow(value, 1f));
}
