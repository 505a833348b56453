using System.Runtime.InteropServices;
using Octet.Backends;

namespace Octet.Tests.Backends;

/// <summary>
/// A device that does what another one does, and lets a test in before each op: to fail or to stall there. "watched:sim:gfx942" watches a
/// simulator, "watched:cpu:0-3" is a group of four.
/// </summary>
internal sealed class WatchedBackend : Backend
{
    private const string Prefix = "watched";

    private readonly Device _device;
    private readonly Backend _inner;

    private WatchedBackend(Device device) => (_device, _inner) = (device, device.Backend);

    /// <summary>Told of each op by its name before it is enqueued.</summary>
    public Action<string>? Before { get; set; }

    /// <summary>Told of each graph behind its launch.</summary>
    public Action<DeviceStream>? Launched { get; set; }

    /// <summary>The logits that were drawn from last.</summary>
    public TensorView Logits { get; private set; }

    public override DeviceProperties Properties => _inner.Properties;

    public override long LiveBytes => _inner.LiveBytes;

    public override long FreeMemory => _inner.FreeMemory;

    /// <summary>Opens a group of devices, watched.</summary>
    public static DeviceGroup Open(string name, int count)
    {
        Device.Register(new Provider());
        return DeviceGroup.Open($"{Prefix}:{name}:0-{count - 1}");
    }

    /// <summary>Opens a device, watched.</summary>
    public static Device Open(string name)
    {
        Device.Register(new Provider());
        return Device.Open($"{Prefix}:{name}");
    }

    /// <summary>What watches a device.</summary>
    public static WatchedBackend Of(Device device) => (WatchedBackend)device.Backend;

    public override BufferHandle Allocate(long sizeInBytes, MemoryKind kind) => _inner.Allocate(sizeInBytes, kind);

    public override BufferHandle AllocateZeros(long sizeInBytes, DeviceStream stream) => _inner.AllocateZeros(sizeInBytes, stream);

    public override void EnablePeer(Backend peer) => _inner.EnablePeer(((WatchedBackend)peer)._inner);

    public override CommunicatorHandle CreateCommunicator(IReadOnlyList<Backend> ranks, string? library) =>
        _inner.CreateCommunicator([.. ranks.Select(rank => ((WatchedBackend)rank)._inner)], library);

    public override void Launch(DeviceGraph graph, DeviceStream stream)
    {
        Watched(nameof(Launch)).Launch(graph, stream);
        Launched?.Invoke(stream);
    }

    public override SafeHandle CreateStream(nint? native) => _inner.CreateStream(native);

    public override void Synchronize(DeviceStream stream) => _inner.Synchronize(stream);

    public override void Wait(DeviceStream stream, DeviceEvent deviceEvent) => _inner.Wait(stream, deviceEvent);

