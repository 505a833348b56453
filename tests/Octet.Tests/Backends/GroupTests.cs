using Octet.Ilgpu;

namespace Octet.Tests.Backends;

/// <summary>Ops of several devices, one thread each: that ranks wait for one another, read what peers wrote, and stop together.</summary>
public sealed class GroupTests
{
    private const int Columns = 32;

    [Theory]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 2)]
    [InlineData("cpu", 4)]
    [InlineData("cpu", 8)]
    [InlineData("sim:gfx942", 1)]
    [InlineData("sim:gfx942", 2)]
    [InlineData("sim:gfx942", 4)]
    [InlineData("sim:sm_90", 8)]
    public void Every_rank_reads_what_its_peers_wrote_before_a_sync_in_every_round(string name, int ranks)
    {
        using var group = new Group(name, ranks);
        int[] starts = [0, .. Enumerable.Range(0, ranks).Select(r => 3 * (r + 1) - (r % 2))];
        using var buffers = new Buffers(group, starts[^1], Columns);
        group.Run(rank =>
        {
            for (var round = 0; round < 20; round++)
            {
                buffers.Write(rank, starts[rank], starts[rank + 1], round);
                group.Sync(rank);
                buffers.Gather(rank, [.. starts.Select(s => (long)s)]);
                group.Sync(rank); // before anybody writes again
                Assert.Equal(buffers.Expected(starts, round), buffers.Output[rank].ToArray<int>());
            }
        });
        Assert.All(Enumerable.Range(0, ranks), rank => Assert.Equal((0, 40), (group.Status(rank), group.Epoch[rank].ToArray<int>()[0])));
    }

    [Theory]
    [InlineData("cpu", 4)]
    [InlineData("sim:gfx942", 2)]
    public void Rows_of_any_width_come_over_and_those_in_place_stay(string name, int ranks)
    {
        using var group = new Group(name, ranks);
        foreach (var (type, columns) in ((DType, int)[])[(DType.Byte, 7), (DType.Byte, 12), (DType.Float32, 9), (DType.BFloat16, 40), (DType.Int64, 4096)])
        {
            long[] starts = [0, .. Enumerable.Range(0, ranks).Select(r => r == 0 ? 0L : 5L * r)]; // rank 0 owns none
            var size = columns * type.SizeInBytes();
            var arrays = Enumerable.Range(0, ranks).Select(r => Bytes(group.Devices[r], type, starts[^1] + 1, columns, r + 1)).ToArray();
            TensorView[] inPlace = [.. arrays.Select(t => t.AsView())];
            group.Run(rank =>
            {
                group.Sync(rank);
                Ops.Gather(group.Devices[rank].Stream, new() { Arrays = [new() { Sources = inPlace, Output = inPlace[rank] }], Starts = starts, Rank = rank });
                group.Sync(rank);
                var bytes = Read(inPlace[rank]);
                for (var owner = 0; owner < ranks; owner++)
                {
                    Assert.All(bytes[(int)(starts[owner] * size)..(int)(starts[owner + 1] * size)], b => Assert.Equal(owner + 1, b));
                }
            });
            Array.ForEach(arrays, t => t.Dispose());
        }
    }

    [Theory]
    [InlineData("sim:gfx942", 2)]
    [InlineData("sim:sm_90", 4)]
    public void A_recorded_sync_and_gather_are_replayed_any_number_of_times(string name, int ranks)
    {
        using var group = new Group(name, ranks);
        int[] starts = [.. Enumerable.Range(0, ranks + 1).Select(r => 2 * r)];
        using var buffers = new Buffers(group, starts[^1], Columns);
        group.Run(rank =>
        {
            using var stream = group.Devices[rank].CreateStream();
            stream.BeginCapture();
            group.Sync(rank, stream);
            buffers.Gather(rank, [.. starts.Select(s => (long)s)], stream);
            group.Sync(rank, stream);
            using var graph = stream.EndCapture();
            for (var round = 0; round < 15; round++)
            {
                buffers.Write(rank, starts[rank], starts[rank + 1], round);
                graph.Launch(stream);
                stream.Synchronize();
                Assert.Equal(buffers.Expected(starts, round), buffers.Output[rank].ToArray<int>());
            }
        });
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("sim:gfx942")]
    public void A_rank_that_does_not_come_is_named_and_its_peers_stop_at_once(string name)
    {
        using var group = new Group(name, 3) { TimeoutMs = 200 };
        group.Run(rank =>
        {
            if (rank != 1)
            {
                group.Sync(rank);
                group.Sync(rank);
            }
        });
        int[] statuses = [group.Status(0), group.Status(2)];
        Assert.Contains((int)GroupStatus.TimedOut | (1 << (8 + 1)), statuses);
        Assert.All(statuses, status => Assert.True((GroupStatus)(status & 0xFF) is GroupStatus.TimedOut or GroupStatus.Poisoned, $"{status:x}"));

        // The one that comes too late finds poison.
        group.Run(rank => group.Sync(rank));
        Assert.Equal((int)GroupStatus.Poisoned, group.Status(1));
        Assert.Equal(0, group.Epoch[1].ToArray<int>()[0]);

        // Zeroed, the group goes on.
        group.Reset();
        group.Run(rank => group.Sync(rank));
        Assert.All(Enumerable.Range(0, 3), rank => Assert.Equal((0, 1), (group.Status(rank), group.Epoch[rank].ToArray<int>()[0])));
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("sim:gfx942")]
    public void Poison_ends_a_wait_under_way(string name)
    {
        using var group = new Group(name, 2) { TimeoutMs = 600_000 };
        group.Run(rank =>
        {
            if (rank == 0)
            {
                group.Sync(rank);
            }
            else
            {
                Thread.Sleep(50);
                using var stream = group.Devices[0].CreateStream();
                GroupSignals.Poison(stream, group.Signals[0], 0);
            }
        });
        Assert.Equal((int)GroupStatus.Poisoned, group.Status(0));
    }

    [Theory]
    [InlineData("cpu")]
    [InlineData("sim:gfx942")]
    public void Counts_wrap_around_and_leave_poison_out(string name)
    {
        using var group = new Group(name, 2);
        for (var rank = 0; rank < 2; rank++)
        {
            var stream = group.Devices[rank].Stream;
            stream.Write<int>(group.Epoch[rank], [-4]);
            stream.Write<int>(group.Signals[rank], [.. Enumerable.Repeat(-4, 8 * GroupSignals.Stride)]);
        }

        group.Run(rank =>
        {
            for (var round = 0; round < 5; round++)
            {
                group.Sync(rank);
            }
        });

        // -3, -2, then 0: -1 is poison.
        Assert.All([0, 1], rank => Assert.Equal((0, 2), (group.Status(rank), group.Epoch[rank].ToArray<int>()[0])));
    }

    [Fact]
    public void Devices_that_do_not_reach_each_other_say_so_with_both_names()
    {
        IlgpuBackend.Register();
        using var cpu = Device.Open("cpu");
        using var sim = Device.Open("sim:gfx942");
        using var ilgpu = Device.Open("ilgpu:cpu");
        foreach (var (device, peer) in ((Device, Device)[])[(cpu, sim), (sim, cpu), (ilgpu, cpu)])
        {
            var error = Assert.Throws<OctetException>(() => device.EnablePeer(peer));
            Assert.Equal(OctetStatus.Unsupported, error.Status);
            Assert.Equal($"{device.Name} cannot reach the memory of {peer.Name}", error.Message);
        }

        cpu.EnablePeer(cpu);
        using var epoch = Tensor.Zeros(ilgpu, DType.Int32, 1);
        using var status = Tensor.Zeros(ilgpu, DType.Int32, 1);
        using var signals = Tensor.Zeros(ilgpu, DType.Int32, 8, 16);
        var sync = Assert.Throws<OctetException>(() => Ops.GroupSync(
            ilgpu.Stream, new() { Signals = [signals], Epoch = epoch, Status = status, Rank = 0, TimeoutMs = 1 }));
        Assert.Equal(OctetStatus.Unsupported, sync.Status);
        Assert.Contains("ilgpu:cpu", sync.Message, StringComparison.Ordinal);
        Assert.Throws<OctetException>(() => Ops.Gather(
            ilgpu.Stream, new() { Arrays = [new() { Sources = [signals], Output = signals }], Starts = [0, 8], Rank = 0 }));
    }

    [Fact]
    public void Simulated_devices_of_two_drivers_are_refused_by_the_library()
    {
        using var sim = Device.Open("sim:gfx942");
        using var plan = Device.Open("plan:gfx942");
        var error = Assert.Throws<OctetException>(() => sim.EnablePeer(plan));
        Assert.Equal(OctetStatus.Unsupported, error.Status);
        Assert.Contains("simulated gfx942 cannot reach the memory of planned gfx942", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Arguments_that_are_wrong_are_refused_with_their_values()
    {
        using var group = new Group("cpu", 2);
        using var other = Device.Open("cpu");
        var stream = group.Devices[0].Stream;
        using var x = Tensor.Zeros(group.Devices[0], DType.Int32, 4, 8);
        using var y = Tensor.Zeros(group.Devices[1], DType.Int32, 4, 8);
        using var bytes = Tensor.Zeros(group.Devices[1], DType.Byte, 4, 8);

        void Sync(string text, Func<GroupSyncArgs, GroupSyncArgs> change) => Assert.Equal(
            $"group_sync: {text}", Assert.Throws<ArgumentException>(() => Ops.GroupSync(stream, change(group.Arguments(0)))).Message);
        Sync("signals is null", a => a with { Signals = null! });
        Sync("0 ranks, must be 1..8", a => a with { Signals = [] });
        Sync("9 ranks, must be 1..8", a => a with { Signals = [.. Enumerable.Repeat(group.Signals[0].AsView(), 9)] });
        Sync("rank = 2 must be 0..1", a => a with { Rank = 2 });
        Sync("signals[1] is null", a => a with { Signals = [group.Signals[0], default] });
        Sync("signals[0] Int32[1, 8, 16] on cpu is not on the stream's device cpu", a => a with { Signals = [group.Signals[1], group.Signals[0]] });
        Sync("signals Int32[4, 8] on cpu of rank 1 must be [8, 16], contiguous", a => a with { Signals = [group.Signals[0], y] });
        Sync("epoch is null", a => a with { Epoch = default });
        Sync("status Int32[1] on cpu is not on the stream's device cpu", a => a with { Status = group.Epoch[1] });
        Sync("timeout_ms = 0 must be 1..3600000", a => a with { TimeoutMs = 0 });

        void Gather(string text, GatherArgs args) => Assert.Equal(
            $"gather: {text}", Assert.Throws<ArgumentException>(() => Ops.Gather(stream, args)).Message);
        var right = new GatherArgs { Arrays = [new() { Sources = [x, y], Output = x }], Starts = [0, 1, 4], Rank = 0 };
        Gather("starts is null", right with { Starts = null! });
        Gather("starts must be ranks + 1 numbers from 0, has 1", right with { Starts = [0] });
        Gather("starts[2] = 0 must be at least 1", right with { Starts = [0, 1, 0] });
        Gather("rank = -1 must be 0..1", right with { Rank = -1 });
        Gather("arrays is null", right with { Arrays = null! });
        Gather("0 arrays, must be 1..4", right with { Arrays = [] });
        Gather("output is null", right with { Arrays = [default] });
        Gather("output Int32[4, 8] on cpu must have the 5 rows of starts", right with { Starts = [0, 1, 5] });
        Gather("sources is null", right with { Arrays = [new() { Sources = null!, Output = x }] });
        Gather("1 sources, must be 2", right with { Arrays = [new() { Sources = [x], Output = x }] });
        Gather("sources[1] Byte[4, 8] on cpu must be Int32", right with { Arrays = [new() { Sources = [x, bytes], Output = x }] });
        Gather(
            "source Int32[4, 4] on cpu of rank 1 must be [4, 8], columns contiguous, rows as far apart as those of rank 0",
            right with { Arrays = [new() { Sources = [x, y.Slice(1, 0, 4)], Output = x }] });
    }

    private static Tensor Bytes(Device device, DType type, long rows, int columns, int value)
    {
        var tensor = Tensor.Create(device, type, rows, columns);
        device.Stream.Fill(tensor, (byte)value);
        device.Stream.Synchronize();
        return tensor;
    }

    private static byte[] Read(TensorView tensor) => TensorView.Borrow(tensor.Device, tensor.Address, DType.Byte, tensor.SizeInBytes).ToArray<byte>();

    /// <summary>Devices that reach one another, with counters, epoch and status of each.</summary>
    private sealed class Group : IDisposable
    {
        public Group(string name, int ranks)
        {
            Devices = [.. Enumerable.Range(0, ranks).Select(_ => Device.Open(name))];
            foreach (var (device, peer) in Devices.SelectMany(d => Devices.Select(p => (d, p))))
            {
                device.EnablePeer(peer);
            }

            Signals = [.. Devices.Select(d => GroupSignals.Create(d))];
            Epoch = [.. Devices.Select(d => Tensor.Zeros(d, DType.Int32, 1))];
            Statuses = [.. Devices.Select(d => Tensor.Zeros(d, DType.Int32, 1))];
        }

        public Device[] Devices { get; }

        public Tensor[] Signals { get; }

        public Tensor[] Epoch { get; }

        public Tensor[] Statuses { get; }

        public int TimeoutMs { get; init; } = 60_000;

        public GroupSyncArgs Arguments(int rank) =>
            new() { Signals = [.. Signals.Select(s => s.AsView())], Epoch = Epoch[rank], Status = Statuses[rank], Rank = rank, TimeoutMs = TimeoutMs };

        public void Sync(int rank, DeviceStream? stream = null) => Ops.GroupSync(stream ?? Devices[rank].Stream, Arguments(rank));

        public int Status(int rank) => Statuses[rank].ToArray<int>()[0];

        public void Reset()
        {
            for (var rank = 0; rank < Devices.Length; rank++)
            {
                Devices[rank].Stream.Fill(Signals[rank], 0);
                Devices[rank].Stream.Fill(Epoch[rank], 0);
                Devices[rank].Stream.Fill(Statuses[rank], 0);
            }
        }

        // Each rank on a thread of its own; the first failure is thrown.
        public void Run(Action<int> work)
        {
            var failures = new Exception?[Devices.Length];
            var threads = Devices.Select((_, rank) => new Thread(() => failures[rank] = Record.Exception(() => work(rank)))).ToArray();
            Array.ForEach(threads, t => t.Start());
            Array.ForEach(threads, t => t.Join());
            Assert.All(failures, Assert.Null);
        }

        public void Dispose()
        {
            Array.ForEach([.. Signals, .. Epoch, .. Statuses], t => t.Dispose());
            Array.ForEach(Devices, d => d.Dispose());
        }
    }

    /// <summary>An array of each rank that it writes its own rows of, and one that it gathers into.</summary>
    private sealed class Buffers(Group group, int rows, int columns) : IDisposable
    {
        public Tensor[] Output { get; } = [.. group.Devices.Select(d => Tensor.Zeros(d, DType.Int32, rows, columns))];

        private Tensor[] Sources { get; } = [.. group.Devices.Select(d => Tensor.Zeros(d, DType.Int32, rows, columns))];

        public void Write(int rank, int first, int end, int round)
        {
            var own = Sources[rank].Slice(0, first, end - first);
            group.Devices[rank].Stream.Write<int>(own, [.. Enumerable.Range(first * columns, (end - first) * columns).Select(i => Value(rank, round, i))]);
        }

        public void Gather(int rank, IReadOnlyList<long> starts, DeviceStream? stream = null) => Ops.Gather(
            stream ?? group.Devices[rank].Stream, new() { Arrays = [new() { Sources = [.. Sources.Select(s => s.AsView())], Output = Output[rank] }], Starts = starts, Rank = rank });

        public int[] Expected(int[] starts, int round)
        {
            var expected = new int[rows * columns];
            for (var rank = 0; rank + 1 < starts.Length; rank++)
            {
                for (var i = starts[rank] * columns; i < starts[rank + 1] * columns; i++)
                {
                    expected[i] = Value(rank, round, i);
                }
            }

            return expected;
        }

        public void Dispose()
        {
            Array.ForEach(Output, t => t.Dispose());
            Array.ForEach(Sources, t => t.Dispose());
        }

        private static int Value(int rank, int round, int i) => (round << 20) + (rank << 16) + i;
    }
}
