namespace Octet.Inference.Engine;

/// <summary>
/// Which sequences advance by how many tokens in each step. Pure: no device, no clock, no lock.
/// </summary>
/// <remarks>
/// The policy, in the order in which a step is filled:
/// 1. Every text that is being continued gets one token, the oldest first. Where blocks run out, the newest running sequence is preempted:
///    in its prompt it lets go of its blocks and computes them again later; behind it, its blocks wait in host memory, as a continuation's
///    K and V computed again as a prompt may differ in the last bit.
/// 2. The oldest waiting sequence is admitted while its prompt fits beside one more block for each running sequence; nobody overtakes it. A
///    prompt has all its blocks from its admission on.
/// 3. What is left of the token budget goes to prompts: up to half of it to those that end within it, so that a short one need not wait for
///    all of a long one, the rest to the oldest.
/// So of what runs the oldest always advances, and since no sequence may outgrow the pool alone, all end. Older is what has the lower priority
/// number, and of those what came first.
/// </remarks>
internal sealed partial class Scheduler(SchedulerOptions options, BlockManager blocks)
{
    private readonly LinkedList<Sequence> _waiting = [];
    private readonly List<Sequence> _running = [];

    // Those that hold blocks and take no part in steps: paused, or back in the queue.
    private readonly List<Sequence> _idle = [];
    private readonly StepPlan _plan = new();

    // Blocks that those who hold some may yet take, while the queue is looked at and all is reserved.
    private int _outstanding;
    private readonly int _budget = Math.Max(options.TokenBudget, options.MaxSequences * (1 + options.Proposals) + 1);

    /// <summary>Fills the proposals of a sequence, at most as many as given, and gives their number.</summary>
    public Func<Sequence, int, int> Propose { get; init; } = PromptLookup.Propose;

    /// <summary>The KV blocks.</summary>
    public BlockManager Blocks => blocks;

    /// <summary>Sequences in the queue.</summary>
    public int Waiting => _waiting.Count;

    /// <summary>Sequences that take part in steps.</summary>
    public int Running => _running.Count;

    /// <summary>Times a sequence was preempted.</summary>
    public long Preemptions { get; private set; }

    /// <summary>Most tokens of a step.</summary>
    public int TokenBudget => _budget;

    /// <summary>Puts a sequence into the queue, behind those that go before it.</summary>
    /// <exception cref="ArgumentException">It, with its siblings, could outgrow the pool or the bounds even alone.</exception>
    public void Add(Sequence sequence)
    {
        var texts = 1 + sequence.Siblings.Count;
        if ((options.ReserveAll ? (long)texts : 1) * WorstBlocks(sequence) > blocks.Count)
        {
            throw new ArgumentException(
                $"prompt and continuation may take {sequence.Limit} tokens{(texts > 1 ? $" in each of {texts} texts" : "")}, "
                + $"the KV cache holds {(long)blocks.Count * blocks.BlockSize}: raise its size or lower the number of new tokens");
        }

        if (texts > options.MaxSequences)
        {
            throw new ArgumentException($"{texts} texts from one prompt are more than the {options.MaxSequences} that run together");
        }

        Queue(sequence);
    }

    /// <summary>Takes a sequence out, wherever it is; its blocks are free at once.</summary>
    public void Remove(Sequence sequence)
    {
        if (sequence.Queued is { } place)
        {
            _waiting.Remove(place);
            sequence.Queued = null;
        }

        _running.Remove(sequence);
        _idle.Remove(sequence);
        blocks.Release(sequence);
        sequence.SwappedBlocks = 0;
        sequence.Status = SequenceStatus.Finished;
    }

    /// <summary>Decides the next step; null where nothing can advance. Valid until the next call.</summary>
    public StepPlan? Schedule()
    {
        _plan.Clear();
        Continue();
        Admit();
        _plan.DecodeRows = _plan.Rows.Count;
        ReadPrompts();
        if (_plan.Tokens > 0)
        {
            return _plan;
        }

        // With all reserved, texts that wait for their owner may keep the others waiting.
        return _running.Count + _waiting.Count == 0 || (options.ReserveAll && _idle.Count > 0) ? null : throw new InvalidOperationException(
            $"no sequence advances: {blocks.Free} of {blocks.Count} blocks free; {string.Join("; ", _running.Concat(_idle).Concat(_waiting).Take(8))}");
    }

