using System.CommandLine;
using Octet.Cli;
using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;
using Octet.Tests.Inference.Loading;
using Octet.Tests.Inference.Planning.Topology;

namespace Octet.Tests.Inference.Planning;

public class PlannerTests
{
    private static readonly ModelShape s_target = ModelShape.Find(ModelShape.Target);
    private static readonly PlanWorkload s_famous = new(5600, 140, 64);

    private static PlanListing Plan(PlanWorkload workload, string node = "mi325x:8", string engine = "octet") =>
        Planner.Run(s_target, PlanNode.Parse(node), EngineCalibration.Find(engine), workload);

    private static Plan Split(PlanListing listing, int tp, int? ep = null) => listing.Plans.Single(plan => plan.Tp == tp && plan.Ep == (ep ?? tp));

    [Theory]
    [InlineData(2, 118.2, 64, 48_128, 10.1)]
    [InlineData(4, 59.2, 32, 24_064, 15.0)]
    [InlineData(8, 29.7, 16, 24_064, 8.7)]
    public void A_split_of_the_target_model_holds_the_known_bytes(int tp, double weightsGB, int experts, long kvBytes, double capacityMillions)
    {
        Plan plan = Split(Plan(s_famous), tp);
        Assert.Equal(weightsGB, plan.WeightBytesPerGpu / 1e9, 0.1);
        Assert.Equal(experts, plan.ExpertsPerGpu);
        Assert.Equal(kvBytes, plan.KvBytesPerTokenPerGpu);
        Assert.Equal(capacityMillions, plan.KvCapacityTokens / 1e6, capacityMillions * 0.02);
    }

    [Theory]
    [InlineData(true, 1.8, 2.1)]
    [InlineData(false, 1.3, 1.5)]
    public void The_published_case_ranks_two_groups_of_four_first_by_the_published_factor(bool perGroup, double least, double most)
    {
        PlanListing listing = Plan(s_famous with { PerGroup = perGroup });
        Assert.Equal("DP2/TP4/EP4", listing.Best?.Name);
        double factor = Split(listing, 4).Prediction!.RequestsPerSecond / Split(listing, 8).Prediction!.RequestsPerSecond;
        Assert.InRange(factor, least, most);
    }

    [Fact]
    public void A_single_group_of_four_never_beats_eight_on_time_per_output_token()
    {
        foreach (int input in new[] { 128, 1024, 2048, 5600, 16_000 })
        {
            foreach (int output in new[] { 16, 140, 512 })
            {
                foreach (int concurrency in new[] { 1, 4, 16, 64, 128 })
                {
                    PlanListing listing = Plan(new PlanWorkload(input, output, concurrency));
                    Assert.True(
                        Split(listing, 4).Prediction!.Tpot.Mean >= Split(listing, 8).Prediction!.Tpot.Mean,
                        $"{input}/{output} at {concurrency}: TP4 {Split(listing, 4).Prediction!.Tpot.Mean} ms, TP8 {Split(listing, 8).Prediction!.Tpot.Mean} ms");
                }
            }
        }
    }

    [Fact]
    public void One_gpu_a_group_holds_too_few_requests()
    {
        Plan plan = Split(Plan(s_famous), 1);
        Assert.False(plan.Feasible);
        Assert.Contains("5 requests of 5740", plan.Reason, StringComparison.Ordinal);
        Assert.Equal("KV capacity", plan.Prediction!.Binds);
    }

