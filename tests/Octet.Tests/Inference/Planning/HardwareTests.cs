using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

public class HardwareTests
{
    [Theory]
    [InlineData(1, 7.64)]
    [InlineData(8192, 7.64)]
    [InlineData(65_536, 9.14)]
    [InlineData(1_572_864, 27.215)]
    [InlineData(67_108_864, 427.9)]
    [InlineData(536_870_912, 3068.8)]
    public void All_reduce_over_eight_follows_the_measured_points(double bytes, double microseconds) =>
        Assert.Equal(microseconds / 1e3, Hardware.Find("mi325x").AllReduceMs(8, bytes), 1e-9);

    [Fact]
    public void Fewer_gpus_of_a_mesh_have_fewer_links_and_take_longer()
    {
        Hardware gpu = Hardware.Find("mi325x");
        double bytes = 64 << 20;
        Assert.True(gpu.AllReduceMs(2, bytes) > gpu.AllReduceMs(4, bytes));
        Assert.True(gpu.AllReduceMs(4, bytes) > gpu.AllReduceMs(8, bytes));
        Assert.Equal(0, gpu.AllReduceMs(1, bytes));
    }

    [Fact]
    public void Through_a_switch_the_group_hardly_matters()
    {
        Hardware gpu = Hardware.Find("h100");
        Assert.Equal(2 * 0.875 * 64e6 / 360e6, gpu.AllReduceMs(8, 64e6), 1e-9);
        Assert.Equal(2 * 0.75 * 64e6 / 360e6, gpu.AllReduceMs(4, 64e6), 1e-9);
    }

    [Fact]
    public void Every_kind_states_its_sources() => Assert.All(Hardware.Kinds, kind => Assert.NotEmpty(Hardware.Find(kind).Sources));

    [Theory]
    [InlineData(1, 8)]
    [InlineData(8, 51.6)]
    [InlineData(16, 82.4)]
    [InlineData(64, 125.9)]
    public void Distinct_experts_follow_the_expectation(double tokens, double experts) =>
        Assert.Equal(experts, ModelShape.Find(ModelShape.Target).DistinctExperts(tokens), 0.06);
}
