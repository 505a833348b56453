namespace Octet;

/// <summary>
/// The order of a sum that ranks can share, on one device too: it is cut into equal leaves, which are added in pairs of neighbours,
/// ((0+1)+(2+3))+((4+5)+(6+7)), and every node, leaves included, is rounded to BF16 once. A rank that holds neighbouring leaves gives the
/// node they end at, so what crosses a link is BF16 and the bits are the same for 1, 2, 4 and 8 ranks.
/// </summary>
internal static class SumTree
{
    /// <summary>Most leaves, so most ranks that share a sum without changing its bits.</summary>
    public const int MaxLeaves = 8;

    /// <summary>Leaves of a product's sum over k: the largest of 8, 4, 2, 1 that cuts k into whole blocks of 128.</summary>
    public static int LeavesOfProduct(long k) => k > 0 && k % Float8.Block == 0 ? LeavesOf(k / Float8.Block) : 1;

    /// <summary>Leaves of the sum over a token's experts: the largest of 8, 4, 2, 1 that divides the layer's experts.</summary>
    public static int LeavesOfExperts(int experts) => LeavesOf(experts);

    /// <summary>Whether a sum can have so many leaves.</summary>
    public static bool IsLeafCount(int leaves) => leaves is 1 or 2 or 4 or 8;

    /// <summary>The node above two.</summary>
    public static BFloat16 Node(BFloat16 left, BFloat16 right) => (BFloat16)((float)left + right);

    /// <summary>What the tree over leaves, a power of two of them, ends at.</summary>
    public static BFloat16 Root(ReadOnlySpan<BFloat16> leaves) =>
        leaves.Length == 1 ? leaves[0] : Node(Root(leaves[..(leaves.Length / 2)]), Root(leaves[(leaves.Length / 2)..]));

    private static int LeavesOf(long parts) => parts % 8 == 0 ? 8 : parts % 4 == 0 ? 4 : parts % 2 == 0 ? 2 : 1;
}
