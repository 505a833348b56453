using System.Diagnostics.Tracing;
using Octet.Backends;

namespace Octet.Tests.Memory;

/// <summary>Which device is opened where none is named, on providers that fail in the ways GPUs do.</summary>
public sealed class DeviceSelectionTests
{
    [Fact]
    public void The_best_device_is_opened_and_nothing_is_said()
    {
        var selection = Open(new Provider("fast", 0, Usable("fast:0")), new Provider("slow", 1, Usable("slow:0")));
        Assert.Equal(("fast:0", null), selection);
    }

    [Fact]
    public void One_that_does_not_open_gives_way_to_the_next_of_its_kind_with_its_reason()
    {
        var selection = Open(
            new Provider("slow", 1, Usable("slow:0")),
            new Provider("fast", 0, Usable("fast:0"), Usable("fast:1")) { Failures = { ["fast:0"] = "fast:0: error 2 (out of memory)" } });
        Assert.Equal(("fast:1", "fast:0: error 2 (out of memory)"), selection);
    }

    [Fact]
    public void A_kind_that_does_not_open_gives_way_to_the_next_kind_with_the_reason_of_each_device()
    {
        var fast = new Provider("fast", 0, Usable("fast:0"), Usable("fast:1"))
        {
            Failures = { ["fast:0"] = "in use", ["fast:1"] = "has fallen off the bus" },
        };
        Assert.Equal(("slow:0", "fast:0: in use; fast:1: has fallen off the bus"), Open(fast, new Provider("slow", 1, Usable("slow:0"))));
    }

    [Fact]
    public void One_that_is_there_and_unusable_is_passed_over_and_said_with_its_remedy()
    {
        var old = new DeviceProbe("fast:0", true, "an old GPU", "compute capability 8.0, needs 9.0", "use a newer one", null);
        Assert.Equal(
            ("slow:0", "fast:0: compute capability 8.0, needs 9.0; use a newer one"),
            Open(new Provider("fast", 0, old), new Provider("slow", 1, Usable("slow:0"))));
    }

    [Fact]
    public void One_that_is_absent_or_only_taken_by_name_is_no_fault()
    {
        var absent = new DeviceProbe("fast", false, "fast GPUs", "library not found", "install it", null);
        var broken = new DeviceProbe("named:0", true, "a processor", "lacks what we need", "none", null);
        var selection = Open(new Provider("fast", 0, absent), new Provider("named", 1, broken, Usable("named:1")) { OnlyNamed = true }, new Provider("slow", 2, Usable("slow:0")));
        Assert.Equal(("slow:0", null), selection);
    }

    [Fact]
    public void A_missing_library_is_said_first()
    {
        var fast = new Provider("fast", 0, Usable("fast:0")) { Failures = { ["fast:0"] = "in use" } };
        Assert.Equal(("slow:0", "no library; fast:0: in use"), Open("no library", fast, new Provider("slow", 1, Usable("slow:0"))));
    }

    [Fact]
    public void Where_none_opens_the_error_has_every_reason_and_the_last_status()
    {
        var fast = new Provider("fast", 0, Usable("fast:0")) { Failures = { ["fast:0"] = "in use" } };
        var slow = new Provider("slow", 1, Usable("slow:0")) { Failures = { ["slow:0"] = "no memory" } };
        var error = Assert.Throws<OctetException>(() => Open(slow, fast));
        Assert.Equal(("no device opens: fast:0: in use; slow:0: no memory", OctetStatus.DeviceError), (error.Message, error.Status));
    }

    [Fact]
    public void A_device_that_was_named_is_an_error_where_it_is_absent_and_no_other_is_taken()
    {
        var error = Assert.Throws<OctetException>(() => Device.Open("cuda:999"));
        Assert.Equal(OctetStatus.NoDevice, error.Status);
        using var device = Device.Open("cpu");
        Assert.Null(device.FallbackReason);
    }

    [Fact]
    public void A_fallback_is_one_warning_of_the_event_source_however_often_it_happens()
    {
        DeviceEvents.Log.FellBackOnce("test:0", "before anybody listens");
        using var listener = new Listener();
        for (var i = 0; i < 3; i++)
        {
            DeviceEvents.Log.FellBackOnce("test:0", "before anybody listens");
            DeviceEvents.Log.FellBackOnce("test:0", "another reason");
        }

        Assert.Equal(
            [(EventLevel.Warning, "test:0", "before anybody listens"), (EventLevel.Warning, "test:0", "another reason")],
            listener.Events.Where(e => e.Device == "test:0"));
    }

    private static (string Name, string? Reason) Open(params BackendProvider[] providers) => Open(null, providers);

    private static (string Name, string? Reason) Open(string? missing, params BackendProvider[] providers)
    {
        var (backend, reason) = DeviceSelection.Open(providers, missing);
        using (backend)
        {
            return (backend.Properties.Name, reason);
        }
    }

    private static DeviceProbe Usable(string name) => new(name, true, "a device", null, null, CpuProvider.Describe(name, DType.Float8E4M3));

    private sealed class Provider(string prefix, int preference, params DeviceProbe[] probes) : BackendProvider
    {
        public Dictionary<string, string> Failures { get; } = [];

        public bool OnlyNamed { get; init; }

        public override string Prefix => prefix;

        public override int Preference => preference;

        public override bool IsDefaultCandidate(DeviceProbe probe) => probe.IsUsable && !OnlyNamed;

        public override IReadOnlyList<DeviceProbe> Probe() => probes;

        public override Backend Open(string name) => Failures.TryGetValue(name, out var failure)
            ? throw new OctetException(OctetStatus.DeviceError, failure)
            : new CpuBackend(CpuProvider.Describe(name, DType.Float8E4M3), new CpuThreads(1, CpuKernels.Create()));
    }

    private sealed class Listener : EventListener
    {
        private readonly Lock _lock = new();
        private readonly List<(EventLevel Level, string Device, string Reason)> _events = [];

        public (EventLevel Level, string Device, string Reason)[] Events
        {
            get
            {
                lock (_lock)
                {
                    return [.. _events];
                }
            }
        }

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource.Name == "Octet")
            {
                EnableEvents(eventSource, EventLevel.Warning);
            }
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            // The base class may call before the fields are there.
            if (eventData is { EventSource.Name: "Octet", Payload: [string device, string reason] })
            {
                lock (_lock)
                {
                    _events.Add((eventData.Level, device, reason));
                }
            }
        }
    }
}
