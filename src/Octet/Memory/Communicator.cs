using Octet.Backends;

namespace Octet;

/// <summary>
/// Ranks that add rows through the vendor's library of collectives, RCCL or NCCL, in the place of Octet's own kernels. Its order of summation
/// is its own: sums over two, four and eight ranks differ in their last bits, and may from run to run. Thread-safe.
/// </summary>
/// <remarks>
/// The library is found by the loader, or is the file that the environment variable OCTET_COLLECTIVES_LIBRARY names. Graphs that recorded sums
/// are to be disposed before.
/// </remarks>
public sealed class Communicator : IDisposable
{
    private readonly CommunicatorHandle _handle;
    private volatile bool _isAborted;

    private Communicator(IReadOnlyList<Device> devices, CommunicatorHandle handle) => (Devices, _handle) = (devices, handle);

    /// <summary>The device of each rank, in order.</summary>
    public IReadOnlyList<Device> Devices { get; }

    /// <summary>Whether the ranks were told to stop.</summary>
    public bool IsAborted => _isAborted;

    /// <summary>Makes the devices of a group known to one another.</summary>
    /// <param name="devices">2, 4 or 8 GPUs of one kind, rank r the r-th.</param>
    /// <param name="library">A file in the vendor's place; null: as OCTET_COLLECTIVES_LIBRARY says, else the vendor's.</param>
    /// <exception cref="OctetException">
    /// The library is missing (NoDevice, with the remedy) or failed (DeviceError); no library adds over such devices (Unsupported); or the
    /// devices are not so many (InvalidArgument).
    /// </exception>
    public static Communicator Create(IReadOnlyList<Device> devices, string? library = null)
    {
        ArgumentNullException.ThrowIfNull(devices);
        ArgumentOutOfRangeException.ThrowIfZero(devices.Count);
        library ??= Environment.GetEnvironmentVariable("OCTET_COLLECTIVES_LIBRARY") is { Length: > 0 } named ? named : null;
        Backend[] backends = [.. devices.Select(device => device.Backend)];
        return new([.. devices], backends[0].CreateCommunicator(backends, library));
    }

    /// <summary>Enqueues values = the sum over ranks of their values. All ranks do so, in the same order.</summary>
    /// <param name="rank">Whose stream it is.</param>
    /// <param name="stream">A stream of the rank's device.</param>
    /// <param name="values">BF16, contiguous, as many on every rank; summed in place.</param>
    /// <exception cref="ArgumentException">The stream or the tensor is none of the rank's device, or not such a tensor.</exception>
    /// <exception cref="OctetException">The library failed, or the ranks were told to stop (GroupStopped).</exception>
    public void AllReduce(int rank, DeviceStream stream, in TensorView values)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckRank(rank);
        if (stream.Device != Devices[rank] || values.Device != Devices[rank])
        {
            throw new ArgumentException($"all_reduce: stream and values must be of rank {rank}'s device, {Devices[rank].Name}");
        }

        if (values.DType != DType.BFloat16 || !values.IsContiguous)
        {
            throw new ArgumentException($"all_reduce: values are {values}, must be contiguous BF16");
        }

        try
        {
            _handle.AllReduce(rank, stream, in values);
        }
        catch (OctetException error) when (_isAborted)
        {
            throw Stopped(error);
        }
    }

    /// <summary>Says if a sum of this rank failed since it was enqueued.</summary>
    /// <exception cref="OctetException">It did (DeviceError), or the ranks were told to stop (GroupStopped).</exception>
    public void ThrowIfFailed(int rank)
    {
        CheckRank(rank);
        try
        {
            _handle.Check(rank);
        }
        catch (OctetException error) when (_isAborted)
        {
            throw Stopped(error);
        }
    }

    /// <summary>Has all ranks leave the sums they are in, and refuses every later one; from any thread, and waits for nothing.</summary>
    public void Abort()
    {
        _isAborted = true;
        _handle.Abort();
    }

    /// <summary>Lets the library go.</summary>
    public void Dispose() => _handle.Dispose();

    private static OctetException Stopped(OctetException error) => new(OctetStatus.GroupStopped, error.Message, error);

    private void CheckRank(int rank)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rank);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(rank, Devices.Count);
    }
}
