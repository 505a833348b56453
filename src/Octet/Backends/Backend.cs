using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>Where the bytes of a buffer lie.</summary>
public enum MemoryKind
{
    /// <summary>Memory of the device.</summary>
    Device = 0,

    /// <summary>Host memory the device can copy from and to while the host goes on.</summary>
    Pinned = 1,

    /// <summary>Memory of the device, all zeros, that peers see without a cache between: for counters they wait on.</summary>
    Signal = 2,
}

/// <summary>Direction of a copy.</summary>
public enum CopyKind
{
    /// <summary>Host to device.</summary>
    HostToDevice = 0,

    /// <summary>Device to host.</summary>
    DeviceToHost = 1,

    /// <summary>Device to device.</summary>
    DeviceToDevice = 2,
}

/// <summary>An allocation of a backend, released with the handle.</summary>
public abstract class BufferHandle : SafeHandle
{
    /// <summary>A handle that owns nothing yet.</summary>
    protected BufferHandle()
        : base(0, ownsHandle: true)
    {
    }

    /// <summary>Address of the first byte, aligned to 256 bytes; a device address unless the buffer is pinned.</summary>
    public nint Address { get; protected init; }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;
}

/// <summary>What the ranks of a group add through, by the vendor's library: one for all; see <see cref="Communicator"/>.</summary>
public abstract class CommunicatorHandle : SafeHandle
{
    /// <summary>A handle that owns nothing yet.</summary>
    protected CommunicatorHandle()
        : base(0, ownsHandle: true)
    {
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Enqueues a sum over the ranks, in place.</summary>
    public abstract void AllReduce(int rank, DeviceStream stream, in TensorView values);

    /// <summary>Throws what went wrong with the sums of a rank.</summary>
    public abstract void Check(int rank);

    /// <summary>Has all ranks leave their sums; waits for nothing.</summary>
    public abstract void Abort();
}

/// <summary>What a device is; see <see cref="Device"/> for the meaning of each.</summary>
public sealed record DeviceProperties
{
    /// <summary>The name it was opened by, in full: "cpu", "sim:gfx942", "hip:0".</summary>
    public required string Name { get; init; }

    /// <summary>The product: "AMD Instinct MI325X", or the processor's name.</summary>
    public required string Description { get; init; }

    /// <summary>What its code is compiled for: "gfx942", "sm_90", "x64".</summary>
    public required string Target { get; init; }

    /// <summary>Compute units, streaming multiprocessors or cores.</summary>
    public required int ComputeUnits { get; init; }

    /// <summary>Lanes of a wave; 1 on a CPU.</summary>
    public required int WaveSize { get; init; }

    /// <summary>Bytes of shared memory (LDS) one block may use; 0 on a CPU.</summary>
    public required int SharedMemory { get; init; }

    /// <summary>Memory in bytes.</summary>
    public required long TotalMemory { get; init; }

    /// <summary>Whether its ops read the host's memory at the host's addresses, so that a mapped file needs no copy.</summary>
    public bool SharesHostMemory { get; init; }

    /// <summary>Whether what it allocates is taken from the host's memory: a processor or a simulator.</summary>
    public bool UsesHostMemory { get; init; }

    /// <summary>The FP8 encoding it computes in.</summary>
    public required DType Float8 { get; init; }

    /// <summary>Whether streams can record graphs that can be trusted.</summary>
    public required bool SupportsGraphs { get; init; }

    /// <summary>Why graphs are not used on a device that has them; null otherwise.</summary>
    public string? GraphsReason { get; init; }
}

/// <summary>
/// A device's memory, streams and ops: one method for each op of <see cref="Ops"/>, which has checked shapes, types and
/// devices before. Implementations enqueue on the stream, never allocate device memory and never synchronise.
/// </summary>
public abstract class Backend : IDisposable
{
    /// <summary>What the device is.</summary>
    public abstract DeviceProperties Properties { get; }

    /// <summary>Bytes in buffers that are not freed.</summary>
    public abstract long LiveBytes { get; }

