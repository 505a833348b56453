using Octet.Cases;

namespace Octet.Tests.Cases;

/// <summary>Every case on every backend that needs no hardware; a GPU is tested too where there is one.</summary>
public sealed class ParityTests
{
    public static TheoryData<string, string, string> Cases(string device)
    {
        var data = new TheoryData<string, string, string>();
        foreach (var test in CaseList.All.Where(c => c.Tier == CaseTier.Ci))
        {
            data.Add(device, test.Op, test.Name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases), "cpu")]
    [MemberData(nameof(Cases), "cpu:fnuz")]
    [MemberData(nameof(Cases), "sim:gfx942")]
    [MemberData(nameof(Cases), "sim:gfx950")]
    [MemberData(nameof(Cases), "sim:sm_90")]
    public void Case_matches_the_reference(string deviceName, string op, string name)
    {
        using var device = Device.Open(deviceName);
        var result = CaseResult.Run(CaseList.All.Single(c => c.Op == op && c.Name == name), device);
        Assert.True(result.Passed, result.Failure);
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Names_of_cases_are_unique() =>
        Assert.Empty(CaseList.All.GroupBy(c => (c.Op, c.Name)).Where(g => g.Count() > 1).Select(g => g.Key));
}
