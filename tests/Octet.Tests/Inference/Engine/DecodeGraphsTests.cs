using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Tests.Backends;

namespace Octet.Tests.Inference.Engine;

public sealed class DecodeGraphsTests
{
    [Fact]
    public void Rows_are_padded_to_1_2_4_then_by_8_to_256_then_by_16_to_512()
    {
        int[] buckets = [.. Enumerable.Range(1, 600).Select(DecodeGraphs.RowBucket).Where(b => b <= 512).Distinct()];
        int[] expected =
        [
            1, 2, 4, .. Enumerable.Range(1, 32).Select(i => 8 * i), .. Enumerable.Range(17, 16).Select(i => 16 * i),
        ];
        Assert.Equal(expected, buckets);
        Assert.All(Enumerable.Range(1, 600), rows => Assert.InRange(DecodeGraphs.RowBucket(rows), rows, rows + 15));
        Assert.Equal(513, DecodeGraphs.RowBucket(513));
    }

    [Fact]
    public void Contexts_are_bounded_by_powers_of_two_up_to_the_longest()
    {
        Assert.Equal(1024, DecodeGraphs.ContextBucket(1, 262_100));
        Assert.Equal(1024, DecodeGraphs.ContextBucket(1024, 262_100));
        Assert.Equal(2048, DecodeGraphs.ContextBucket(1025, 262_100));
        Assert.Equal(262_100, DecodeGraphs.ContextBucket(262_000, 262_100));
        Assert.Equal(700, DecodeGraphs.ContextBucket(3, 700));
    }

    [Fact]
    public void A_device_without_graphs_covers_no_step()
    {
        using var device = Device.Open("cpu");
        using var workspace = new Workspace(device);
        using var graphs = new DecodeGraphs(device, workspace);
        Assert.False(graphs.Covers(1));
    }

    [Fact]
    public void A_bucket_is_new_then_sized_then_recorded_until_the_workspace_moves()
    {
        using var device = Device.Open("sim:gfx942");
        using var workspace = new Workspace(device);
        using var graphs = new DecodeGraphs(device, workspace);
        using var output = Tensor.Create(device, DType.Float32, 4);
        var bucket = new StepBucket(1, 1, 1024);
        Assert.True(graphs.Covers(1));
        Assert.Equal(BucketState.New, graphs.StateOf(bucket));
        graphs.NoteSized(bucket);
        Assert.Equal(BucketState.Sized, graphs.StateOf(bucket));

        device.Stream.Fill(output, 0);
        graphs.Record(bucket, () => device.Stream.Fill(output, 7));
        Assert.Equal(BucketState.Recorded, graphs.StateOf(bucket));
        Assert.All(output.ToArray<float>(), x => Assert.Equal(0, x));
        graphs.Replay(bucket);
        Assert.All(output.ToArray<float>(), x => Assert.Equal(BitConverter.ToSingle([7, 7, 7, 7]), x));

        workspace.NoteMove();
        Assert.Equal((BucketState.New, 0), (graphs.StateOf(bucket), graphs.Recorded));
    }

    [Fact]
    public void What_is_recorded_is_given_up_where_it_is_not_to_be_trusted()
    {
        using var device = Device.Open("sim:gfx942");
        using var workspace = new Workspace(device);
        using var graphs = new DecodeGraphs(device, workspace);
        var bucket = new StepBucket(1, 1, 1024);
        graphs.NoteSized(bucket);
        graphs.Record(bucket, () => { });
        graphs.Distrust("a replayed step gave other bits");
        Assert.False(graphs.Covers(1));
        Assert.Equal((BucketState.New, 0), (graphs.StateOf(bucket), graphs.Recorded));
        Assert.Equal("a replayed step gave other bits", graphs.Mistrust);
    }

    [Theory]
    [InlineData("hip:0", 70_226_015, true)]
    [InlineData("hip:1", 70_200_000, true)]
    [InlineData("hip:0", 70_100_000, false)]
    [InlineData("hip:0", 60_443_482, false)]
    [InlineData("hip:0", 70_300_000, false)]
    [InlineData("cuda:0", 70_200_000, false)]
    public void Versions_of_hip_that_replay_wrongly_have_no_graphs(string device, int version, bool bad) =>
        Assert.Equal(bad, Octet.Backends.HipGraphs.Obstacle(device, version) is not null);

    [Theory]
    [InlineData("sim:gfx942")]
    [InlineData("sim:sm_90")]
    public async Task Replayed_and_padded_steps_draw_the_tokens_of_eager_ones(string name)
    {
        using var device = Device.Open(name);
        var eager = await Generate(device, useGraphs: false);
        var replayed = await Generate(device, useGraphs: true);
        Assert.Equal(0, eager.Recorded);
        Assert.True(replayed.Recorded >= 2, $"{replayed.Recorded} graphs for batches of 3, 2 and 1");
        Assert.Equal(eager.Ids, replayed.Ids);
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public async Task A_replay_that_gives_other_bits_ends_recording_and_the_step_is_the_eager_one()
    {
        using var device = WatchedBackend.Open("sim:gfx942");
        var eager = await Generate(device, useGraphs: false);
        var watched = WatchedBackend.Of(device);
        var replays = 0;
        watched.Launched = stream =>
        {
            replays++;
            stream.Fill(watched.Logits, 0);
        };
        using var model = Load(device, useGraphs: true);
        Assert.Equal(eager.Ids, await Generate(model));
        Assert.Equal((1, 0), (replays, model.Graphs!.Recorded));
        Assert.Contains("a replayed step gave other bits", model.Graphs.Mistrust, StringComparison.Ordinal);
    }

    // Three texts of different lengths, drawn at temperature 1: a difference in a logit's last bits would show in the draws, and
    // the batch shrinks from three rows (padded to four) to two and one.
    private static async Task<(List<int>[] Ids, int Recorded)> Generate(Device device, bool useGraphs)
    {
        using var model = Load(device, useGraphs);
        return (await Generate(model), model.Graphs?.Recorded ?? 0);
    }

    private static LanguageModel Load(Device device, bool useGraphs) =>
        LanguageModel.Load(TinyModel.Directory, device, new() { MaxSequences = 3, KvCacheTokens = 4096, UseGraphs = useGraphs });

    private static Task<List<int>[]> Generate(LanguageModel model)
    {
        int[][] prompts = [[40], TinyModel.Ids("short"), [7, 300, 12, 900, 33]];
        return Task.WhenAll(prompts.Select(async (prompt, i) =>
        {
            var ids = new List<int>();
            var options = new GenerationOptions { MaxTokens = 6 + 4 * i, Temperature = 1, TopK = 0, TopP = 1, Seed = i, IgnoreEndOfText = true };
            await foreach (var token in model.GenerateAsync(prompt, options, TestContext.Current.CancellationToken))
            {
                ids.Add(token.Id);
            }

            return ids;
        }));
    }
}
