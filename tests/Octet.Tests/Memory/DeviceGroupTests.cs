using Octet.Backends;

namespace Octet.Tests.Memory;

/// <summary>Names of groups of devices, and that a group opens all of them or none.</summary>
public sealed class DeviceGroupTests
{
    private static readonly GpuProvider Gpus = new();

    static DeviceGroupTests() => Device.Register(Gpus);

    [Theory]
    [InlineData("hip:0-3", "hip:0 hip:1 hip:2 hip:3")]
    [InlineData("hip:0,2,5", "hip:0 hip:2 hip:5")]
    [InlineData("hip:4-5,0,2-2", "hip:4 hip:5 hip:0 hip:2")]
    [InlineData("cuda:6-7", "cuda:6 cuda:7")]
    [InlineData("ilgpu:cuda:0,1", "ilgpu:cuda:0 ilgpu:cuda:1")]
    [InlineData("cpu*2", "cpu cpu")]
    [InlineData("cpu:fnuz*3", "cpu:fnuz cpu:fnuz cpu:fnuz")]
    [InlineData("sim*2", "sim sim")]
    [InlineData("sim:gfx942*1", "sim:gfx942")]
    [InlineData("hip:3*1", "hip:3")]
    [InlineData("cpu", "cpu")]
    [InlineData("hip", "hip")]
    [InlineData("hip:7", "hip:7")]
    [InlineData("ilgpu:cpu", "ilgpu:cpu")]
    public void A_group_is_its_devices_in_order(string group, string names) => Assert.Equal(names.Split(' '), DeviceGroupNames.Parse(group));

    [Theory]
    [InlineData("hip:0,0", "GPU 0 is in it twice; each may be in a group once")]
    [InlineData("hip:0-3,2", "GPU 2 is in it twice; each may be in a group once")]
    [InlineData("hip:0*2", "it is the same GPU 2 times; list several, as in hip:0-1")]
    [InlineData("hip*4", "it is the same GPU 4 times; list several, as in hip:0-3")]
    [InlineData("hip:0,cuda:1", "'hip:0' and 'cuda:1' are of different kinds; a group has one kind: open a group for each")]
    [InlineData("hip:0,cpu", "'hip:0' and 'cpu' are of different kinds; a group has one kind: open a group for each")]
    [InlineData("sim:gfx942,sim:sm_90", "'sim:gfx942' and 'sim:sm_90' are of different kinds; a group has one kind: open a group for each")]
    [InlineData("hip:0,hip:1", "the kind stands once, before the numbers: hip:0,1")]
    [InlineData("cpu,cpu", "several of one name are written cpu*2")]
    [InlineData("sim:0-3", "'sim:0-3' has no numbers; several are written as in sim*4")]
    [InlineData("cpu,1", "'cpu' has no numbers; several are written as in cpu*4")]
    [InlineData("hip,1", "GPUs are listed by number behind their kind, as in hip:0,1")]
    [InlineData("0,1", "GPUs are listed by number behind their kind, as in hip:0,1")]
    [InlineData("hip:0-", "'0-' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3")]
    [InlineData("hip:0,", "'' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3")]
    [InlineData("hip:0-1-2", "'0-1-2' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3")]
    [InlineData("hip:0, 1", "' 1' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3")]
    [InlineData("hip:0-99999999999", "'0-99999999999' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3")]
    [InlineData("hip:3-0", "the range 3-0 runs down; write 0-3, or list the numbers in the order that is wanted")]
    [InlineData("hip:0-64", "it has more than 64 devices")]
    [InlineData("cpu*0", "behind * stands how many, 1 to 64: cpu*4, sim:gfx942*4")]
    [InlineData("cpu*65", "behind * stands how many, 1 to 64: cpu*4, sim:gfx942*4")]
    [InlineData("cpu*", "behind * stands how many, 1 to 64: cpu*4, sim:gfx942*4")]
    [InlineData("*4", "behind * stands how many, 1 to 64: cpu*4, sim:gfx942*4")]
    [InlineData("cpu*2*2", "behind * stands how many, 1 to 64: cpu*4, sim:gfx942*4")]
    [InlineData("hip:0,1*2", "one device is repeated, as in cpu*4; GPUs are listed, as in hip:0,2,5")]
    public void A_name_that_is_none_says_what_is_wrong_and_the_remedy(string group, string problem) =>
        Assert.Equal($"devices '{group}': {problem}", Assert.Throws<ArgumentException>(() => DeviceGroupNames.Parse(group)).Message);