    [Fact]
    public void Requests_that_may_outgrow_the_kv_cache_are_preempted_as_the_engine_does_it()
    {
        // One GPU holds 30,592 tokens: of 16 requests all prompts, but not all they grow to.
        var growing = new PlanWorkload(100, 4000, 16);
        PlanListing listing = Plan(growing);
        Assert.InRange(Split(listing, 1).Prediction!.PreemptionsPerRequest, 0.1, 4);
        Assert.Equal(0, Split(listing, 2).Prediction!.PreemptionsPerRequest);
        Assert.Contains("binds: KV capacity, ", PlanTable.Write(listing), StringComparison.Ordinal);
        Assert.Contains("preemptions a request", PlanTable.Write(listing), StringComparison.Ordinal);

        EngineCalibration reserving = EngineCalibration.Find("octet") with { ReserveAll = true };
        PlanListing reserved = Planner.Run(s_target, PlanNode.Parse("mi325x:8"), reserving, growing);
        Assert.Equal(0, Split(reserved, 1).Prediction!.PreemptionsPerRequest);
        Assert.DoesNotContain("preemptions", PlanTable.Write(reserved), StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_beyond_the_memory_are_refused_with_their_size()
    {
        Plan plan = Split(Plan(s_famous, "h100:8", "trtllm"), 2);
        Assert.False(plan.Feasible);
        Assert.Null(plan.Prediction);
        Assert.Contains("118.3 GB of weights do not fit: 72.0 GB usable", plan.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_shard_of_192_rows_needs_an_engine_with_64_wide_granules()
    {
        Plan ours = Split(Plan(s_famous), 8, 1);
        Assert.True(ours.Feasible);
        Assert.Contains("64-wide granules", ours.Reason, StringComparison.Ordinal);
        Plan theirs = Split(Plan(s_famous with { Input = 512 }, "h100:8", "trtllm"), 8, 1);
        Assert.False(theirs.Feasible);
        Assert.Contains("1536/8 = 192", theirs.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Groups_of_three_and_six_are_refused_for_their_all_reduce()
    {
        PlanListing listing = Plan(s_famous, "mi325x:6");
        Assert.All(listing.Plans.Where(plan => plan.Tp is 3 or 6), plan => Assert.Contains("groups of 2, 4 and 8 only", plan.Reason, StringComparison.Ordinal));
        Assert.True(Split(listing, 2).Feasible);
    }

    [Theory]
    [InlineData(3, 2, 1, 1)]
    [InlineData(5, 4, 1, 1)]
    [InlineData(5, 2, 2, 1)]
    [InlineData(6, 4, 1, 2)]
    [InlineData(6, 2, 3, 0)]
    [InlineData(7, 4, 1, 3)]
    [InlineData(7, 2, 3, 1)]
    [InlineData(9, 8, 1, 1)]
    [InlineData(12, 8, 1, 4)]
    public void A_count_that_no_group_divides_leaves_the_rest_idle(int count, int tp, int groups, int idle)
    {
        PlanListing listing = Plan(s_famous, $"mi325x:{count}");
        Plan plan = Split(listing, tp);
        Assert.True(plan.Feasible, plan.Reason);
        Assert.Equal((groups, idle), (plan.Dp, plan.Idle));
        Assert.Equal(Enumerable.Range(count - idle, idle), plan.IdleGpus);
        // A group does what it does on a node of its own.
        Assert.Equal(Split(Plan(s_famous, $"mi325x:{tp}"), tp).Prediction!.RequestsPerSecond * groups, plan.Prediction!.RequestsPerSecond, 1e-9);
        Assert.NotNull(listing.Best);
        Assert.Equal(idle > 0, PlanTable.Write(listing with { Plans = [plan], BestIndex = 0 }).Contains("idle", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(7)]
    [InlineData(5)]
    public void The_best_plan_of_an_odd_node_is_a_split_that_topology_can_place(int count)
    {
        Plan best = Plan(s_famous, $"mi325x:{count}").Best!;
        using KfdTree tree = KfdTree.Mixed([.. Enumerable.Repeat((90402, 274810798080UL), count)]);
        Placement placement = Placement.Place(KfdTopology.Read(tree.Root), best.Dp, best.Tp);
        Assert.Empty(placement.Warnings);
        Assert.Equal((best.Dp, best.Idle), (placement.Groups.Count, placement.Idle.Count));
    }

    [Theory]
    [InlineData()]
    [InlineData("--json")]
    [InlineData("--emit", "env")]
    [InlineData("--emit", "k8s")]
    public async Task A_node_without_a_feasible_plan_ends_with_exit_code_1(params string[] form)
    {
        var root = new Command("octet") { PlanCommand.Create() };
        Assert.Equal(CommandLine.CheckFailed, await CommandLine.RunAsync(root, ["plan", "--node", "h100:1", .. form]));
        Assert.Equal(CommandLine.Success, await CommandLine.RunAsync(root, ["plan", "--node", "mi325x:7", .. form]));
    }

    [Fact]
    public async Task A_tree_without_a_gpu_for_Octet_ends_with_exit_code_1()
    {
        using KfdTree tree = KfdTree.Mixed((100306, 536870912UL));
        var root = new Command("octet") { TopologyCommand.Create() };
        foreach (string[] form in new string[][] { [], ["--json"], ["--emit", "k8s"], ["--emit", "env"] })
        {
            Assert.Equal(CommandLine.CheckFailed, await CommandLine.RunAsync(root, ["topology", "--sysfs", tree.Root, .. form]));
        }
    }

    [Fact]
    public void A_missed_target_makes_a_plan_infeasible_with_both_figures()
    {
        PlanListing listing = Plan(s_famous with { TpotP90Ms = 150 });
        Assert.Equal(8, listing.Best?.Tp);
        Assert.Contains("misses the target of 150 ms", Split(listing, 4).Reason, StringComparison.Ordinal);
        Assert.Equal(-1, Plan(s_famous with { TtftP90Ms = 1 }).BestIndex);
    }

    [Fact]
    public void Prefill_all_reduce_takes_the_published_time()
    {
        PlanListing listing = Plan(s_famous);
        double AllReduce(int tp) => Split(listing, tp).Prediction!.Terms.Single(term => term is { Phase: "prefill", Name: "all-reduce" }).Milliseconds;
        Assert.Equal(94, AllReduce(4), 3.0);
        Assert.Equal(59, AllReduce(8), 3.0);
    }

    [Theory]
    [InlineData(512, 256, 32, true)]
    [InlineData(2048, 256, 32, false)]
    [InlineData(512, 1024, 32, false)]
    [InlineData(512, 256, 129, false)]
    [InlineData(512, 256, 2, false)]
    public void A_prediction_is_marked_extrapolated_exactly_outside_the_calibrated_range(int input, int output, int concurrency, bool inside) =>
        Assert.Equal(!inside, Split(Plan(new PlanWorkload(input, output, concurrency), "h100:8", "trtllm"), 8).Prediction!.Extrapolated);

    [Fact]
    public void Another_gpu_or_an_engine_never_measured_is_an_extrapolation()
    {
        var inside = new PlanWorkload(512, 256, 32);
        Assert.True(Split(Plan(inside, "h200:8", "trtllm"), 8).Prediction!.Extrapolated);
        Assert.True(Split(Plan(inside), 8).Prediction!.Extrapolated);
    }

    [Fact]
    public void The_same_question_has_the_same_answer()
    {
        PlanPrediction first = Plan(s_famous).Best!.Prediction!;
        PlanPrediction second = Plan(s_famous).Best!.Prediction!;
        Assert.Equal((first.Ttft, first.Tpot, first.RequestsPerSecond), (second.Ttft, second.Tpot, second.RequestsPerSecond));
    }

    [Fact]
    public void Concurrency_of_the_node_that_does_not_divide_leaves_no_request_out()
    {
        Plan uneven = Split(Plan(new PlanWorkload(1000, 100, 3, PerGroup: false)), 2);
        Plan even = Split(Plan(new PlanWorkload(1000, 100, 1)), 2);
        // Three of four groups have one request each, the fourth none.
        Assert.Equal(even.Prediction!.RequestsPerSecond * 3 / 4, uneven.Prediction!.RequestsPerSecond, 1e-9);
        Assert.Equal(even.Prediction.Tpot.Mean, uneven.Prediction.Tpot.Mean, 1e-9);
    }

    [Fact]
    public void The_small_checkpoint_can_be_planned()
    {
        ModelShape model = ModelShape.Find(TinyShakespeare.Directory);
        PlanListing listing = Planner.Run(model, PlanNode.Parse("mi300x:8"), EngineCalibration.Find("octet"), new PlanWorkload(100, 50, 8));
        Assert.NotNull(listing.Best);
        Assert.Contains("attention heads do not divide over 8", Split(listing, 8).Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("plan", "--input", "0")]
    [InlineData("plan", "--output", "-5")]
    [InlineData("plan", "--concurrency", "100000")]
    [InlineData("plan", "--input", "262144")]
    [InlineData("plan", "--input", "2147483647")]
    [InlineData("plan", "--ttft-p90", "-1")]
    [InlineData("plan", "--tpot-p90", "NaN")]
    [InlineData("plan", "--memory-utilization", "1.5")]
    [InlineData("plan", "--memory-utilization", "NaN")]
    [InlineData("plan", "--node", "mi325x:0")]
    [InlineData("plan", "--node", "mi325x")]
    [InlineData("plan", "--node", "toaster:8")]
    [InlineData("plan", "--model", "no-such-model")]
    [InlineData("plan", "--engine", "no-such-engine")]
    [InlineData("plan", "--per", "rack")]
    [InlineData("plan", "--emit", "helm")]
    [InlineData("plan", "--plot", "/no/such/folder/plan.svg")]
    [InlineData("plan", "--calibrate", "/no/such/file.csv")]
    [InlineData("topology", "--sysfs", "/no/such/tree")]
    [InlineData("topology", "--groups", "2by4")]
    public async Task Bad_input_ends_with_exit_code_2(params string[] arguments)
    {
        var root = new Command("octet") { PlanCommand.Create(), TopologyCommand.Create() };
        Assert.Equal(CommandLine.BadInput, await CommandLine.RunAsync(root, arguments));
    }
}