    /// <summary>Bytes that nobody holds, as far as this backend can tell: of the host's memory where that is used, else of the device's.</summary>
    public virtual long FreeMemory => Properties.UsesHostMemory ? HostMemory.Free() : Math.Max(Properties.TotalMemory - LiveBytes, 0);

    /// <summary>Allocates at least one byte.</summary>
    public abstract BufferHandle Allocate(long sizeInBytes, MemoryKind kind);

    /// <summary>Allocates at least one byte of device memory that reads as zeros behind the work on the stream.</summary>
    public virtual BufferHandle AllocateZeros(long sizeInBytes, DeviceStream stream)
    {
        var buffer = Allocate(sizeInBytes, MemoryKind.Device);
        try
        {
            Fill(stream, buffer.Address, 0, sizeInBytes);
            return buffer;
        }
        catch
        {
            buffer.Dispose();
            throw;
        }
    }

    /// <summary>Lets ops of this device read and write buffers of a peer, those to come too; one direction.</summary>
    /// <exception cref="OctetException">The two do not reach each other (Unsupported).</exception>
    public virtual void EnablePeer(Backend peer) => throw Unreachable(peer);

    /// <summary>Makes ranks known to one another that add through the vendor's library: see <see cref="Communicator"/>.</summary>
    /// <param name="ranks">The backend of each rank's device, this one the first.</param>
    /// <param name="library">A file in the vendor's place; null: the vendor's.</param>
    /// <exception cref="OctetException">No library adds over such devices (Unsupported), it is missing (NoDevice), or it failed.</exception>
    public virtual CommunicatorHandle CreateCommunicator(IReadOnlyList<Backend> ranks, string? library) => throw new OctetException(
        OctetStatus.Unsupported,
        $"there is no library of collectives for {Properties.Name}: RCCL and NCCL add over GPUs (hip, cuda); let Octet's own kernels add (collectives octet, the default)");

    /// <summary>Creates a stream, or (for <paramref name="native"/>) wraps one that the caller owns.</summary>
    public abstract SafeHandle CreateStream(nint? native);

    /// <summary>Waits until the stream has run dry.</summary>
    public abstract void Synchronize(DeviceStream stream);

    /// <summary>Makes later work on the stream wait for the event.</summary>
    public abstract void Wait(DeviceStream stream, DeviceEvent deviceEvent);

    /// <summary>Enqueues a copy.</summary>
    public abstract void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind);