    [Fact]
    public void The_processor_several_times_is_several_devices_that_share_its_threads()
    {
        using var group = DeviceGroup.Open("cpu:fnuz*2");
        Assert.Equal(("cpu:fnuz*2", 2), (group.Name, group.Devices.Count));
        using var tensor = Tensor.From(group.Devices[1], [1f, 2f], 2);
        Assert.Equal((0, tensor.SizeInBytes), (group.Devices[0].LiveBytes, group.Devices[1].LiveBytes));
        Assert.Equal(tensor.SizeInBytes, group.LiveBytes);
    }

    [Fact]
    public void One_device_is_a_group_of_one()
    {
        using var group = DeviceGroup.Open("cpu");
        Assert.Equal("cpu", group.Name);
        Assert.Single(group.Devices);
    }

    [Fact]
    public void Where_one_does_not_open_those_before_it_are_closed()
    {
        var error = Assert.Throws<OctetException>(() => DeviceGroup.Open("groupgpu:0,1,9"));
        Assert.Equal("groupgpu:9: in use", error.Message);
        Assert.Equal([true, true], Gpus.TakeClosed());
    }

    [Fact]
    public void Devices_of_different_targets_are_refused_and_closed()
    {
        var error = Assert.Throws<ArgumentException>(() => DeviceGroup.Open("groupgpu:0-2"));
        Assert.Equal(
            "devices 'groupgpu:0-2': groupgpu:0 is gfx942 (Float8E4M3Fnuz), groupgpu:2 is gfx950 (Float8E4M3); a group has one kind: open a group for each",
            error.Message);
        Assert.Equal([true, true, true], Gpus.TakeClosed());
    }

    [Fact]
    public void A_group_closes_its_devices_and_its_parts_do_not()
    {
        using var group = DeviceGroup.Open("groupgpu:1,0,3,4");
        Assert.Equal("groupgpu:1,0,3,4", group.Name);
        var parts = group.Split(2);
        Assert.Equal(["groupgpu:1,0", "groupgpu:3,4"], parts.Select(part => part.Name));
        Assert.Equal(
            "the 4 devices of groupgpu:1,0,3,4 cannot be split into 3 equal parts", Assert.Throws<ArgumentException>(() => group.Split(3)).Message);
        parts[0].Dispose();
        Assert.Equal(4, group.Devices.Count(device => device.Backend is not null));
        group.Dispose();
        Assert.Equal([true, true, true, true], Gpus.TakeClosed());
    }

    /// <summary>GPUs of which number 2 is of another target, and number 9 does not open.</summary>
    private sealed class GpuProvider : BackendProvider
    {
        private readonly List<CpuThreads> _opened = [];

        public override string Prefix => "groupgpu";

        public override int Preference => 100;

        public override IReadOnlyList<DeviceProbe> Probe() => [];

        public override Backend Open(string name)
        {
            if (name.EndsWith(":9", StringComparison.Ordinal))
            {
                throw new OctetException(OctetStatus.DeviceError, $"{name}: in use");
            }

            var (target, float8) = name.EndsWith(":2", StringComparison.Ordinal) ? ("gfx950", DType.Float8E4M3) : ("gfx942", DType.Float8E4M3Fnuz);
            _opened.Add(new CpuThreads(1, CpuKernels.Create()));
            return new CpuBackend(CpuProvider.Describe(name, float8) with { Target = target }, _opened[^1]);
        }

        /// <summary>Of each device opened since the last call, whether it is closed.</summary>
        public bool[] TakeClosed()
        {
            var closed = _opened.Select(threads => Record.Exception(() => threads.For(0, 0, default(NoWork))) is ObjectDisposedException).ToArray();
            _opened.Clear();
            return closed;
        }
    }

    private readonly struct NoWork : ICpuTask
    {
        public void Run(long index, CpuWorker worker)
        {
        }
    }
}
