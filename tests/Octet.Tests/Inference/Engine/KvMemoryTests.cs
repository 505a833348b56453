using Octet.Inference.Engine;

namespace Octet.Tests.Inference.Engine;

public sealed class KvMemoryTests
{
    private const long MB = 1_000_000, MiB = 1 << 20, GiB = 1 << 30;

    // Two tensors of 16-token blocks, 4,096 bytes a token: 64 KiB a block. 10 GiB beside weights, buffers and workspace.
    private static readonly KvMemory s_gpu = new()
    {
        Device = "hip:0",
        FreeBytes = 40 * GiB,
        WeightBytes = 28 * GiB,
        BufferBytes = GiB,
        WorkspaceBytes = GiB,
        UsesHostMemory = false,
        UsesGraphs = false,
        BytesPerToken = 4096,
        Tensors = 2,
        BlockSize = 16,
        MaxContext = 262_144,
        MaxSequences = 32,
        TokenBudget = 512,
    };

    private static string Refusal(KvMemory memory)
    {
        var error = Assert.Throws<OctetException>(() => memory.Blocks());
        Assert.Equal(OctetStatus.OutOfMemory, error.Status);
        Assert.DoesNotContain('\n', error.Message);
        return error.Message;
    }

    [Fact]
    public void A_gpu_gives_all_that_is_left_but_1_GiB_or_256_MiB_with_graphs()
    {
        Assert.Equal(9 * GiB / (64 << 10), s_gpu.Blocks());
        Assert.Equal((10 * GiB - 256 * MiB) / (64 << 10), (s_gpu with { UsesGraphs = true }).Blocks());
    }

    [Fact]
    public void The_host_gives_half_of_what_is_left() =>
        Assert.Equal(5 * GiB / (64 << 10), (s_gpu with { UsesHostMemory = true }).Blocks());

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void No_more_is_taken_than_all_requests_can_fill(bool host)
    {
        var memory = s_gpu with { UsesHostMemory = host, MaxContext = 1001, MaxSequences = 3 };
        Assert.Equal(3 * 63, memory.Blocks());
    }

    [Fact]
    public void Tensors_of_a_gpu_fit_when_the_driver_rounds_each_up_to_2_MiB()
    {
        // 188 tensors as of 94 layers: without the rounding each would have 1.5 granules more than it may.
        var memory = s_gpu with { Tensors = 188, BytesPerToken = 188 * 512, WeightBytes = 38 * GiB - 188 * 3 * MiB - GiB - GiB / 2 };
        var bytesEach = memory.Blocks() * 16L * 512;
        var rounded = (bytesEach + 2 * MiB - 1) / (2 * MiB) * (2 * MiB);
        Assert.InRange(188 * rounded, 1, memory.LeftBytes);
        Assert.InRange(188 * (rounded + 2 * MiB), memory.LeftBytes, long.MaxValue);
    }

    [Fact]
    public void What_is_asked_for_is_given_as_far_as_it_fits_even_into_the_reserve()
    {
        Assert.Equal(63, (s_gpu with { Tokens = 1001 }).Blocks());
        Assert.Equal(10 * GiB / (64 << 10), (s_gpu with { Tokens = 10 * GiB / 4096 }).Blocks());
        var message = Refusal(s_gpu with { Tokens = 10 * GiB / 4096 + 1 });
        Assert.Contains("a KV cache of 2621456 tokens, 4096 bytes each (10.7 GB)", message, StringComparison.Ordinal);
        Assert.Contains("room for 2621440 tokens", message, StringComparison.Ordinal);
        Assert.Contains("lower KvCacheTokens (2621441)", message, StringComparison.Ordinal);

        // The host's pages are taken as they are touched: the user may know better.
        Assert.Equal(20 * GiB / (64 << 10), (s_gpu with { UsesHostMemory = true, Tokens = 20 * GiB / 4096 }).Blocks());
    }

    [Fact]
    public void Too_little_for_one_step_is_said_with_all_numbers_and_what_helps()
    {
        var tight = s_gpu with { FreeBytes = 31 * GiB + 2 * MiB };
        Assert.Equal(
            "hip:0: too little memory for a KV cache of 512 tokens, 4096 bytes each (2.1 MB): of 33.3 GB free the weights take 30.1 GB, "
            + "step buffers 1.1 GB, workspace 1.1 GB, the reserve 1.1 GB, which leaves 2.1 MB, room for 496 tokens; "
            + "lower MaxContext (262144), TokenBudget (512) or MaxSequences (32), free memory that other processes hold, or use a device with more",
            Refusal(tight with { FreeBytes = tight.FreeBytes - 4096 }));
        Assert.Equal(32, tight.Blocks());
        Assert.Equal(1, (tight with { FreeBytes = 31 * GiB + 80_000, MaxContext = 10 }).Blocks());
        Assert.Contains("which is 1.1 GB too much", Refusal(tight with { FreeBytes = 30 * GiB }), StringComparison.Ordinal);
        Assert.Contains("--kv fp8", Refusal(tight with { FreeBytes = 30 * GiB, CanShrink = true }), StringComparison.Ordinal);
        Assert.Contains("of which the cache may take half", Refusal(tight with { FreeBytes = 30 * GiB + 4 * MiB - 4096, UsesHostMemory = true }), StringComparison.Ordinal);
    }

    [Fact]
    public void Weights_larger_than_the_memory_call_for_another_device()
    {
        var message = Refusal(s_gpu with { FreeBytes = 20_000 * MB });
        Assert.Contains("of 20.0 GB free the weights take 30.1 GB", message, StringComparison.Ordinal);
        Assert.EndsWith("use a device with more memory, or a smaller model", message, StringComparison.Ordinal);
    }
}
