using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

public class BatchingSimulationTests
{
    private static readonly StepModel s_step = new(ModelShape.Find(ModelShape.Target), Hardware.Find("mi325x"), EngineCalibration.Find("octet"), 8);

    [Fact]
    public void One_user_waits_for_its_own_prefill_and_steps_alone()
    {
        BatchingResult result = BatchingSimulation.Run(s_step, new BatchingLoad(1000, 11, 1, 8192, 1e6, 0));
        double prefill = s_step.Milliseconds(0, 0, 1000, 1000 * 500.0);
        double decode = Enumerable.Range(0, 10).Average(i => s_step.Milliseconds(1, 1000 + i, 0, 0));
        Assert.All(result.TtftMs, ttft => Assert.Equal(prefill, ttft, 1e-6));
        Assert.All(result.TpotMs, tpot => Assert.Equal(decode, tpot, 1e-6));
    }

    [Fact]
    public void A_prompt_beyond_the_step_budget_is_prefilled_in_chunks()
    {
        BatchingResult result = BatchingSimulation.Run(s_step, new BatchingLoad(1000, 2, 1, 600, 1e6, 0));
        double chunks = s_step.Milliseconds(0, 0, 600, 600 * 300.0) + s_step.Milliseconds(0, 0, 400, 400 * 800.0);
        Assert.All(result.TtftMs, ttft => Assert.Equal(chunks, ttft, 1e-6));
    }

    [Fact]
    public void A_full_kv_cache_makes_requests_wait()
    {
        double Ttft(double kvTokens) => BatchingSimulation.Run(s_step, new BatchingLoad(1000, 100, 8, 8192, kvTokens, 0)).TtftMs.Average();
        Assert.True(Ttft(2200) > 10 * Ttft(8800));
    }

    [Fact]
    public void A_single_output_token_has_no_time_per_output_token() =>
        Assert.All(BatchingSimulation.Run(s_step, new BatchingLoad(100, 1, 4, 8192, 1e6, 0)).TpotMs, tpot => Assert.Equal(0, tpot));

    [Fact]
    public void The_front_end_delays_the_first_token()
    {
        double Ttft(double frontEnd) => BatchingSimulation.Run(s_step, new BatchingLoad(100, 50, 1, 8192, 1e6, frontEnd)).TtftMs.Average();
        double engine = Ttft(0);
        Assert.Equal(Math.Sqrt(engine * engine + 90_000), Ttft(300), 1e-6);
    }
}
