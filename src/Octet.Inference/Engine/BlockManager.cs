using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>A block to copy before a step: a text that shares it is about to write.</summary>
internal readonly record struct BlockCopy(int Source, int Destination);

/// <summary>The 128-bit name of a block's content: that of the block before it, and its tokens.</summary>
internal delegate UInt128 BlockHash(UInt128 parent, ReadOnlySpan<int> tokens);

/// <summary>
/// Who holds which KV block. Blocks are counted, not owned: texts with the same beginning share the blocks of it. Full blocks of prompts
/// stay findable by their content after the last text has let go of them, until the block is needed: the one unused for longest first.
/// Pure: no device, no clock, no lock.
/// </summary>
/// <remarks>
/// A block is found by a hash of all tokens up to its end, and taken only if its tokens and the block before it are the very ones: the
/// hash may collide, the content cannot. As whoever uses a block uses the blocks before it, and lets go of the later ones first, a block
/// is never taken away before those that follow it.
/// </remarks>
internal sealed class BlockManager
{
    private const int None = -1;

    private readonly int _blockSize;
    private readonly bool _shares;
    private readonly BlockHash _hash;
    private readonly Block[] _blocks;
    private readonly Dictionary<UInt128, int> _byContent = [];

    // Blocks nobody holds, in the order in which they are taken: a list through the blocks, so that one can leave it anywhere.
    private int _firstFree = None;
    private int _lastFree = None;
    private long _contents;

    /// <param name="count">Blocks in all.</param>
    /// <param name="blockSize">Tokens of a block.</param>
    /// <param name="shares">Whether blocks are found by content.</param>
    /// <param name="hash">Names content; null: <see cref="PrefixHash"/>.</param>
    public BlockManager(int count, int blockSize, bool shares = true, BlockHash? hash = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(blockSize, 1);
        (_blockSize, _shares, _hash) = (blockSize, shares, hash ?? PrefixHash.Next);
        _blocks = new Block[count];
        for (var i = 0; i < count; i++)
        {
            _blocks[i].Content = [];
            PushFree(i, first: false);
        }
    }

    /// <summary>Blocks in all.</summary>
    public int Count => _blocks.Length;

    /// <summary>Tokens of a block.</summary>
    public int BlockSize => _blockSize;

    /// <summary>Blocks nobody holds, those included that are still findable.</summary>
    public int Free { get; private set; }

    /// <summary>Blocks nobody holds that are still findable.</summary>
    public int Cached { get; private set; }

    /// <summary>Blocks that hold so many tokens.</summary>
    public int BlocksFor(long tokens) => (ulong)tokens <= int.MaxValue
        ? (int)(((uint)tokens + (uint)_blockSize - 1) / (uint)_blockSize)
        : checked((int)((tokens + _blockSize - 1) / _blockSize));

    /// <summary>Tokens at the beginning of a prompt that are cached. The last token is never among them: its logits are wanted.</summary>
    public int CachedPrefix(Sequence sequence) => Find(sequence, take: false);

    /// <summary>Gives a sequence without blocks the cached beginning of its prompt; its tokens count as computed.</summary>
    public void TakePrefix(Sequence sequence)
    {
        if (sequence.Blocks.Count + sequence.Computed > 0)
        {
            throw new InvalidOperationException($"{sequence} has a beginning already");
        }

        sequence.Computed = Find(sequence, take: true);
    }

    /// <summary>Blocks that must be free for the next tokens of a sequence: new ones, and a copy where it would write into a shared one.</summary>
    public int BlocksToGrow(Sequence sequence, int tokens) =>
        Math.Max(0, BlocksFor((long)sequence.Computed + tokens) - sequence.Blocks.Count) + (tokens > 0 && WritesShared(sequence) ? 1 : 0);

    /// <summary>Gives a sequence what its next tokens need; false, and nothing changed, where not enough blocks are free.</summary>
    /// <param name="sequence">Any that holds its computed tokens.</param>
    /// <param name="tokens">Tokens it will compute.</param>
    /// <param name="copies">Told of the block to copy before, where one is shared.</param>
    public bool TryGrow(Sequence sequence, int tokens, List<BlockCopy> copies)
    {
        if (LastBlockTakes(sequence, tokens))
        {
            return true;
        }

        if (BlocksToGrow(sequence, tokens) > Free)
        {
            return false;
        }

        if (tokens > 0)
        {
            OwnWrittenBlock(sequence, copies);
        }

        TakeUpTo(sequence, BlocksFor((long)sequence.Computed + tokens));
        return true;
    }

