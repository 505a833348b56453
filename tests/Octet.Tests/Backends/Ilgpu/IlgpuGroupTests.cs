using Octet.Cases;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>
/// The code for GPUs, threads that share rows and tiles in shared memory, on the small regular cases and tails of every op: more
/// takes the CPU accelerator, which gives each of the 64 threads of a group one of the machine, minutes.
/// </summary>
public sealed class IlgpuGroupTests(IlgpuGroups groups) : IClassFixture<IlgpuGroups>
{
    private const double MostFlops = 1.5e6;
    private const double MostBytes = 6e4;

    private static IEnumerable<Case> Chosen => CaseList.All.Where(c =>
        c.Tier == CaseTier.Ci && !c.Name.StartsWith("corner", StringComparison.Ordinal) && c.Flops <= MostFlops && c.Bytes <= MostBytes);

    public static TheoryData<string, string> Cases()
    {
        var data = new TheoryData<string, string>();
        foreach (var test in Chosen)
        {
            data.Add(test.Op, test.Name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_matches_the_reference(string op, string name)
    {
        var result = CaseResult.Run(CaseList.All.Single(c => c.Op == op && c.Name == name), groups.Device);
        Assert.True(result.Passed, result.Failure);
        Assert.Equal(0, groups.Device.LiveBytes);
    }

    [Fact]
    public void Every_op_is_among_the_cases() =>
        Assert.Empty(CaseList.All.Select(c => c.Op).Except(Chosen.Select(c => c.Op)));
}
