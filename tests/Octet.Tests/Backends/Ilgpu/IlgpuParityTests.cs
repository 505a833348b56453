using Octet.Cases;
using Octet.Ilgpu;

namespace Octet.Tests.Backends.Ilgpu;

/// <summary>The parity cases on ILGPU's CPU accelerator, and on every GPU that ILGPU can use here.</summary>
public sealed class IlgpuParityTests(IlgpuCpu cpu) : IClassFixture<IlgpuCpu>
{
    public static TheoryData<string, string> Cases()
    {
        var data = new TheoryData<string, string>();
        foreach (var test in CaseList.All.Where(c => c.Tier == CaseTier.Ci))
        {
            data.Add(test.Op, test.Name);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Case_matches_the_reference(string op, string name)
    {
        var result = CaseResult.Run(CaseList.All.Single(c => c.Op == op && c.Name == name), cpu.Device);
        Assert.True(result.Passed, result.Failure);
        Assert.Equal(0, cpu.Device.LiveBytes);
    }

    [Fact]
    public void Every_case_matches_on_every_gpu_there_is()
    {
        var provider = new IlgpuProvider();
        foreach (var probe in provider.Probe().Where(p => p.IsUsable && p.Name != "ilgpu:cpu"))
        {
            using var device = Device.Open(probe.Name);
            foreach (var test in CaseList.All.Where(c => c.Tier == CaseTier.Ci))
            {
                var result = CaseResult.Run(test, device);
                Assert.True(result.Passed, $"{probe.Name}, {test}: {result.Failure}");
            }

            Assert.Equal(0, device.LiveBytes);
        }
    }
}
