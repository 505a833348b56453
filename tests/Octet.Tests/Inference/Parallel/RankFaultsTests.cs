using System.Diagnostics;
using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Tests.Backends;

namespace Octet.Tests.Inference.Parallel;

/// <summary>
/// A rank that fails or stalls stops its group: whoever waits for a text is told at once that it may be asked again, nothing hangs or is left,
/// and the model can be loaded anew on the same devices.
/// </summary>
public sealed class RankFaultsTests
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(2);

    // What a busy machine may add to half a second of grace; a rank that hangs does so for two minutes.
    private const double Soon = 20;

    [Theory]
    [InlineData("cpu", 4, 1, 1)]
    [InlineData("cpu", 4, 3, 17)]
    [InlineData("cpu", 4, 0, 40)]
    [InlineData("cpu", 2, 1, 333)]
    [InlineData("sim:gfx942", 2, 1, 9)]
    public async Task A_rank_that_fails_at_any_op_ends_all_texts_with_an_error_that_says_they_may_be_asked_again(string name, int ranks, int rank, int op)
    {
        using var group = WatchedBackend.Open(name, ranks);
        using (var model = Load(group, Long))
        {
            var texts = Start(model, 3);
            var start = Fault(group, rank, op, () => throw new OctetException(OctetStatus.DeviceError, "planted"));
            foreach (var text in texts)
            {
                var error = await Assert.ThrowsAsync<OctetException>(() => text);
                Assert.Equal((OctetStatus.GroupStopped, true), (error.Status, error.IsTransient));
                Assert.Contains($"rank {rank} ({group.Devices[rank].Name}) failed: planted; the group has stopped", error.Message, StringComparison.Ordinal);
            }

            Assert.InRange(start(), 0, Soon);
            await Assert.ThrowsAsync<OctetException>(() => Start(model, 1)[0]);
        }

        await CheckAnew(group, name);
    }

    [Theory]
    [InlineData("cpu", 4, 2)]
    [InlineData("cpu", 4, 0)]
    [InlineData("sim:gfx942", 2, 1)]
    public async Task A_rank_that_stalls_is_named_soon_behind_the_deadline_and_nobody_waits_for_it(string name, int ranks, int rank)
    {
        using var group = WatchedBackend.Open(name, ranks);
        using var back = new ManualResetEventSlim();
        var model = Load(group, name == "cpu" ? TimeSpan.FromSeconds(1) : TimeSpan.FromSeconds(10));
        var texts = Start(model, 3);
        var start = Fault(group, rank, 25, () => Assert.True(back.Wait(Long)));
        foreach (var text in texts)
        {
            var error = await Assert.ThrowsAsync<OctetException>(() => text);
            Assert.Equal(OctetStatus.GroupStopped, error.Status);
            Assert.Contains($"rank {rank} ({group.Devices[rank].Name}) did not come within", error.Message, StringComparison.Ordinal);
        }

        Assert.InRange(start(), 0, Soon);
        model.Dispose();
        Assert.InRange(start(), 0, 2 * Soon);

        // What the rank works on is there until it comes back.
        Assert.NotEqual(0, group.LiveBytes);
        back.Set();
        Assert.True(SpinWait.SpinUntil(() => group.LiveBytes == 0, Long));
        await CheckAnew(group, name);
    }

    private static LanguageModel Load(DeviceGroup group, TimeSpan timeout) => LanguageModel.Load(
        TinyModel.Directory, group,
        new() { TensorParallel = group.Devices.Count, ExpertParallel = group.Devices.Count, MaxSequences = 4, KvCacheTokens = 2048, RankTimeout = timeout });

    // From now on; gives the seconds since it came to the fault.
    private static Func<double> Fault(DeviceGroup group, int rank, int op, Action fault)
    {
        long start = 0;
        var ops = 0;
        WatchedBackend.Of(group.Devices[rank]).Before = _ =>
        {
            if (Interlocked.Increment(ref ops) == op)
            {
                start = Stopwatch.GetTimestamp();
                fault();
            }
        };
        return () => Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private static Task<int[]>[] Start(LanguageModel model, int texts, int tokens = 400) =>
        [.. Enumerable.Range(1, texts).Select(text => Task.Run(() => Ids(model, text, tokens)))];

    private static async Task<int[]> Ids(LanguageModel model, int text, int tokens)
    {
        var ids = new List<int>();
        await foreach (var token in model.GenerateAsync(
            [40, 40 + text], new() { MaxTokens = tokens, Temperature = 1, Seed = text, IgnoreEndOfText = true }, TestContext.Current.CancellationToken))
        {
            ids.Add(token.Id);
        }

        return [.. ids];
    }

    // The same devices serve the model again, with the tokens of one.
    private static async Task CheckAnew(DeviceGroup group, string name)
    {
        Assert.Equal(0, group.LiveBytes);
        foreach (var device in group.Devices)
        {
            WatchedBackend.Of(device).Before = null;
        }

        using var one = Device.Open(name);
        using var alone = LanguageModel.Load(TinyModel.Directory, one, new() { KvCacheTokens = 2048 });
        using (var anew = Load(group, Long))
        {
            Assert.Equal(await Ids(alone, 1, 6), await Ids(anew, 1, 6));
        }

        Assert.Equal(0, group.LiveBytes);
    }
}
