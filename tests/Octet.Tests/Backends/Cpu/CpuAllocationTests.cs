using Octet.Cases;

namespace Octet.Tests.Backends.Cpu;

/// <summary>An op's host side allocates nothing: every op, by one case of each.</summary>
public sealed class CpuAllocationTests
{
    public static TheoryData<string> OpNames => [.. CaseList.All.Select(c => c.Op).Distinct()];

    [Theory]
    [MemberData(nameof(OpNames))]
    public void Op_allocates_nothing_once_it_has_run(string op)
    {
        using var device = CpuDevices.Open(0, 2);
        var test = CaseList.All.First(c => c.Op == op && c.Tier == CaseTier.Ci && c.Name.StartsWith("regular", StringComparison.Ordinal));
        using var context = new CaseContext(device, test);
        var launch = test.Prepare(context).Launch;
        for (var i = 0; i < 3; i++)
        {
            launch();
        }

        // The runtime itself may allocate once in a while when it compiles a method again: an op that allocates does in every round.
        var fewest = long.MaxValue;
        for (var round = 0; round < 5; round++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 10; i++)
            {
                launch();
            }

            fewest = Math.Min(fewest, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.Equal(0, fewest);
    }
}
