using Octet.Server.Hosting;

namespace Octet.Tests.Server;

public sealed class StallClockTests
{
    [Fact]
    public void Time_counts_from_when_texts_were_first_seen_to_wait_and_ends_with_a_step_or_the_last_text()
    {
        var clock = default(StallClock);
        Assert.Equal(0, clock.Look(steps: 5, waits: false, now: 1_000));
        Assert.Equal(0, clock.Look(steps: 5, waits: true, now: 500_000));
        Assert.Equal(300, clock.Look(steps: 5, waits: true, now: 500_300));
        Assert.Equal(0, clock.Look(steps: 6, waits: true, now: 500_400));
        Assert.Equal(100, clock.Look(steps: 6, waits: true, now: 500_500));
        Assert.Equal(0, clock.Look(steps: 6, waits: false, now: 500_600));
        Assert.Equal(0, clock.Look(steps: 6, waits: true, now: 900_000));
        Assert.Equal(50, clock.Look(steps: 6, waits: true, now: 900_050));
    }
}