    public override void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind) => _inner.Copy(stream, destination, source, sizeInBytes, kind);

    public override void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes) => _inner.Fill(stream, destination, value, sizeInBytes);

    public override SafeHandle CreateEvent() => _inner.CreateEvent();

    public override void Record(DeviceEvent deviceEvent, DeviceStream stream) => _inner.Record(deviceEvent, stream);

    public override void Synchronize(DeviceEvent deviceEvent) => _inner.Synchronize(deviceEvent);

    public override float Elapsed(DeviceEvent start, DeviceEvent finish) => _inner.Elapsed(start, finish);

    public override void BeginCapture(DeviceStream stream) => _inner.BeginCapture(stream);

    public override SafeHandle EndCapture(DeviceStream stream) => _inner.EndCapture(stream);

    public override void Quantize(DeviceStream stream, in QuantizeArgs args) => Watched(nameof(Quantize)).Quantize(stream, in args);

    public override void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args) => Watched(nameof(QuantizeWeight)).QuantizeWeight(stream, in args);

    public override void Repack(DeviceStream stream, in RepackArgs args) => Watched(nameof(Repack)).Repack(stream, in args);

    public override void Embedding(DeviceStream stream, in EmbeddingArgs args) => Watched(nameof(Embedding)).Embedding(stream, in args);

    public override void Norm(DeviceStream stream, in NormArgs args) => Watched(nameof(Norm)).Norm(stream, in args);

    public override void Gemm(DeviceStream stream, in GemmArgs args) => Watched(nameof(Gemm)).Gemm(stream, in args);

    public override void Activation(DeviceStream stream, in ActivationArgs args) => Watched(nameof(Activation)).Activation(stream, in args);

    public override void MoeRoute(DeviceStream stream, in MoeRouteArgs args) => Watched(nameof(MoeRoute)).MoeRoute(stream, in args);

    public override void MoeSort(DeviceStream stream, in MoeSortArgs args) => Watched(nameof(MoeSort)).MoeSort(stream, in args);

    public override void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args) => Watched(nameof(MoeGateUp)).MoeGateUp(stream, in args);

    public override void MoeDown(DeviceStream stream, in MoeDownArgs args) => Watched(nameof(MoeDown)).MoeDown(stream, in args);

    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args) => Watched(nameof(MoeCombine)).MoeCombine(stream, in args);

    public override void Rope(DeviceStream stream, in RopeArgs args) => Watched(nameof(Rope)).Rope(stream, in args);

    public override void KvWrite(DeviceStream stream, in KvWriteArgs args) => Watched(nameof(KvWrite)).KvWrite(stream, in args);

    public override void KvCopy(DeviceStream stream, in KvCopyArgs args) => Watched(nameof(KvCopy)).KvCopy(stream, in args);

    public override void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args) => Watched(nameof(AttentionPrefill)).AttentionPrefill(stream, in args);

    public override void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args) => Watched(nameof(AttentionDecode)).AttentionDecode(stream, in args);

    public override void Sampling(DeviceStream stream, in SamplingArgs args)
    {
        Logits = args.Logits;
        Watched(nameof(Sampling)).Sampling(stream, in args);
    }

    public override void GroupSync(DeviceStream stream, in GroupSyncArgs args) => Watched(nameof(GroupSync)).GroupSync(stream, in args);

    public override void Gather(DeviceStream stream, in GatherArgs args) => Watched(nameof(Gather)).Gather(stream, in args);

    public override int GemmSegments(in GemmArgs args) => _inner.GemmSegments(in args);

    public override long GemmWorkspace(in GemmArgs args) => _inner.GemmWorkspace(in args);

    public override long MoeRouteWorkspace(in MoeRouteArgs args) => _inner.MoeRouteWorkspace(in args);

    public override long MoeSortWorkspace(in MoeSortArgs args) => _inner.MoeSortWorkspace(in args);

    public override long MoeGateUpWorkspace(in MoeGateUpArgs args) => _inner.MoeGateUpWorkspace(in args);

    public override long MoeDownWorkspace(in MoeDownArgs args) => _inner.MoeDownWorkspace(in args);

    public override long AttentionPrefillWorkspace(in AttentionPrefillArgs args) => _inner.AttentionPrefillWorkspace(in args);

    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args) => _inner.AttentionDecodeWorkspace(in args);

    public override long SamplingWorkspace(in SamplingArgs args) => _inner.SamplingWorkspace(in args);

    protected override void Dispose(bool disposing) => _device.Dispose();

    private Backend Watched(string op)
    {
        Before?.Invoke(op);
        return _inner;
    }

    private sealed class Provider : BackendProvider
    {
        public override string Prefix => WatchedBackend.Prefix;

        public override int Preference => 100;

        public override IReadOnlyList<DeviceProbe> Probe() => [];

        public override Backend Open(string name) => Open(name, 1);

        public override Backend Open(string name, int sharers)
        {
            var watched = name[(Prefix.Length + 1)..];
            var colon = watched.LastIndexOf(':');
            var isNumbered = colon >= 0 && int.TryParse(watched.AsSpan(colon + 1), out _);
            return new WatchedBackend(Device.OpenShared(isNumbered ? watched[..colon] : watched, sharers));
        }
    }
}
