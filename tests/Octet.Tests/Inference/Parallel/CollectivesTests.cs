using System.Diagnostics;
using System.Runtime.InteropServices;
using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Inference.Parallel;
using Octet.Tests.Cli;

namespace Octet.Tests.Inference.Parallel;

/// <summary>Ranks that add through a library in RCCL's place, which the tests build and tell what shall go wrong (rccl_stand_in.cpp).</summary>
public sealed class CollectivesTests : IDisposable
{
    private const string Variable = "OCTET_COLLECTIVES_LIBRARY";
    private const string Device = "sim:gfx942";

    private static readonly string Library = Path.Combine(TinyModel.Root, "build", "native", "rccl_stand_in", "librccl.so.1");

    private static readonly int[] Prompt = [40, 300, 12, 900, 33];

    private readonly StandIn _standIn = new(Library);

    public CollectivesTests() => Environment.SetEnvironmentVariable(Variable, Library);

    public void Dispose()
    {
        Environment.SetEnvironmentVariable(Variable, null);
        _standIn.Fail(-1);
        _standIn.Stall(false);
        _standIn.Break(false);
        Assert.Equal(0, _standIn.Communicators());
    }

    [Fact]
    public async Task Logits_agree_with_those_of_octet_within_roundings_eager_and_replayed()
    {
        var (expected, ids) = await Run(Collectives.Octet);
        var before = _standIn.Sums();
        var (actual, drawn) = await Run(Collectives.Rccl);
        Assert.InRange(TinyModel.Difference(actual, expected), 1e-12, 1e-4);
        Assert.Equal(ids, drawn);
        Assert.InRange(_standIn.Sums() - before, 1, long.MaxValue);
    }

    [Fact]
    public void Steps_of_many_tokens_are_not_divided()
    {
        int[] ids = [.. Enumerable.Range(0, TokenShards.LeastTokens).Select(i => i * 41 % 1000)];
        using var group = DeviceGroup.Open($"{Device}*2");
        var before = _standIn.Sums();
        using var model = Load(group, Collectives.Rccl);
        _ = TinyModel.Logits(model, ids);
        Assert.Equal(2 * model.Config.LayerCount + 1, _standIn.Sums() - before);
    }

    [Fact]
    public async Task A_sum_that_fails_ends_the_text_with_the_library_s_words_and_the_model_loads_anew()
    {
        using var group = DeviceGroup.Open($"{Device}*2");
        using (var model = Load(group, Collectives.Rccl))
        {
            _standIn.Fail(5);
            var error = await Assert.ThrowsAsync<OctetException>(() => Ids(model));
            Assert.Equal((OctetStatus.GroupStopped, true), (error.Status, error.IsTransient));
            Assert.Matches(@"^rank [01] \(sim:gfx942\) failed: sim: ncclAllReduce: error 3 \(told so by a test\); the group has stopped", error.Message);
        }

        Assert.Equal((0, 0), (group.LiveBytes, _standIn.Communicators()));
        using var anew = Load(group, Collectives.Rccl);
        Assert.NotEmpty(await Ids(anew));
    }

