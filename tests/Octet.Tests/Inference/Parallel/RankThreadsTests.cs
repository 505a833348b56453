using System.Diagnostics;
using Octet.Inference.Parallel;

namespace Octet.Tests.Inference.Parallel;

public sealed class RankThreadsTests
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(2);

    [Fact]
    public void All_ranks_do_the_same_at_the_same_time_and_the_caller_waits_for_all()
    {
        using var together = new Barrier(4);
        var left = 0;
        var counts = new int[4];
        using (var threads = new RankThreads(Names(4), Long, () => { }, () => left++))
        {
            for (var round = 1; round <= 50; round++)
            {
                threads.Do(rank =>
                {
                    Assert.True(together.SignalAndWait(Long));
                    counts[rank]++;
                });
                Assert.All(counts, count => Assert.Equal(round, count));
            }

            Assert.Equal((null, 0), (threads.Failure, left));
        }

        Assert.Equal(1, left);
    }

    [Fact]
    public void A_rank_that_fails_stops_its_peers_and_the_group_for_good()
    {
        using var stopped = new ManualResetEventSlim();
        using var threads = new RankThreads(Names(3), Long, stopped.Set, () => { });
        var start = Stopwatch.GetTimestamp();
        var error = Assert.Throws<OctetException>(() => threads.Do(rank =>
        {
            if (rank == 1)
            {
                throw new InvalidOperationException("no more");
            }

            Assert.True(stopped.Wait(Long));
            throw new OctetException(OctetStatus.GroupStopped, "told to stop");
        }));
        Assert.InRange(Stopwatch.GetElapsedTime(start).TotalSeconds, 0, 30);
        Assert.Equal(OctetStatus.GroupStopped, error.Status);
        Assert.True(error.IsTransient);
        Assert.StartsWith("rank 1 (sim 1) failed: no more; the group has stopped", error.Message, StringComparison.Ordinal);
        Assert.Same(error, threads.Failure);
        var again = 0;
        Assert.Same(error, Assert.Throws<OctetException>(() => threads.Do(_ => again++)));
        Assert.Equal(0, again);
    }

    [Fact]
    public void A_rank_that_stays_away_is_named_and_what_it_works_on_is_kept_until_it_is_back()
    {
        using var back = new ManualResetEventSlim();
        using var gone = new ManualResetEventSlim();
        var start = Stopwatch.GetTimestamp();
        var threads = new RankThreads(Names(2), TimeSpan.FromMilliseconds(100), () => { }, gone.Set);
        var error = Assert.Throws<OctetException>(() => threads.Do(rank =>
        {
            if (rank == 1)
            {
                Assert.True(back.Wait(Long));
            }
        }));
        Assert.StartsWith("rank 1 (sim 1) did not come within 0.1 s; ", error.Message, StringComparison.Ordinal);
        threads.Dispose();
        Assert.InRange(Stopwatch.GetElapsedTime(start).TotalSeconds, 0, 30);
        Assert.False(gone.IsSet);
        back.Set();
        Assert.True(gone.Wait(Long));
    }

    [Fact]
    public void Where_no_rank_has_an_error_of_its_own_a_wait_in_vain_is_told()
    {
        using var threads = new RankThreads(Names(2), Long, () => { }, () => { });
        var error = Assert.Throws<OctetException>(() => threads.Do(rank =>
            throw new OctetException(OctetStatus.GroupStopped, $"rank {rank} waited in vain")));
        Assert.Matches("^rank [01] waited in vain; the group has stopped", error.Message);
    }

    private static string[] Names(int count) => [.. Enumerable.Range(0, count).Select(rank => $"sim {rank}")];
}
