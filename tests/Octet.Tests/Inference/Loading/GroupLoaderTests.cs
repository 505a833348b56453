using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Tests.Inference.Models;

namespace Octet.Tests.Inference.Loading;

public sealed class GroupLoaderTests : IDisposable
{
    private const int Experts = 32, Layers = 2;

    private readonly ModelDirectory _directory = new();
    private readonly ModelConfig _config;

    public GroupLoaderTests()
    {
        new RandomCheckpoint(new()
        {
            Architecture = "Qwen3MoeForCausalLM", Type = SafeTensorType.Float8E4M3, Heads = 16, KvHeads = 4, HeadDim = 64, Hidden = 256,
            Experts = Experts, TopK = 8, Width = 512, Vocabulary = 512, Layers = Layers, Bias = true,
        }).Write(_directory.Path);
        _config = ModelConfig.Load(_directory.Path);
    }

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(2, 2)]
    [InlineData(4, 4)]
    [InlineData(8, 8)]
    [InlineData(4, 1)]
    [InlineData(8, 2)]
    public void The_ranks_together_read_every_byte_and_whole_experts_once(int tp, int ep)
    {
        using var device = Device.Open("cpu:fnuz");
        Dictionary<string, int[]> readers = [];
        for (var rank = 0; rank < tp; rank++)
        {
            var watched = new WatchedFiles();
            using var files = CheckpointFiles.Open(_directory.Path, watched);
            var headers = watched.BytesRead;
            var loaded = Load(files, new(rank, tp, ep), device, new());
            Assert.Equal(loaded.Loaded.BytesRead, watched.BytesRead - headers);
            Assert.Equal(loaded.Loaded.BytesKept, device.LiveBytes);
            loaded.Dispose();
            foreach (var tensor in files.Names.Select(name => files[name]))
            {
                var seen = new bool[tensor.SizeInBytes];
                foreach (var (_, offset, length) in watched.Ranges.Where(range => range.Path == tensor.File))
                {
                    var first = Math.Max(offset, tensor.FileOffset) - tensor.FileOffset;
                    var end = Math.Min(offset + length, tensor.FileOffset + tensor.SizeInBytes) - tensor.FileOffset;
                    if (end > first)
                    {
                        seen.AsSpan((int)first, (int)(end - first)).Fill(true);
                    }
                }

                var counts = readers.TryGetValue(tensor.Name, out var known) ? known : readers[tensor.Name] = new int[tensor.SizeInBytes];
                for (var i = 0; i < counts.Length; i++)
                {
                    counts[i] += seen[i] ? 1 : 0;
                }
            }
        }

        Assert.Equal(0, device.LiveBytes);
        Assert.All(readers, tensor => Assert.DoesNotContain(0, tensor.Value));
        if (tp == ep)
        {
            // The bytes behind the first page: those before may lie between two ranges of another rank.
            var experts = readers.Where(tensor => tensor.Key.EndsWith("_proj.weight", StringComparison.Ordinal) && tensor.Key.Contains(".experts.", StringComparison.Ordinal)).ToArray();
            Assert.Equal(3 * Experts * Layers, experts.Length);
            Assert.All(experts, tensor => Assert.All(tensor.Value[ReadPlan.MergedGap..^ReadPlan.MergedGap].Distinct(), count => Assert.Equal(1, count)));
        }
    }

    [Fact]
    public void Progress_is_told_over_all_ranks_and_only_grows()
    {
        using var group = DeviceGroup.Open("cpu:fnuz*4");
        using var files = CheckpointFiles.Open(_directory.Path);
        List<LoadProgress> told = [];
        var loaded = GroupLoader.Load(files, _config, Ranks(group, 4, 4), new() { Progress = new Told(told.Add) });
        Assert.Equal(told.OrderBy(progress => progress.LoadedBytes), told);
        var total = Assert.Single(told.Select(progress => progress.TotalBytes).Distinct());
        Assert.Equal(total, told[^1].LoadedBytes);

        // Each byte of the checkpoint at least once.
        Assert.InRange(total, files.SizeInBytes, files.SizeInBytes * 3 / 2);
        Array.ForEach(loaded, model => model.Dispose());
        Assert.Equal(0, group.LiveBytes);
    }

    [Theory]
    [InlineData("cpu:fnuz", false)]
    [InlineData("cpu", true)]
    [InlineData("sim:gfx950", false)]
    public void A_fault_at_any_read_is_told_and_leaves_nothing(string name, bool isRemote)
    {
        using var device = Device.Open(name);
        var whole = new WatchedFiles { AreRemote = isRemote };
        using (var files = CheckpointFiles.Open(_directory.Path, whole))
        {
            Load(files, new(1, 2, 2), device, new() { Threads = 1 }).Dispose();
            Assert.Equal(0, whole.Maps);
        }

        int[] places = [0, 1, 2, 3, whole.Reads / 2, whole.Reads - 1];
        foreach (var place in places.Distinct())
        {
            foreach (var fault in (string[])["fails", "ends", "stops", "changes"])
            {
                using var stop = new CancellationTokenSource();
                WatchedFiles? files = null;
                files = new WatchedFiles
                {
                    AreRemote = isRemote,
                    OnRead = (read, _, _, length) =>
                    {
                        if (read != place)
                        {
                            return length;
                        }

                        switch (fault)
                        {
                            case "fails":
                                throw new IOException("Input/output error", 5);
                            case "ends":
                                return 0;
                            case "stops":
                                stop.Cancel();
                                return length;
                            default:
                                files!.WrittenNow = (_, time) => time.AddMinutes(1);
                                return length;
                        }
                    },
                };
                var error = Record.Exception(() =>
                {
                    using var opened = CheckpointFiles.Open(_directory.Path, files);
                    Load(opened, new(1, 2, 2), device, new() { Threads = 2, Cancellation = stop.Token }).Dispose();
                });
                if (fault == "stops")
                {
                    Assert.IsType<OperationCanceledException>(error);
                }
                else
                {
                    Assert.Contains("model.safetensors: ", Assert.IsType<ModelFormatException>(error).Message, StringComparison.Ordinal);
                }

                Assert.Equal((0, 0L), (files.StillOpen, device.LiveBytes));
            }
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(20)]
    public void Loading_stops_at_any_progress_and_leaves_nothing(int at)
    {
        using var group = DeviceGroup.Open("cpu:fnuz*2");
        using var files = CheckpointFiles.Open(_directory.Path);
        using var stop = new CancellationTokenSource();
        var told = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => GroupLoader.Load(files, _config, Ranks(group, 2, 2), new()
        {
            Cancellation = stop.Token,
            Progress = new Told(_ =>
            {
                if (told++ == at)
                {
                    stop.Cancel();
                }
            }),
        }));
        Assert.Equal(0, group.LiveBytes);
    }

    [Fact]
    public void A_rank_that_fails_takes_the_others_with_it()
    {
        using var group = DeviceGroup.Open("cpu:fnuz*2");
        using var files = CheckpointFiles.Open(_directory.Path);
        using var closed = Device.Open("cpu:fnuz");
        closed.Dispose();
        var ranks = Ranks(group, 2, 2);
        Assert.Throws<ObjectDisposedException>(() => GroupLoader.Load(files, _config, [ranks[0], (ranks[1].Sharding, closed)], new()));
        Assert.Equal(0, group.LiveBytes);
    }

    [Fact]
    public void Slow_short_and_interrupted_reads_give_the_bytes_of_the_file()
    {
        using var device = Device.Open("cpu:fnuz");
        using var plain = CheckpointFiles.Open(_directory.Path);
        using var whole = Load(plain, Sharding.One, device, new());
        var watched = new WatchedFiles
        {
            OnRead = (read, _, _, length) =>
            {
                if (read % 50 == 20)
                {
                    Thread.Sleep(5);
                }

                return read % 5 == 3 ? throw new IOException("interrupted", 4) : Math.Min(length, 100_000 + (read * 7919 % 1000));
            },
        };
        using var files = CheckpointFiles.Open(_directory.Path, watched);
        using var pieces = Load(files, Sharding.One, device, new() { Threads = 4 });
        Assert.Equal(whole.Loaded, pieces.Loaded);
        Assert.True(watched.Reads > 2 * (int)(whole.Loaded.BytesRead / 101_000));
        Assert.Equal(Contents(whole), Contents(pieces));
    }

    [Fact]
    public void A_dry_run_reads_as_much_and_takes_no_memory()
    {
        using var device = Device.Open("cpu:fnuz");
        var watched = new WatchedFiles();
        using var files = CheckpointFiles.Open(_directory.Path, watched);
        var most = 0L;
        var measured = ModelRegistry.Measure(files, _config, new(1, 4, 2), device);
        var headers = watched.BytesRead;
        using var dry = Load(files, new(1, 4, 2), device, new() { Drops = true, Progress = new Told(_ => most = Math.Max(most, device.LiveBytes)) });
        Assert.Equal(measured, dry.Loaded);
        Assert.Equal(measured.BytesRead, watched.BytesRead - headers);

        // Windows alone.
        Assert.InRange(most, 1, 2 * ReadPlan.WindowBytes * LoadOptions.ThreadsOf(1));
        Assert.Equal(0, device.LiveBytes);
        using var real = Load(files, new(1, 4, 2), device, new());
        Assert.Equal(measured, real.Loaded);
    }

    [Fact]
    public void Files_of_a_network_are_read_and_never_mapped()
    {
        using var device = Device.Open("cpu");
        var watched = new WatchedFiles { AreRemote = true };
        using var files = CheckpointFiles.Open(_directory.Path, watched);
        using var loaded = Load(files, Sharding.One, device, new());
        Assert.Equal((0, false, false, 0L), (watched.Maps, files.IsMapped, files.MayBeMapped, loaded.Loaded.BytesMapped));
        Assert.Equal(loaded.Loaded.BytesKept, device.LiveBytes);

        using var local = CheckpointFiles.Open(_directory.Path, new WatchedFiles());
        using var mapped = Load(local, Sharding.One, device, new());
        Assert.True(local.IsMapped && local.MayBeMapped);
        Assert.True(mapped.Loaded.BytesMapped > mapped.Loaded.BytesKept * 9 / 10);
    }

    private static (Sharding Sharding, Device Device)[] Ranks(DeviceGroup group, int tp, int ep) =>
        [.. group.Devices.Select((device, rank) => (new Sharding(rank, tp, ep), device))];

    // Every tensor's bytes, in the order they were made.
    private static byte[][] Contents(LoadedModel model) => [.. model.Weights.Tensors.Select(tensor =>
        TensorView.Borrow(tensor.Device, tensor.Address, DType.Byte, tensor.SizeInBytes).ToArray<byte>())];

    private LoadedModel Load(CheckpointFiles files, Sharding sharding, Device device, LoadOptions options) =>
        ModelRegistry.Load(files, _config, sharding, device, options);

    private sealed class Told(Action<LoadProgress> report) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) => report(value);
    }
}