    /// <summary>
    /// Takes note that a step was computed, and of the tokens drawn: for each row its draws. Proposals count as computed as far as the draws
    /// confirm them. Siblings begin.
    /// </summary>
    /// <param name="plan">The step.</param>
    /// <param name="accepted">For each row how many of its tokens count: all but refuted proposals.</param>
    public void Commit(StepPlan plan, ReadOnlySpan<int> accepted)
    {
        for (var i = 0; i < plan.Rows.Count; i++)
        {
            var (sequence, start, _, _) = plan.Rows[i];
            if (sequence.Status == SequenceStatus.Finished)
            {
                continue;
            }

            sequence.Computed = start + accepted[i];
            if (i >= plan.DecodeRows)
            {
                blocks.Commit(sequence);
                BeginSiblings(sequence);
            }

            if (sequence.Pending == 0 && sequence.IsStepped)
            {
                _running.Remove(sequence);
                _idle.Add(sequence);
                sequence.Status = SequenceStatus.Paused;
            }
        }
    }

    // 1: one token, and what is proposed to follow it, for every text that is being continued. Prompts have their blocks, but for those that
    // an owner appended to a text.
    private void Continue()
    {
        var proposes = options.Proposals > 0 && AllAreLonger(options.Proposals);
        for (var i = 0; i < _running.Count; i++)
        {
            var sequence = _running[i];
            var proposed = proposes && !sequence.IsPrefilling && !sequence.IsStepped
                ? Propose(sequence, Math.Min(options.Proposals, sequence.Limit - sequence.Length - 1))
                : 0;
            var count = sequence.Pending + proposed;
            while (!blocks.TryGrow(sequence, count, _plan.Copies))
            {
                // Proposals are never worth a preemption.
                if (proposed > 0)
                {
                    (count, proposed) = (sequence.Pending, 0);
                    continue;
                }

                if (PreemptNewest() == sequence)
                {
                    return;
                }
            }

            if (!sequence.IsPrefilling)
            {
                _plan.Add(new ScheduledRow(sequence, sequence.Computed, count, sequence.IsStepped ? 0 : 1));
            }
        }
    }

    // Continuations of a step are computed with equally many tokens each, so the shortest must have as many.
    private bool AllAreLonger(int tokens)
    {
        bool IsLonger(Sequence sequence) => sequence.Computed == 0 || sequence.IsPrefilling || sequence.Length > tokens;
        return _running.TrueForAll(IsLonger) && _waiting.All(IsLonger);
    }

    // 2: the queue.
    private void Admit()
    {
        _outstanding = options.ReserveAll && _waiting.Count > 0 ? OutstandingBlocks() : 0;
        var holders = Holders;
        while (_waiting.First?.Value is { } sequence && holders + 1 + sequence.Siblings.Count <= options.MaxSequences
            && (TryStart(sequence) || TryStartInPlaceOfIdle(sequence)))
        {
            _waiting.RemoveFirst();
            var held = _idle.Remove(sequence);
            sequence.Queued = null;
            Run(sequence);
            holders += 1 + sequence.Siblings.Count;
            if (options.ReserveAll)
            {
                _outstanding = held ? OutstandingBlocks() : _outstanding + OutstandingBlocks(sequence);
            }

            if (!sequence.IsPrefilling)
            {
                // Back from host memory or from its owner: it goes on at once.
                _plan.Add(new ScheduledRow(sequence, sequence.Computed, sequence.Pending, sequence.IsStepped ? 0 : 1));
            }
        }
    }

    // 3: chunks of prompts.
    private void ReadPrompts()
    {
        var first = _running.FindIndex(sequence => sequence.IsPrefilling);
        if (first < 0)
        {
            return;
        }

        var half = _plan.Tokens + (_budget - _plan.Tokens) / 2;
        var ahead = _plan.Rows.Count;
        for (var i = first + 1; i < _running.Count && _plan.Tokens < half; i++)
        {
            if (_running[i] is { IsPrefilling: true } sequence && ChunkOf(sequence) is var count && count <= half - _plan.Tokens
                && count == sequence.Pending)
            {
                AddChunk(sequence, count);
            }
        }

        for (var i = first; i < _running.Count && _plan.Tokens < _budget; i++)
        {
            if (_running[i] is { IsPrefilling: true } sequence && !IsAdded(sequence, ahead))
            {
                AddChunk(sequence, Math.Min(ChunkOf(sequence), _budget - _plan.Tokens));
            }
        }
    }

    private bool IsAdded(Sequence sequence, int from)
    {
        for (var i = from; i < _plan.Rows.Count; i++)
        {
            if (_plan.Rows[i].Sequence == sequence)
            {
                return true;
            }
        }

        return false;
    }

