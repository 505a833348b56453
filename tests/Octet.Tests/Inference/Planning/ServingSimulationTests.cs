using Octet.Inference.Engine;
using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

public class ServingSimulationTests
{
    private static readonly StepModel s_step = Step();

    private static StepModel Step(int chunkTokens = 8192, double frontEndMs = 0, int blockTokens = 1, bool reserveAll = true)
    {
        EngineCalibration engine = EngineCalibration.Find("octet");
        return new StepModel(
            ModelShape.Find(ModelShape.Target),
            Hardware.Find("mi325x"),
            engine with { ChunkTokens = chunkTokens, FrontEnd = engine.FrontEnd with { Value = frontEndMs }, KvBlockTokens = blockTokens, ReserveAll = reserveAll },
            8);
    }

    [Fact]
    public void One_user_waits_for_its_own_prefill_and_steps_alone()
    {
        ServingResult result = ServingSimulation.Run(s_step, new ServingLoad(1000, 11, 1, 1_000_000));
        double prefill = s_step.Milliseconds(0, 0, 1000, 1000 * 500.0);
        double decode = Enumerable.Range(0, 10).Average(i => s_step.Milliseconds(1, 1000 + i, 0, 0));
        Assert.All(result.TtftMs, ttft => Assert.Equal(prefill, ttft, 1e-6));
        Assert.All(result.TpotMs, tpot => Assert.Equal(decode, tpot, 1e-6));
    }

    [Fact]
    public void A_prompt_beyond_the_step_budget_is_prefilled_in_chunks()
    {
        ServingResult result = ServingSimulation.Run(Step(chunkTokens: 600), new ServingLoad(1000, 2, 1, 1_000_000));
        double chunks = s_step.Milliseconds(0, 0, 600, 600 * 300.0) + s_step.Milliseconds(0, 0, 400, 400 * 800.0);
        Assert.All(result.TtftMs, ttft => Assert.Equal(chunks, ttft, 1e-6));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_full_kv_cache_makes_requests_wait(bool reserveAll)
    {
        StepModel step = Step(reserveAll: reserveAll);
        double Ttft(long kvTokens) => ServingSimulation.Run(step, new ServingLoad(1000, 100, 8, kvTokens)).TtftMs.Average();
        Assert.True(Ttft(2200) > 10 * Ttft(8800));
    }

    [Fact]
    public void A_single_output_token_has_no_time_per_output_token() =>
        Assert.All(ServingSimulation.Run(s_step, new ServingLoad(100, 1, 4, 1_000_000)).TpotMs, tpot => Assert.Equal(0, tpot));

    [Fact]
    public void The_front_end_delays_the_first_token()
    {
        double Ttft(double frontEnd) => ServingSimulation.Run(Step(frontEndMs: frontEnd), new ServingLoad(100, 50, 1, 1_000_000)).TtftMs.Average();
        double engine = Ttft(0);
        Assert.Equal(Math.Sqrt(engine * engine + 90_000), Ttft(300), 1e-6);
    }

    [Fact]
    public void Requests_are_preempted_only_where_they_may_outgrow_the_kv_cache()
    {
        long Preemptions(long kvTokens, bool reserveAll) =>
            ServingSimulation.Run(Step(blockTokens: 16, reserveAll: reserveAll), new ServingLoad(100, 400, 8, kvTokens)).Preemptions;
        Assert.Equal(0, Preemptions(2000, reserveAll: true));
        Assert.Equal(0, Preemptions(10_000, reserveAll: false));
        Assert.InRange(Preemptions(2000, reserveAll: false), 1, 60 * 8);
    }

    [Theory]
    [InlineData(1000, 100, 8, 20_000, 8192, 0, 16, true)]
    [InlineData(1000, 100, 8, 20_000, 8192, 0, 16, false)]
    [InlineData(1000, 100, 8, 4000, 8192, 40, 16, true)]
    [InlineData(1000, 100, 8, 4000, 8192, 40, 16, false)]
    [InlineData(30, 500, 24, 3000, 8192, 0, 16, false)]
    [InlineData(30, 500, 24, 1700, 8192, 5, 64, false)]
    [InlineData(700, 90, 40, 9000, 256, 3, 32, false)]
    [InlineData(700, 90, 40, 9000, 24, 0, 32, true)]
    [InlineData(50, 1, 6, 400, 64, 0, 1, false)]
    [InlineData(17, 33, 3, 50, 4, 100, 1, false)]
    public void Requests_take_as_long_as_step_by_step_with_real_tokens(
        int input, int output, int users, int kvTokens, int chunkTokens, int frontEndMs, int blockTokens, bool reserveAll)
    {
        StepModel step = Step(chunkTokens, frontEndMs, blockTokens, reserveAll);
        var load = new ServingLoad(input, output, users, kvTokens);
        ServingResult expected = StepByStep(step, load);
        ServingResult result = ServingSimulation.Run(step, load);
        Assert.Equal(expected.TtftMs, result.TtftMs);
        Assert.Equal(expected.TpotMs, result.TpotMs);
        Assert.Equal(expected.Preemptions, result.Preemptions);
    }

    // The same engine and users as plainly as can be: every step is scheduled, every token is there, the whole pool is.
    private static ServingResult StepByStep(StepModel step, ServingLoad load)
    {
        EngineCalibration engine = step.Engine;
        var users = new ClosedLoop(step, load);
        var blocks = new BlockManager((int)load.KvTokens / engine.KvBlockTokens, engine.KvBlockTokens, shares: false);
        var scheduler = new Scheduler(
            new() { TokenBudget = engine.ChunkTokens, MaxSequences = Math.Min(load.Users, engine.ChunkTokens - 1), ReserveAll = engine.ReserveAll },
            blocks);
        var userOf = new Dictionary<Sequence, int>();
        double now = 0;
        while (!users.IsOver)
        {
            while (users.TryTake(now, out int user))
            {
                var sequence = new Sequence(userOf.Count, new int[load.Input], load.Input + load.Output);
                userOf.Add(sequence, user);
                scheduler.Add(sequence);
            }
            if (scheduler.Schedule() is not { } plan)
            {
                now = users.NextArrival;
                continue;
            }
            var prompts = plan.Rows.Skip(plan.DecodeRows).ToList();
            now += step.Milliseconds(
                plan.DecodeRows,
                plan.Rows.Take(plan.DecodeRows).Sum(row => (double)row.Start),
                prompts.Sum(row => row.Count),
                prompts.Sum(row => row.Count * (row.Start + row.Count / 2.0)));
            foreach (ScheduledRow row in plan.Rows.Where(row => row.Draws > 0))
            {
                row.Sequence.Tokens.Add(7);
            }
            scheduler.Commit(plan, [.. plan.Rows.Select(row => row.Count)]);
            blocks.Check(userOf.Keys.Where(sequence => sequence.Status != SequenceStatus.Finished));
            foreach (Sequence sequence in plan.Rows.Where(row => row.Draws > 0).Select(row => row.Sequence))
            {
                if (sequence.Tokens.Count == load.Input + 1)
                {
                    users.Begin(userOf[sequence], now);
                }
                if (sequence.Tokens.Count == load.Input + load.Output)
                {
                    scheduler.Remove(sequence);
                    users.Answer(userOf[sequence], now);
                }
            }
        }
        return users.Result(scheduler.Preemptions);
    }
}