    [Fact]
    public async Task A_sum_that_fails_behind_its_enqueueing_is_found_at_the_end_of_the_step()
    {
        using var group = DeviceGroup.Open($"{Device}*2");
        using (var model = Load(group, Collectives.Rccl))
        {
            _standIn.Break(true);
            var error = await Assert.ThrowsAsync<OctetException>(() => Ids(model));
            Assert.Contains("failed: sim: a sum under way: error 6 (told so by a test)", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(0, group.LiveBytes);
    }

    [Fact]
    public async Task Ranks_that_wait_for_a_peer_that_is_gone_leave_the_sum_at_the_deadline()
    {
        using var group = DeviceGroup.Open($"{Device}*2");
        using (var model = Load(group, Collectives.Rccl, TimeSpan.FromSeconds(1)))
        {
            _standIn.Stall(true);
            var start = Stopwatch.GetTimestamp();
            var error = await Assert.ThrowsAsync<OctetException>(() => Ids(model));
            Assert.StartsWith("no rank was done within 1 s; the group has stopped", error.Message, StringComparison.Ordinal);
            Assert.InRange(Stopwatch.GetElapsedTime(start).TotalSeconds, 1, 20);
        }

        Assert.Equal(0, group.LiveBytes);
    }

    [Fact]
    public void A_library_that_is_missing_is_an_error_with_the_remedy_before_a_weight_is_read()
    {
        Environment.SetEnvironmentVariable(Variable, "/nowhere/librccl.so.1");
        var error = Refused<OctetException>($"{Device}*2");
        Assert.Equal(OctetStatus.NoDevice, error.Status);
        Assert.StartsWith("sim: library not found: /nowhere/librccl.so.1: cannot open shared object file", error.Message, StringComparison.Ordinal);
        Assert.EndsWith("name its file (OCTET_COLLECTIVES_LIBRARY), or let Octet's own kernels add (collectives octet, the default)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Devices_over_which_no_library_adds_are_refused()
    {
        Assert.Contains("no library of collectives for cpu", Refused<OctetException>("cpu*2").Message, StringComparison.Ordinal);
        Assert.Contains("take TensorParallel 2, 4 or 8, or Collectives.Octet", Refused<ArgumentException>("cpu").Message, StringComparison.Ordinal);
        Environment.SetEnvironmentVariable(Variable, null);
        Assert.Contains("simulated gfx942 has no library of collectives: name one", Refused<OctetException>($"{Device}*2").Message, StringComparison.Ordinal);

        using var three = DeviceGroup.Open($"{Device}*3");
        var error = Assert.Throws<OctetException>(() => Communicator.Create(three.Devices, Library));
        Assert.Contains("3 ranks, must be 2, 4 or 8", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_sum_takes_contiguous_BF16_of_the_rank_s_device_and_none_behind_an_abort()
    {
        using var group = DeviceGroup.Open($"{Device}*2");
        using var communicator = Communicator.Create(group.Devices);
        using var mine = Tensor.Zeros(group.Devices[0], DType.BFloat16, 4, 8);
        using var wide = Tensor.Zeros(group.Devices[0], DType.Float32, 8);
        var stream = group.Devices[0].Stream;
        Assert.Throws<ArgumentOutOfRangeException>(() => communicator.AllReduce(2, stream, mine));
        Assert.Throws<ArgumentException>(() => communicator.AllReduce(1, stream, mine));
        Assert.Throws<ArgumentException>(() => communicator.AllReduce(0, stream, wide));
        Assert.Throws<ArgumentException>(() => communicator.AllReduce(0, stream, mine.AsView().Slice(1, 0, 4)));
        communicator.ThrowIfFailed(1);
        communicator.Abort();
        communicator.Abort();
        Assert.True(communicator.IsAborted);
        Assert.Equal(OctetStatus.GroupStopped, Assert.Throws<OctetException>(() => communicator.AllReduce(0, stream, mine)).Status);
        Assert.Equal(OctetStatus.GroupStopped, Assert.Throws<OctetException>(() => communicator.ThrowIfFailed(0)).Status);
    }

    [Fact]
    public async Task The_command_says_that_results_are_not_bit_exact()
    {
        string[] text = ["generate", "--prompt", "K", "--max-tokens", "2", "--temperature", "0", "--device", $"{Device}*2", "--tp", "2", "--collectives"];
        var (code, output, error) = await OctetProcess.Run([.. text, "rccl"], (Variable, Library));
        Assert.Equal((0, true), (code, output.Length > 0));
        Assert.Contains("collectives rccl: 2 devices add in the library's order, so results are not bit-exact", error, StringComparison.Ordinal);
        (code, _, error) = await OctetProcess.Run([.. text, "nccl"]);
        Assert.Equal(2, code);
        Assert.Contains("--collectives is 'nccl', expected octet or rccl.", error, StringComparison.Ordinal);
    }

    private static T Refused<T>(string devices) where T : Exception
    {
        using var group = DeviceGroup.Open(devices);
        var error = Assert.Throws<T>(() => Load(group, Collectives.Rccl));
        Assert.Equal(0, group.LiveBytes);
        return error;
    }

    private static LanguageModel Load(DeviceGroup group, Collectives collectives, TimeSpan? timeout = null) => LanguageModel.Load(TinyModel.Directory, group, new()
    {
        TensorParallel = group.Devices.Count,
        Collectives = collectives,
        MaxSequences = 2,
        KvCacheTokens = 512,
        RankTimeout = timeout ?? TimeSpan.FromMinutes(2),
    });

    // The logits of a prompt, and what is drawn behind it: eagerly, recorded and replayed.
    private static async Task<(float[] Logits, int[] Ids)> Run(Collectives collectives)
    {
        using var group = DeviceGroup.Open($"{Device}*4");
        using var model = Load(group, collectives);
        var logits = TinyModel.Logits(model, Prompt);
        var ids = await Ids(model);
        Assert.True(model.Graphs!.Recorded > 0);
        return (logits, ids);
    }

    private static async Task<int[]> Ids(LanguageModel model)
    {
        var ids = new List<int>();
        await foreach (var token in model.GenerateAsync(
            Prompt[..2], new() { MaxTokens = 5, Temperature = 0, IgnoreEndOfText = true }, TestContext.Current.CancellationToken))
        {
            ids.Add(token.Id);
        }

        return [.. ids];
    }

    private sealed unsafe class StandIn(string path)
    {
        private readonly nint _library = File.Exists(path)
            ? NativeLibrary.Load(path)
            : throw new InvalidOperationException($"{path} is missing: build it with ninja -C build/native");

        public long Sums() => ((delegate* unmanaged<long>)Export("sums"))();

        public int Communicators() => ((delegate* unmanaged<int>)Export("communicators"))();

        public void Fail(long call) => ((delegate* unmanaged<long, void>)Export("fail"))(call);

        public void Stall(bool stalls) => ((delegate* unmanaged<int, void>)Export("stall"))(stalls ? 1 : 0);

        public void Break(bool breaks) => ((delegate* unmanaged<int, void>)Export("break"))(breaks ? 1 : 0);

        private nint Export(string name) => NativeLibrary.GetExport(_library, $"stand_in_{name}");
    }
}
