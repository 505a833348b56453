using Octet.Inference.Engine;

namespace Octet.Tests.Inference.Engine;

public sealed class SchedulerTests
{
    [Fact]
    public void A_step_has_continuations_first_and_fills_its_budget_with_prompts()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 16, MaxSequences = 4 }, blocks: 32, blockSize: 4);
        Sequence[] all = [Text(1, prompt: 4, limit: 20), Text(2, prompt: 40, limit: 60)];
        run.Scheduler.Add(all[0]);
        run.Step(all);
        run.Scheduler.Add(all[1]);
        run.Step(all);

        Assert.Equal([(1L, 1), (2L, 15)], run.Last!.Rows.Select(row => (row.Sequence.Id, row.Count)));
        Assert.Equal(1, run.Last.DecodeRows);
    }

    [Fact]
    public void A_short_prompt_does_not_wait_for_all_of_a_long_one_which_keeps_half_of_the_steps()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 32, MaxSequences = 8 }, blocks: 64, blockSize: 4);
        Sequence[] all = [Text(1, prompt: 100, limit: 104), Text(2, prompt: 60, limit: 64, first: 200), Text(3, prompt: 12, limit: 16, first: 300)];
        Array.ForEach(all, run.Scheduler.Add);
        run.Step(all);

        Assert.Equal([(3L, 12), (1L, 20)], run.Last!.Rows.Select(row => (row.Sequence.Id, row.Count)));
    }

    [Fact]
    public void Prompts_that_arrive_together_share_what_the_first_has_computed_when_their_turn_comes()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 32, MaxSequences = 8 }, blocks: 128, blockSize: 4);
        RunAll(run, [.. Enumerable.Range(1, 4).Select(id => Text(id, prompt: 62, limit: 63))]);

        // The second one began with the budget that the first had no use for: two tokens, which both have computed then.
        Assert.Equal(62 + 2 + 3 * 2, run.Computed);
    }

    [Fact]
    public void A_text_asked_again_costs_one_block_of_prefill()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 512 }, blocks: 100, blockSize: 64);
        var first = Text(1, prompt: 1900, limit: 1901);
        RunAll(run, [first]);
        var before = run.Computed;
        var again = Text(2, prompt: 1900, limit: 1901);
        RunAll(run, [again]);

        Assert.Equal(1856, again.CachedTokens);
        Assert.Equal(44, run.Computed - before);
    }

    [Fact]
    public void A_pool_for_three_of_sixteen_texts_finishes_all_of_them()
    {
        // 3 texts of 32 tokens in blocks of 4.
        var run = new ScheduleSimulation(new() { TokenBudget = 32, MaxSequences = 16 }, blocks: 24, blockSize: 4);
        Sequence[] all = [.. Enumerable.Range(1, 16).Select(id => Text(id, prompt: 8, limit: 32, first: id))];
        RunAll(run, all);

        Assert.True(run.Scheduler.Preemptions > 0);
        Assert.All(all, sequence => Assert.Equal(run.Alone([.. sequence.Tokens.Take(8)], 32, sequence.Id), sequence.Tokens));
    }

    [Fact]
    public void Reserving_all_never_preempts()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 32, MaxSequences = 16, ReserveAll = true }, blocks: 24, blockSize: 4);
        RunAll(run, [.. Enumerable.Range(1, 16).Select(id => Text(id, prompt: 8, limit: 32, first: id))]);

        Assert.Equal(0, run.Scheduler.Preemptions);
    }

    [Fact]
    public void A_text_that_could_outgrow_the_pool_alone_is_refused_with_the_numbers()
    {
        var run = new ScheduleSimulation(new(), blocks: 4, blockSize: 4);
        var error = Assert.Throws<ArgumentException>(() => run.Scheduler.Add(Text(1, prompt: 4, limit: 17)));
        Assert.Contains("17 tokens", error.Message, StringComparison.Ordinal);
        Assert.Contains("holds 16", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_large_prompt_waits_for_room_and_nobody_overtakes_it()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 16, MaxSequences = 8 }, blocks: 10, blockSize: 4);
        Sequence[] all = [Text(1, prompt: 16, limit: 24), Text(2, prompt: 32, limit: 36), Text(3, prompt: 2, limit: 6)];
        var begun = new List<long>();
        foreach (var sequence in all)
        {
            run.Scheduler.Add(sequence);
        }

        while (run.Step(all, (sequence, _) => End(run, sequence)))
        {
            begun.AddRange(run.Last!.Rows.Select(row => row.Sequence.Id).Except(begun));
        }

        Assert.Equal([1, 2, 3], begun);
    }

    [Fact]
    public void A_lower_priority_number_leaves_the_queue_first_and_takes_nothing_from_what_runs()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 16, MaxSequences = 1 }, blocks: 10, blockSize: 4);
        Sequence[] all = [Text(1, prompt: 4, limit: 8), Text(2, prompt: 4, limit: 8), Text(3, prompt: 4, limit: 8, priority: -1), Text(4, prompt: 4, limit: 8, priority: 1)];
        var begun = new List<long>();
        run.Scheduler.Add(all[0]);
        Assert.True(run.Step(all, (_, _) => { }));
        Array.ForEach(all[1..], run.Scheduler.Add);
        while (run.Step(all, (sequence, _) => End(run, sequence)))
        {
            begun.AddRange(run.Last!.Rows.Select(row => row.Sequence.Id).Except(begun));
        }

        Assert.Equal([1, 3, 2, 4], begun);
    }

    [Fact]
    public void Siblings_share_the_prompt_and_each_goes_on_by_itself()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 64, MaxSequences = 8 }, blocks: 64, blockSize: 4);
        var first = Text(1, prompt: 30, limit: 40);
        first.Siblings.AddRange([Text(2, prompt: 30, limit: 33), Text(3, prompt: 30, limit: 40)]);
        Sequence[] all = [first, .. first.Siblings];
        RunAll(run, [first], all);

        Assert.Equal(30 + 9 + 2 + 9, run.Computed);
        Assert.All(all, sequence => Assert.Equal(run.Alone([.. sequence.Tokens.Take(30)], sequence.Limit, sequence.Id), sequence.Tokens));
    }

    [Fact]
    public void Paused_texts_make_room_where_nothing_else_can_advance()
    {
        var run = new ScheduleSimulation(new() { TokenBudget = 16, MaxSequences = 8 }, blocks: 8, blockSize: 4);
        var stepped = new Sequence(1, [.. Enumerable.Range(0, 20)], 32) { IsStepped = true };
        var other = Text(2, prompt: 20, limit: 24, first: 100);
        Sequence[] all = [stepped, other];
        run.Scheduler.Add(stepped);
        while (run.Step(all))
        {
        }

        Assert.Equal(SequenceStatus.Paused, stepped.Status);
        RunAll(run, [other], all);
        Assert.Equal(5, stepped.SwappedBlocks);

        run.Scheduler.Append(stepped, [3]);
        Assert.True(run.Step(all));
        Assert.Equal(21, stepped.Computed);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Any_schedule_keeps_the_books_and_gives_each_text_what_it_has_alone(int part)
    {
        for (var seed = 0; seed < Rounds.Of(500); seed++)
        {
            new RandomSchedule(part * 1_000_000 + seed).Run();
        }
    }

    private static Sequence Text(long id, int prompt, int limit, int first = 0, int priority = 0) =>
        new(id, [.. Enumerable.Range(first, prompt)], limit) { Priority = priority };

    private static void End(ScheduleSimulation run, Sequence sequence)
    {
        if (sequence.Tokens.Count >= sequence.Limit)
        {
            run.Scheduler.Remove(sequence);
        }
    }

    private static void RunAll(ScheduleSimulation run, Sequence[] added, Sequence[]? all = null)
    {
        foreach (var sequence in added)
        {
            run.Scheduler.Add(sequence);
        }

        while (run.Step(all ?? added, (sequence, _) => End(run, sequence)))
        {
            Assert.True(run.Steps < 10_000, "no end");
        }

        Assert.All(all ?? added, sequence => Assert.True(sequence.Tokens.Count == sequence.Limit || sequence.IsStepped, sequence.ToString()));
    }

    // Arrivals, lengths, forks, aborts, steps by an owner, pools and options at random; small alphabets, so that prompts share beginnings.
    private sealed class RandomSchedule
    {
        private readonly Random _random;
        private readonly ScheduleSimulation _run;
        private readonly List<Sequence> _all = [];
        private readonly Dictionary<Sequence, int> _ends = [];
        private readonly int _poolTokens;
        private readonly bool _reserve;
        private readonly int _most;
        private long _ids;

        public RandomSchedule(int seed)
        {
            _random = new Random(seed);
            var (size, blocks) = (_random.Next(1, 6), _random.Next(3, 20));
            _poolTokens = size * blocks;
            _most = _random.Next(1, 9);
            _reserve = _random.Next(5) == 0;
            var options = new SchedulerOptions
            {
                TokenBudget = _random.Next(1, 30),
                MaxSequences = _most,
                ReserveAll = _reserve,
                Proposals = _random.Next(4) == 0 ? _random.Next(1, 4) : 0,
            };
            BlockHash? hash = _random.Next(6) == 0 ? static (parent, tokens) => (parent + (UInt128)tokens[0]) % 3 : null;
            _run = new ScheduleSimulation(options, blocks, size, shares: _random.Next(5) > 0, hash: hash);
        }

        public void Run()
        {
            for (var turn = 0; turn < 60 || _all.Exists(s => s.Status != SequenceStatus.Finished); turn++)
            {
                Assert.True(turn < 5000, "no end");
                if (turn < 60 && _random.Next(3) == 0)
                {
                    Arrive();
                }

                if (_random.Next(12) == 0 && Pick() is { } aborted)
                {
                    _run.Scheduler.Remove(aborted);
                    foreach (var sibling in aborted.Siblings)
                    {
                        _run.Scheduler.Remove(sibling);
                    }
                }

                StepOwned(last: turn >= 60);
                _run.Step(_all, Drawn);
                _run.Blocks.Check(_all.Where(s => s.Status != SequenceStatus.Finished));
            }

            Assert.Equal(_run.Blocks.Count, _run.Blocks.Free);
            Assert.Equal(0, _run.Scheduler.Waiting + _run.Scheduler.Running);
        }

        private void Arrive()
        {
            var limit = _random.Next(2, _poolTokens + 1);
            int[] prompt = [.. Enumerable.Range(0, _random.Next(1, limit)).Select(i => i % 3 == 2 ? _random.Next(2) : 0)];
            var salt = _random.Next(8) == 0 ? "other" : null;
            var stepped = _random.Next(6) == 0;
            var priority = _random.Next(4) == 0 ? _random.Next(-2, 3) : 0;
            var sequence = new Sequence(++_ids, prompt, limit, salt)
            {
                IsStepped = stepped,
                IsEvaluation = !stepped && _random.Next(8) == 0,
                Priority = priority,
            };
            if (!sequence.IsStepped && !sequence.IsEvaluation && _random.Next(4) == 0)
            {
                var siblings = _random.Next(1, 4);
                for (var i = 0; i < siblings; i++)
                {
                    sequence.Siblings.Add(new Sequence(++_ids, prompt, limit, salt) { Priority = priority });
                }
            }

            try
            {
                _run.Scheduler.Add(sequence);
            }
            catch (ArgumentException)
            {
                Assert.True(1 + sequence.Siblings.Count > _most || _reserve);
                return;
            }

            _all.Add(sequence);
            _all.AddRange(sequence.Siblings);
        }

        private void Drawn(Sequence sequence, int token)
        {
            if (sequence.Status == SequenceStatus.Finished)
            {
                return;
            }

            if (sequence.Tokens.Count >= sequence.Limit)
            {
                Assert.Equal(_run.Alone([.. sequence.Tokens.Take(sequence.PromptLength)], sequence.Limit, sequence.Id), sequence.Tokens);
                _run.Scheduler.Remove(sequence);
            }
        }

        // Those that wait for their owner get tokens, are rewound, or end; evaluations end by themselves.
        private void StepOwned(bool last)
        {
            foreach (var sequence in _all.Where(s => s.Status != SequenceStatus.Finished && s.Pending == 0).ToList())
            {
                if (sequence.IsEvaluation || last || sequence.Tokens.Count + 3 > sequence.Limit)
                {
                    _run.Scheduler.Remove(sequence);
                }
                else if (sequence.Status == SequenceStatus.Paused && _random.Next(2) == 0)
                {
                    Step(sequence);
                }
            }
        }

        private void Step(Sequence sequence)
        {
            if (_random.Next(4) == 0)
            {
                _run.Scheduler.Rewind(sequence, _random.Next(1, sequence.Tokens.Count + 1));
            }

            if (_random.Next(6) == 0)
            {
                var child = new Sequence(++_ids, [.. sequence.Tokens], sequence.Limit, sequence.Salt) { IsStepped = true };
                _run.Fork(sequence, child);
                _all.Add(child);
            }

            _run.Scheduler.Append(sequence, [.. Enumerable.Range(0, _random.Next(1, 4)).Select(_ => _random.Next(3))]);
        }

        private Sequence? Pick()
        {
            var open = _all.Where(s => s.Status != SequenceStatus.Finished && (s.Status != SequenceStatus.Waiting || s.Queued is not null)).ToList();
            return open.Count == 0 ? null : open[_random.Next(open.Count)];
        }
    }
}
