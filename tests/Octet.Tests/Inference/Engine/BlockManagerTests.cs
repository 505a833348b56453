using Octet.Inference.Engine;

namespace Octet.Tests.Inference.Engine;

public sealed class BlockManagerTests
{
    private const int Size = 4;

    private readonly List<BlockCopy> _copies = [];

    [Fact]
    public void A_prompt_asked_again_has_all_its_full_blocks_but_never_its_last_token()
    {
        var blocks = new BlockManager(16, Size);
        Release(blocks, Computed(blocks, 1, Text(12)));

        var again = new Sequence(2, Text(12), 20);
        blocks.TakePrefix(again);

        // 12 tokens are three full blocks, of which the last holds the last token.
        Assert.Equal(8, again.Computed);
        blocks.Check([again]);
        Assert.Equal(8, blocks.CachedPrefix(new Sequence(3, Text(12), 20)));
        Assert.Equal(12, blocks.CachedPrefix(new Sequence(3, Text(13), 20)));
    }

    [Fact]
    public void A_salt_separates_equal_prompts()
    {
        var blocks = new BlockManager(16, Size);
        Release(blocks, Computed(blocks, 1, Text(9), salt: "a"));

        Assert.Equal(8, blocks.CachedPrefix(new Sequence(2, Text(9), 20, "a")));
        Assert.Equal(0, blocks.CachedPrefix(new Sequence(2, Text(9), 20, "b")));
        Assert.Equal(0, blocks.CachedPrefix(new Sequence(2, Text(9), 20)));
    }

    [Fact]
    public void Contents_whose_hashes_collide_are_not_mistaken_for_each_other()
    {
        var blocks = new BlockManager(16, Size, hash: static (_, _) => 7);
        Release(blocks, Computed(blocks, 1, [1, 1, 1, 1, 1, 1, 1, 1, 1]));

        Assert.Equal(4, blocks.CachedPrefix(new Sequence(2, [1, 1, 1, 1, 1, 1, 1, 1, 1], 20)));
        Assert.Equal(0, blocks.CachedPrefix(new Sequence(2, [2, 1, 1, 1, 1, 1, 1, 1, 1], 20)));
        Assert.Equal(0, blocks.CachedPrefix(new Sequence(2, [1, 1, 1, 2, 1, 1, 1, 1, 1], 20)));
        Assert.Equal(0, blocks.CachedPrefix(new Sequence(2, [1, 1, 1, 1, 1, 1, 1, 1, 1], 20, "salt")));
    }

    [Fact]
    public void The_content_unused_for_longest_goes_first_and_a_beginning_after_its_end()
    {
        var blocks = new BlockManager(6, Size);
        Release(blocks, Computed(blocks, 1, Text(9, first: 100)));
        Release(blocks, Computed(blocks, 2, Text(9, first: 200)));

        // Two of 100.., two of 200.., two that never were full. A touch makes 100.. the younger.
        Release(blocks, Computed(blocks, 3, Text(9, first: 100)));
        var taker = new Sequence(4, Text(12, first: 300), 20);
        Assert.True(blocks.TryGrow(taker, 12, _copies));

        Assert.Equal(4, blocks.CachedPrefix(new Sequence(5, Text(9, first: 200), 20)));
        Assert.Equal(8, blocks.CachedPrefix(new Sequence(5, Text(9, first: 100), 20)));
    }

    [Fact]
    public void Blocks_of_a_continuation_are_not_findable()
    {
        var blocks = new BlockManager(16, Size);
        var sequence = Computed(blocks, 1, Text(6));
        sequence.Tokens.AddRange([6, 7, 8, 9]);
        Assert.True(blocks.TryGrow(sequence, 4, _copies));
        sequence.Computed += 4;
        blocks.Commit(sequence);
        Release(blocks, sequence);

        Assert.Equal(4, blocks.CachedPrefix(new Sequence(2, Text(10), 20)));
    }

    [Fact]
    public void A_fork_shares_all_blocks_and_copies_the_one_it_writes_into()
    {
        var blocks = new BlockManager(16, Size);
        var parent = Computed(blocks, 1, Text(6));
        var child = new Sequence(2, Text(6), 20);
        blocks.Fork(parent, child);
        Assert.Equal(parent.Blocks, child.Blocks);
        Assert.Equal(14, blocks.Free);

        Assert.Equal(1, blocks.BlocksToGrow(child, 1));
        Assert.True(blocks.TryGrow(child, 1, _copies));
        Assert.Equal([new BlockCopy(parent.Blocks[1], child.Blocks[1])], _copies);
        Assert.Equal(parent.Blocks[0], child.Blocks[0]);

        // The parent is alone with its block now.
        Assert.True(blocks.TryGrow(parent, 1, _copies));
        Assert.Single(_copies);
        blocks.Check([parent, child]);
    }

    [Fact]
    public void What_is_rewound_into_is_no_longer_found_by_the_content_it_had()
    {
        var blocks = new BlockManager(16, Size);
        var sequence = Computed(blocks, 1, Text(9));
        blocks.Rewind(sequence, 6);
        Assert.True(blocks.TryGrow(sequence, 1, _copies));
        sequence.Computed++;

        Assert.Equal(4, blocks.CachedPrefix(new Sequence(2, Text(9), 20)));
        blocks.Check([sequence]);
    }

    [Fact]
    public void Nothing_changes_where_blocks_do_not_suffice()
    {
        var blocks = new BlockManager(3, Size);
        var sequence = Computed(blocks, 1, Text(6));
        Assert.False(blocks.TryGrow(sequence, 7, _copies));
        Assert.Equal(2, sequence.Blocks.Count);
        Assert.Equal(1, blocks.Free);
        Assert.True(blocks.TryGrow(sequence, 6, _copies));
        blocks.Check([sequence]);
    }

    private static int[] Text(int count, int first = 0) => [.. Enumerable.Range(first, count)];

    private static void Release(BlockManager blocks, Sequence sequence)
    {
        blocks.Release(sequence);
        blocks.Check([]);
    }

    // A prompt that was read whole.
    private Sequence Computed(BlockManager blocks, long id, int[] prompt, string? salt = null)
    {
        var sequence = new Sequence(id, prompt, prompt.Length + 20, salt);
        blocks.TakePrefix(sequence);
        Assert.True(blocks.TryGrow(sequence, sequence.Pending, _copies));
        sequence.Computed = prompt.Length;
        blocks.Commit(sequence);
        blocks.Check([sequence]);
        return sequence;
    }
}