    // The most of a prompt that one step computes. Another one that begins alike may have come further meanwhile.
    private int ChunkOf(Sequence sequence)
    {
        if (sequence.Computed < sequence.PromptLength && !sequence.WantsPromptLogits && blocks.CachedPrefix(sequence) - sequence.Computed is var more
            && more > 0)
        {
            blocks.Release(sequence);
            blocks.TakePrefix(sequence);
            blocks.TryGrow(sequence, sequence.Pending, _plan.Copies);
            _plan.CachedTokens += more;
            sequence.CachedTokens += more;
        }

        return Math.Min(sequence.PrefillEnd - sequence.Computed, sequence.MaxChunk);
    }

    private void AddChunk(Sequence sequence, int count)
    {
        var draws = count == sequence.Pending && !sequence.IsStepped && !sequence.IsEvaluation;
        _plan.Recomputed += Math.Clamp(sequence.Forgotten - sequence.Computed, 0, count);
        _plan.Add(new ScheduledRow(sequence, sequence.Computed, count, draws ? 1 + sequence.Siblings.Count : 0));
    }

    // Texts that wait for their owner must not keep the pool from those that could advance.
    private bool TryStartInPlaceOfIdle(Sequence sequence)
    {
        while (_running.Count == 0 && _idle.Count > 0 && !options.ReserveAll)
        {
            PreemptNewest();
            if (TryStart(sequence))
            {
                return true;
            }
        }

        return false;
    }

    private bool TryStart(Sequence sequence)
    {
        // One more block for each that runs: what is admitted should not be preempted at once.
        var reserve = options.ReserveAll ? _outstanding : _running.Count;
        if (sequence.Blocks.Count > 0)
        {
            return (options.ReserveAll || blocks.BlocksToGrow(sequence, sequence.Pending) + reserve <= blocks.Free)
                && blocks.TryGrow(sequence, sequence.Pending, _plan.Copies);
        }

        if (sequence.SwappedBlocks > 0)
        {
            var count = sequence.SwappedBlocks;
            if (blocks.BlocksFor(sequence.Length) + reserve > blocks.Free || !blocks.TryTake(sequence, count))
            {
                return false;
            }

            _plan.SwapsIn.Add(new BlockSwap(sequence, [.. sequence.Blocks]));
            sequence.SwappedBlocks = 0;
            return blocks.TryGrow(sequence, sequence.Pending, _plan.Copies);
        }

        if (!sequence.WantsPromptLogits)
        {
            blocks.TakePrefix(sequence);
        }

        var needed = options.ReserveAll
            ? (1 + sequence.Siblings.Count) * WorstBlocks(sequence) - sequence.Blocks.Count
            : blocks.BlocksToGrow(sequence, sequence.Pending);
        if (needed + reserve > blocks.Free || !blocks.TryGrow(sequence, sequence.Pending, _plan.Copies))
        {
            blocks.Release(sequence);
            return false;
        }

        if (sequence.CachedTokens < 0)
        {
            sequence.CachedTokens = sequence.Computed;
            _plan.CachedTokens += sequence.Computed;
        }

        return true;
    }

    private void Run(Sequence sequence)
    {
        sequence.Status = SequenceStatus.Running;
        var place = _running.Count;
        while (place > 0 && sequence.GoesBefore(_running[place - 1]))
        {
            place--;
        }

        _running.Insert(place, sequence);
    }

    private Sequence PreemptNewest()
    {
        var sequence = _running.Count > 0 ? _running[^1] : _idle[0];
        foreach (var holder in _idle)
        {
            sequence = sequence.GoesBefore(holder) ? holder : sequence;
        }

        if (_running.Remove(sequence))
        {
            Queue(sequence);
        }

        if (_idle.Remove(sequence) || sequence.Computed >= sequence.PromptLength)
        {
            int[] held = [.. sequence.Blocks];
            var computed = sequence.Computed;
            blocks.Release(sequence);
            (sequence.SwappedBlocks, sequence.Computed) = (held.Length, computed);
            _plan.SwapsOut.Add(new BlockSwap(sequence, held));
        }
        else
        {
            sequence.Forgotten = Math.Max(sequence.Forgotten, sequence.Computed);
            blocks.Release(sequence);
        }

        _plan.Preempted++;
        Preemptions++;
        return sequence;
    }

    // Whoever comes goes to the end, mostly: so from there.
    private void Queue(Sequence sequence)
    {
        sequence.Status = SequenceStatus.Waiting;
        var last = _waiting.Last;
        while (last is not null && sequence.GoesBefore(last.Value))
        {
            last = last.Previous;
        }

        sequence.Queued = last is null ? _waiting.AddFirst(sequence) : _waiting.AddAfter(last, sequence);
    }
}