    /// <summary>Enqueues filling bytes.</summary>
    public abstract void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes);

    /// <summary>Creates an event.</summary>
    public abstract SafeHandle CreateEvent();

    /// <summary>Records the event behind the work enqueued so far.</summary>
    public abstract void Record(DeviceEvent deviceEvent, DeviceStream stream);

    /// <summary>Waits until the event has passed.</summary>
    public abstract void Synchronize(DeviceEvent deviceEvent);

    /// <summary>Milliseconds between two events that have passed.</summary>
    public abstract float Elapsed(DeviceEvent start, DeviceEvent finish);

    /// <summary>Begins recording the stream's work instead of running it.</summary>
    public abstract void BeginCapture(DeviceStream stream);

    /// <summary>Ends recording.</summary>
    public abstract SafeHandle EndCapture(DeviceStream stream);

    /// <summary>Runs what was recorded.</summary>
    public abstract void Launch(DeviceGraph graph, DeviceStream stream);

    /// <summary>Releases the device; its buffers and handles are gone by then.</summary>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases the device.</summary>
    protected abstract void Dispose(bool disposing);

    /// <summary>Elements between neighbours in the first dimension; 0 of an argument that is left out.</summary>
    protected static long StrideOf(in TensorView tensor) => tensor.IsNull ? 0 : tensor.Strides[0];

    // One line for each op: what it computes is said at Ops.

    /// <inheritdoc cref="Ops.Quantize"/>
    public abstract void Quantize(DeviceStream stream, in QuantizeArgs args);

    /// <inheritdoc cref="Ops.QuantizeWeight"/>
    public abstract void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args);

    /// <inheritdoc cref="Ops.Repack"/>
    public abstract void Repack(DeviceStream stream, in RepackArgs args);

    /// <inheritdoc cref="Ops.Embedding"/>
    public abstract void Embedding(DeviceStream stream, in EmbeddingArgs args);

    /// <inheritdoc cref="Ops.Norm"/>
    public abstract void Norm(DeviceStream stream, in NormArgs args);

    /// <inheritdoc cref="Ops.Gemm"/>
    public abstract void Gemm(DeviceStream stream, in GemmArgs args);

    /// <inheritdoc cref="Ops.Activation"/>
    public abstract void Activation(DeviceStream stream, in ActivationArgs args);

    /// <inheritdoc cref="Ops.MoeRoute"/>
    public abstract void MoeRoute(DeviceStream stream, in MoeRouteArgs args);

    /// <inheritdoc cref="Ops.MoeSort"/>
    public abstract void MoeSort(DeviceStream stream, in MoeSortArgs args);

    /// <inheritdoc cref="Ops.MoeGateUp"/>
    public abstract void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args);

    /// <inheritdoc cref="Ops.MoeDown"/>
    public abstract void MoeDown(DeviceStream stream, in MoeDownArgs args);

    /// <inheritdoc cref="Ops.MoeCombine"/>
    public abstract void MoeCombine(DeviceStream stream, in MoeCombineArgs args);

    /// <inheritdoc cref="Ops.Rope"/>
    public abstract void Rope(DeviceStream stream, in RopeArgs args);

    /// <inheritdoc cref="Ops.KvWrite"/>
    public abstract void KvWrite(DeviceStream stream, in KvWriteArgs args);

    /// <inheritdoc cref="Ops.KvCopy"/>
    public abstract void KvCopy(DeviceStream stream, in KvCopyArgs args);

    /// <inheritdoc cref="Ops.AttentionPrefill"/>
    public abstract void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args);

    /// <inheritdoc cref="Ops.AttentionDecode"/>
    public abstract void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args);

    /// <inheritdoc cref="Ops.Sampling"/>
    public abstract void Sampling(DeviceStream stream, in SamplingArgs args);

    /// <inheritdoc cref="Ops.GroupSync"/>
    public abstract void GroupSync(DeviceStream stream, in GroupSyncArgs args);

    /// <inheritdoc cref="Ops.Gather"/>
    public abstract void Gather(DeviceStream stream, in GatherArgs args);

    // Scratch memory in bytes for the bounds in args; 0 where an op needs none. Args.Workspace is ignored.

    /// <summary>Partial sums that <see cref="Gemm"/> can leave to the next op; 0: none.</summary>
    public virtual int GemmSegments(in GemmArgs args) => 0;

    /// <summary>Workspace of <see cref="Gemm"/> in bytes.</summary>
    public abstract long GemmWorkspace(in GemmArgs args);

    /// <summary>Workspace of <see cref="MoeRoute"/> in bytes.</summary>
    public virtual long MoeRouteWorkspace(in MoeRouteArgs args) => 0;

    /// <summary>Workspace of <see cref="MoeSort"/> in bytes.</summary>
    public abstract long MoeSortWorkspace(in MoeSortArgs args);

    /// <summary>Workspace of <see cref="MoeGateUp"/> in bytes.</summary>
    public abstract long MoeGateUpWorkspace(in MoeGateUpArgs args);

    /// <summary>Workspace of <see cref="MoeDown"/> in bytes.</summary>
    public abstract long MoeDownWorkspace(in MoeDownArgs args);

    /// <summary>Workspace of <see cref="AttentionPrefill"/> in bytes.</summary>
    public abstract long AttentionPrefillWorkspace(in AttentionPrefillArgs args);

    /// <summary>Workspace of <see cref="AttentionDecode"/> in bytes.</summary>
    public abstract long AttentionDecodeWorkspace(in AttentionDecodeArgs args);

    /// <summary>Workspace of <see cref="Sampling"/> in bytes.</summary>
    public abstract long SamplingWorkspace(in SamplingArgs args);

    /// <summary>Says of two devices that they do not reach each other.</summary>
    private protected OctetException Unreachable(Backend peer) =>
        new(OctetStatus.Unsupported, $"{Properties.Name} cannot reach the memory of {peer.Properties.Name}");
}