    /// <summary>Gives a sequence this many blocks of undefined content, for what comes back from host memory.</summary>
    public bool TryTake(Sequence sequence, int count)
    {
        if (count > Free)
        {
            return false;
        }

        TakeUpTo(sequence, sequence.Blocks.Count + count);
        return true;
    }

    /// <summary>Makes the full, computed blocks of a sequence's prompt findable.</summary>
    public void Commit(Sequence sequence)
    {
        if (!_shares)
        {
            return;
        }

        var full = Math.Min(sequence.Computed, sequence.PromptLength) / _blockSize;
        var first = full;
        while (first > 0 && _blocks[sequence.Blocks[first - 1]].Id == 0)
        {
            first--;
        }

        for (var i = first; i < full; i++)
        {
            if (!Name(sequence, i))
            {
                return;
            }
        }
    }

    /// <summary>Lets a text begin as another one is so far: they share all blocks.</summary>
    public void Fork(Sequence parent, Sequence child)
    {
        foreach (var block in parent.Blocks)
        {
            Hold(block);
            child.Blocks.Add(block);
        }

        child.Computed = parent.Computed;
    }

    /// <summary>Lets go of the blocks behind the first computed tokens.</summary>
    public void Rewind(Sequence sequence, int computed)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(computed, sequence.Computed);
        sequence.Computed = computed;
        Drop(sequence, BlocksFor(computed));
    }

    /// <summary>Lets go of all blocks.</summary>
    public void Release(Sequence sequence)
    {
        Drop(sequence, 0);
        sequence.Computed = 0;
    }

    /// <summary>Throws where the books do not balance; for tests, after every step.</summary>
    /// <param name="holders">All sequences that may hold blocks.</param>
    public void Check(IEnumerable<Sequence> holders)
    {
        var held = new int[_blocks.Length];
        foreach (var sequence in holders)
        {
            Require(sequence.Computed <= (long)(sequence.Blocks.Count + sequence.SwappedBlocks) * _blockSize, $"{sequence} has more computed than its blocks hold");
            sequence.Blocks.ForEach(block => held[block]++);
        }

        var free = new HashSet<int>();
        for (var block = _firstFree; block != None; block = _blocks[block].Next)
        {
            Require(free.Add(block), $"block {block} is free twice");
        }

        Require(free.Count == Free, $"{Free} blocks are said to be free, {free.Count} are");
        Require(free.Count(block => _blocks[block].Id != 0) == Cached, $"{Cached} blocks are said to be cached");
        for (var block = 0; block < held.Length; block++)
        {
            Require(_blocks[block].Holders == held[block], $"block {block} counts {_blocks[block].Holders} holders, {held[block]} hold it");
            Require(free.Contains(block) == (held[block] == 0), $"block {block} has {held[block]} holders, free: {free.Contains(block)}");
        }

        foreach (var (hash, block) in _byContent)
        {
            Require(_blocks[block].Id != 0 && _blocks[block].Hash == hash, $"block {block} is found under a content it does not have");
            Require(_blocks[block].Content.Length == _blockSize, $"block {block} is findable with {_blocks[block].Content.Length} tokens");
        }

        Require(_blocks.Count(block => block.Id != 0) == _byContent.Count, "a block has content that is not findable");
    }

    private static void Require(bool condition, string problem)
    {
        if (!condition)
        {
            throw new InvalidOperationException(problem);
        }
    }

    private int Find(Sequence sequence, bool take)
    {
        var tokens = CollectionsMarshal.AsSpan(sequence.Tokens);
        var most = _shares ? (sequence.PromptLength - 1) / _blockSize : 0;
        var (found, hash, parent) = (0, PrefixHash.Root(sequence.Salt), 0L);

        // What is computed is not looked for again: a block with a name follows blocks with names.
        var computed = sequence.Computed / _blockSize;
        if (computed > 0 && _blocks[sequence.Blocks[computed - 1]] is { Id: not 0 } last)
        {
            (found, hash, parent) = (computed, last.Hash, last.Id);
        }

        while (found < most)
        {
            var own = tokens.Slice(found * _blockSize, _blockSize);
            hash = _hash(hash, own);
            if (!_byContent.TryGetValue(hash, out var block) || !_blocks[block].Is(parent, sequence.Salt, own))
            {
                break;
            }

            if (take)
            {
                Hold(block);
                sequence.Blocks.Add(block);
            }

            parent = _blocks[block].Id;
            found++;
        }

        return found * _blockSize;
    }

    // Gives block number i of a prompt its name; false where another block has this content already: then this one stays unnamed, and so
    // do those behind it, which would follow a block that nobody finds.
    private bool Name(Sequence sequence, int i)
    {
        ref var block = ref _blocks[sequence.Blocks[i]];
        var before = i > 0 ? _blocks[sequence.Blocks[i - 1]] : default;
        if (i > 0 && before.Id == 0)
        {
            return false;
        }

        var tokens = CollectionsMarshal.AsSpan(sequence.Tokens).Slice(i * _blockSize, _blockSize);
        var hash = _hash(i > 0 ? before.Hash : PrefixHash.Root(sequence.Salt), tokens);
        if (!_byContent.TryAdd(hash, sequence.Blocks[i]))
        {
            return false;
        }

        (block.Hash, block.Id, block.Parent, block.Salt, block.Content) = (hash, ++_contents, before.Id, sequence.Salt, tokens.ToArray());
        return true;
    }

    private void Forget(int index)
    {
        ref var block = ref _blocks[index];
        if (block.Id != 0)
        {
            _byContent.Remove(block.Hash);
            (block.Id, block.Salt, block.Content) = (0, null, []);
        }
    }

    // What most steps find of most texts: room in the last block, which nobody else holds and nobody finds.
    private bool LastBlockTakes(Sequence sequence, int tokens)
    {
        var end = (long)sequence.Blocks.Count * _blockSize;
        if (end == 0 || sequence.Computed < end - _blockSize || sequence.Computed + (long)tokens > end)
        {
            return false;
        }

        ref readonly var last = ref _blocks[sequence.Blocks[^1]];
        return last.Holders == 1 && last.Id == 0;
    }

    private bool WritesShared(Sequence sequence) =>
        sequence.Computed % _blockSize != 0 && _blocks[sequence.Blocks[sequence.Computed / _blockSize]].Holders > 1;

    // The block that the next token goes into must be this sequence's alone, and no longer pass for the content it had.
    private void OwnWrittenBlock(Sequence sequence, List<BlockCopy> copies)
    {
        if (sequence.Computed % _blockSize == 0)
        {
            return;
        }

        var place = sequence.Computed / _blockSize;
        var block = sequence.Blocks[place];
        if (_blocks[block].Holders > 1)
        {
            _blocks[block].Holders--;
            sequence.Blocks[place] = Take();
            copies.Add(new BlockCopy(block, sequence.Blocks[place]));
        }
        else
        {
            Forget(block);
        }
    }

    private void TakeUpTo(Sequence sequence, int count)
    {
        while (sequence.Blocks.Count < count)
        {
            sequence.Blocks.Add(Take());
        }
    }

    private int Take()
    {
        var block = _firstFree;
        RemoveFree(block);
        Forget(block);
        _blocks[block].Holders = 1;
        return block;
    }

    private void Hold(int block)
    {
        if (_blocks[block].Holders++ == 0)
        {
            RemoveFree(block);
        }
    }

    private void Drop(Sequence sequence, int keep)
    {
        for (var i = sequence.Blocks.Count - 1; i >= keep; i--)
        {
            var block = sequence.Blocks[i];
            if (--_blocks[block].Holders == 0)
            {
                PushFree(block, first: _blocks[block].Id == 0);
            }
        }

        sequence.Blocks.RemoveRange(keep, sequence.Blocks.Count - keep);
    }

    private void PushFree(int index, bool first)
    {
        ref var block = ref _blocks[index];
        (block.Previous, block.Next) = first ? (None, _firstFree) : (_lastFree, None);
        (block.Next == None ? ref _lastFree : ref _blocks[block.Next].Previous) = index;
        (block.Previous == None ? ref _firstFree : ref _blocks[block.Previous].Next) = index;
        Free++;
        Cached += block.Id != 0 ? 1 : 0;
    }

    private void RemoveFree(int index)
    {
        var block = _blocks[index];
        (block.Previous == None ? ref _firstFree : ref _blocks[block.Previous].Next) = block.Next;
        (block.Next == None ? ref _lastFree : ref _blocks[block.Next].Previous) = block.Previous;
        Free--;
        Cached -= block.Id != 0 ? 1 : 0;
    }

    private struct Block
    {
        public int Holders;
        public int Previous;
        public int Next;

        // Of findable blocks: a number no other content had or will have, that of the block before, and what the block holds. Id 0: not findable.
        public long Id;
        public long Parent;
        public UInt128 Hash;
        public string? Salt;
        public int[] Content;

        public readonly bool Is(long parent, string? salt, ReadOnlySpan<int> tokens) =>
            Parent == parent && Salt == salt && tokens.SequenceEqual(Content);
    }
}
