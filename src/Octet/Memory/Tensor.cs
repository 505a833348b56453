using Octet.Backends;

namespace Octet;

/// <summary>
/// Memory on a device, owned: elements of one type in row-major order. Ops and copies take its <see cref="TensorView"/>, to which it
/// converts. The element type carries the FP8 encoding: handing an op the wrong one is an error.
/// </summary>
public sealed class Tensor : IDisposable
{
    private readonly BufferHandle _buffer;
    private readonly TensorView _view;

    private Tensor(Device device, DType type, BufferHandle buffer, ReadOnlySpan<long> shape) =>
        (_buffer, _view) = (buffer, new TensorView(device, type, buffer, buffer.Address, shape));

    /// <summary>The device the elements are on.</summary>
    public Device Device => _view.Device;

    /// <summary>The element type.</summary>
    public DType DType => _view.DType;

    /// <summary>Elements in each dimension.</summary>
    public ReadOnlySpan<long> Shape => _view.Shape;

    /// <summary>Number of elements.</summary>
    public long ElementCount => _view.ElementCount;

    /// <summary>Bytes of the elements.</summary>
    public long SizeInBytes => _view.SizeInBytes;

    /// <summary>Address of the first element on the device.</summary>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public nint Address => _view.Address;

    /// <summary>Allocates a tensor; the elements are undefined.</summary>
    /// <exception cref="ArgumentException">More than four dimensions, one is negative, or the size overflows.</exception>
    /// <exception cref="OctetException">The device has not that much memory.</exception>
    public static Tensor Create(Device device, DType type, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var bytes = TensorView.CheckedSize(type, shape);
        return new Tensor(device, type, device.Backend.Allocate(Math.Max(bytes, 1), MemoryKind.Device), shape);
    }

    /// <summary>Allocates a tensor of zeros, written behind the work on the device's default stream. On cpu memory is taken only as it is touched.</summary>
    /// <exception cref="ArgumentException">More than four dimensions, one is negative, or the size overflows.</exception>
    /// <exception cref="OctetException">The device has not that much memory.</exception>
    public static Tensor Zeros(Device device, DType type, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var bytes = TensorView.CheckedSize(type, shape);
        return new Tensor(device, type, device.Backend.AllocateZeros(Math.Max(bytes, 1), device.Stream), shape);
    }

    /// <summary>Allocates counters that peers wait on; see <see cref="GroupSignals"/>.</summary>
    internal static Tensor Signals(Device device, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var bytes = TensorView.CheckedSize(DType.Int32, shape);
        return new Tensor(device, DType.Int32, device.Backend.Allocate(Math.Max(bytes, 1), MemoryKind.Signal), shape);
    }

    /// <summary>Allocates a tensor and copies host elements into it.</summary>
    /// <exception cref="ArgumentException">The shape does not hold that many elements.</exception>
    public static Tensor From<T>(Device device, ReadOnlySpan<T> elements, params ReadOnlySpan<long> shape) where T : unmanaged
    {
        var tensor = Create(device, DTypes.Of<T>(), shape);
        try
        {
            device.Stream.Write(tensor, elements);
            return tensor;
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }

    /// <summary>Its view; what null converts to is no tensor.</summary>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public static implicit operator TensorView(Tensor? tensor) => tensor is null ? default : tensor.AsView();

    /// <summary>All of it, as ops take it.</summary>
    /// <exception cref="ObjectDisposedException">The tensor is disposed.</exception>
    public TensorView AsView()
    {
        ObjectDisposedException.ThrowIf(_buffer.IsClosed, this);
        return _view;
    }

    /// <inheritdoc cref="TensorView.Slice"/>
    public TensorView Slice(int dimension, long start, long length) => _view.Slice(dimension, start, length);

    /// <inheritdoc cref="TensorView.View"/>
    public TensorView View(params ReadOnlySpan<long> shape) => _view.View(shape);

    /// <inheritdoc cref="TensorView.SplitLast"/>
    public TensorView SplitLast(long outer, long inner) => _view.SplitLast(outer, inner);

    /// <inheritdoc cref="TensorView.ToArray"/>
    public T[] ToArray<T>() where T : unmanaged => AsView().ToArray<T>();

    /// <summary>Frees the memory; its views become unusable.</summary>
    public void Dispose() => _buffer.Dispose();

    /// <summary>Type, shape and device: "BFloat16[4, 128] on cpu".</summary>
    public override string ToString() => _view.ToString();
}
