using Octet.Inference.Models;
using Octet.Inference.Parallel;

namespace Octet.Tests.Inference.Parallel;

public sealed class ParallelSizesTests
{
    [Theory]
    [InlineData("cpu*3", 3, 1, 1, "DataParallel = 3, TensorParallel = 1, ExpertParallel = 1: each must be 1, 2, 4 or 8")]
    [InlineData("cpu", 1, 0, 1, "DataParallel = 1, TensorParallel = 0, ExpertParallel = 1: each must be 1, 2, 4 or 8")]
    [InlineData("cpu", 1, 16, 16, "DataParallel = 1, TensorParallel = 16, ExpertParallel = 16: each must be 1, 2, 4 or 8")]
    [InlineData("cpu*2", 1, 2, 4, "DataParallel = 1, TensorParallel = 2, ExpertParallel = 4: the experts are divided among the devices of a tensor parallel group, so ExpertParallel must divide TensorParallel")]
    [InlineData("cpu", 2, 1, 1, "DataParallel = 2, TensorParallel = 1, ExpertParallel = 1: DataParallel x TensorParallel are 2 devices, and cpu is 1; open a group of as many (hip:0-3, cpu*4), or change the sizes")]
    [InlineData("cpu*4", 2, 4, 4, "DataParallel = 2, TensorParallel = 4, ExpertParallel = 4: DataParallel x TensorParallel are 8 devices, and cpu*4 are 4; open a group of as many (hip:0-3, cpu*4), or change the sizes")]
    [InlineData("cpu*2", 1, 1, 1, "DataParallel = 1, TensorParallel = 1, ExpertParallel = 1: DataParallel x TensorParallel are 1 devices, and cpu*2 are 2; open a group of as many (hip:0-3, cpu*4), or change the sizes")]
    public void Sizes_that_are_none_or_not_the_devices_are_refused_with_all_values(string group, int dp, int tp, int ep, string problem)
    {
        using var devices = DeviceGroup.Open(group);
        var options = new LanguageModelOptions { DataParallel = dp, TensorParallel = tp, ExpertParallel = ep };
        Assert.Equal(problem, Assert.Throws<ArgumentException>(() => ParallelSizes.Check(options, devices)).Message);
    }

    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu*2", 2)]
    [InlineData("cpu*8", 8)]
    public void Sizes_that_are_the_devices_are_taken(string group, int dp)
    {
        using var devices = DeviceGroup.Open(group);
        ParallelSizes.Check(new() { DataParallel = dp }, devices);
    }
}
