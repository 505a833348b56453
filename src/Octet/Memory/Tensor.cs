using Octet.Backends;

namespace Octet;

/// <summary>
/// Elements of one type on one device: a shape, a stride for each dimension, and memory that is owned, shared with another
/// tensor (views), or borrowed. The element type carries the FP8 encoding: handing an op the wrong one is an error.
/// </summary>
public sealed class Tensor : IDisposable
{
    private readonly BufferHandle? _buffer; // null: borrowed
    private readonly Tensor? _parent;       // a view keeps its parent, and dies with it
    private readonly nint _address;
    private readonly long[] _shape;
    private readonly long[] _strides;
    private bool _disposed;

    private Tensor(
        Device device, DType type, BufferHandle? buffer, Tensor? parent, nint address, long[] shape, long[] strides, bool isUnaligned = false)
    {
        Device = device;
        DType = type;
        _buffer = buffer;
        _parent = parent;
        _address = address;
        _shape = shape;
        _strides = strides;
        IsUnaligned = isUnaligned || parent is { IsUnaligned: true };
    }

    /// <summary>The device the elements are on.</summary>
    public Device Device { get; }

    /// <summary>The element type.</summary>
    public DType DType { get; }

    /// <summary>Elements in each dimension.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>Elements between neighbours in each dimension.</summary>
    public ReadOnlySpan<long> Strides => _strides;

    /// <summary>Number of dimensions.</summary>
    public int Rank => _shape.Length;

    /// <summary>Number of elements.</summary>
    public long ElementCount => Product(_shape);

    /// <summary>Bytes of the elements, without gaps between rows.</summary>
    public long SizeInBytes => ElementCount * DType.SizeInBytes();

    /// <summary>Whether the elements lie without gaps in row-major order.</summary>
    public bool IsContiguous
    {
        get
        {
            long stride = 1;
            for (var i = Rank - 1; i >= 0; i--)
            {
                if (_shape[i] > 1 && _strides[i] != stride)
                {
                    return ElementCount == 0;
                }

                stride *= _shape[i];
            }

            return true;
        }
    }

    /// <summary>Whether it was borrowed by <see cref="BorrowUnaligned"/>, or is a view of such a tensor.</summary>
    public bool IsUnaligned { get; }

    /// <summary>Address of the first element on the device.</summary>
    /// <exception cref="ObjectDisposedException">The tensor, or the one it is a view of, is disposed.</exception>
    public nint Address
    {
        get
        {
            for (var tensor = this; tensor is not null; tensor = tensor._parent)
            {
                ObjectDisposedException.ThrowIf(tensor._disposed || tensor._buffer is { IsClosed: true }, this);
            }

            return _address;
        }
    }

    /// <summary>Allocates a tensor; the elements are undefined.</summary>
    /// <exception cref="ArgumentException">A dimension is negative, or the size overflows.</exception>
    /// <exception cref="OctetException">The device has not that much memory.</exception>
    public static Tensor Create(Device device, DType type, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var dimensions = shape.ToArray();
        var bytes = CheckedSize(type, dimensions);
        var buffer = device.Backend.Allocate(Math.Max(bytes, 1), MemoryKind.Device);
        return new Tensor(device, type, buffer, null, buffer.Address, dimensions, RowMajor(dimensions));
    }

    /// <summary>Allocates a tensor of zeros, written behind the work on the device's default stream. On cpu memory is taken only as it is touched.</summary>
    /// <exception cref="ArgumentException">A dimension is negative, or the size overflows.</exception>
    /// <exception cref="OctetException">The device has not that much memory.</exception>
    public static Tensor Zeros(Device device, DType type, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var dimensions = shape.ToArray();
        var bytes = CheckedSize(type, dimensions);
        var buffer = device.Backend.AllocateZeros(Math.Max(bytes, 1), device.Stream);
        return new Tensor(device, type, buffer, null, buffer.Address, dimensions, RowMajor(dimensions));
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

    /// <summary>A tensor over memory the caller owns and keeps alive; it is never freed here.</summary>
    /// <param name="device">The device that can address the memory.</param>
    /// <param name="address">Address of the first element, aligned to 16 bytes for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension, row-major without gaps.</param>
    public static Tensor Borrow(Device device, nint address, DType type, params ReadOnlySpan<long> shape)
    {
        ArgumentNullException.ThrowIfNull(device);
        var dimensions = shape.ToArray();
        if (address == 0 && CheckedSize(type, dimensions) != 0)
        {
            throw new ArgumentException("a borrowed tensor needs an address that is not 0", nameof(address));
        }

        return new Tensor(device, type, null, null, address, dimensions, RowMajor(dimensions));
    }

    /// <summary>A tensor over memory the caller owns and keeps alive, with gaps between rows; it is never freed here.</summary>
    /// <param name="device">The device that can address the memory.</param>
    /// <param name="address">Address of the first element, aligned to 16 bytes for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension.</param>
    /// <param name="strides">Elements between neighbours in each dimension, not negative.</param>
    /// <exception cref="ArgumentException">The strides are not one for each dimension, or one is negative.</exception>
    public static Tensor Borrow(Device device, nint address, DType type, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides)
    {
        var dense = Borrow(device, address, type, shape);
        if (strides.Length != shape.Length || strides.ContainsAnyInRange(long.MinValue, -1))
        {
            throw new ArgumentException(
                $"strides [{string.Join(", ", strides.ToArray())}] must be {shape.Length} numbers, none negative", nameof(strides));
        }

        return new Tensor(device, type, null, null, address, dense._shape, strides.ToArray());
    }

    /// <summary>
    /// A tensor over memory the caller owns and keeps alive that begins at any multiple of an element, as one in a mapped file does.
    /// Ops take it on devices that read the host's memory; elsewhere it is to be copied.
    /// </summary>
    /// <param name="device">A device with <see cref="DeviceProperties.SharesHostMemory"/>.</param>
    /// <param name="address">Address of the first element, a multiple of its size for use by ops.</param>
    /// <param name="type">The element type.</param>
    /// <param name="shape">Elements in each dimension, row-major without gaps.</param>
    /// <exception cref="ArgumentException">The device does not share the host's memory.</exception>
    public static Tensor BorrowUnaligned(Device device, nint address, DType type, params ReadOnlySpan<long> shape)
    {
        var aligned = Borrow(device, address, type, shape);
        return device.Properties.SharesHostMemory
            ? new Tensor(device, type, null, null, address, aligned._shape, aligned._strides, isUnaligned: true)
            : throw new ArgumentException($"{device.Name} does not read host memory where it lies: copy {aligned} to it", nameof(device));
    }

    /// <summary>A view of <paramref name="length"/> indices of one dimension from <paramref name="start"/>; it shares the memory.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range lies outside the dimension.</exception>
    public Tensor Slice(int dimension, long start, long length)
    {
        if (dimension < 0 || dimension >= Rank || start < 0 || length < 0 || start > _shape[dimension] - length)
        {
            throw new ArgumentOutOfRangeException(
                nameof(start), $"slice of dimension {dimension}, {start} to {start} + {length}, of {this}");
        }

        var shape = (long[])_shape.Clone();
        shape[dimension] = length;
        var address = Address + (nint)(start * _strides[dimension] * DType.SizeInBytes());
        return new Tensor(Device, DType, null, this, address, shape, _strides);
    }

    /// <summary>The same elements in another shape; this tensor is contiguous.</summary>
    /// <exception cref="ArgumentException">Another number of elements, or not contiguous.</exception>
    public Tensor View(params ReadOnlySpan<long> shape)
    {
        var dimensions = shape.ToArray();
        if (!IsContiguous || CheckedSize(DType, dimensions) != SizeInBytes)
        {
            throw new ArgumentException($"view of {this} as [{string.Join(", ", dimensions)}]: must be contiguous, of as many elements");
        }

        return new Tensor(Device, DType, null, this, Address, dimensions, RowMajor(dimensions));
    }

    /// <summary>The last dimension cut in two: [..., outer * inner] as [..., outer, inner].</summary>
    /// <exception cref="ArgumentException">The last dimension is not contiguous, or not outer * inner long.</exception>
    public Tensor SplitLast(long outer, long inner)
    {
        if (Rank == 0 || outer < 0 || inner < 0 || _shape[^1] != outer * inner || (_strides[^1] != 1 && _shape[^1] > 1))
        {
            throw new ArgumentException($"split of the last dimension of {this} into {outer} x {inner}");
        }

        return new Tensor(Device, DType, null, this, Address, [.. _shape[..^1], outer, inner], [.. _strides[..^1], inner, 1]);
    }

    /// <summary>The elements on the host, behind all work on the device's default stream.</summary>
    public T[] ToArray<T>() where T : unmanaged
    {
        var elements = new T[ElementCount];
        Device.Stream.Read<T>(this, elements);
        return elements;
    }

    /// <summary>Frees the memory if it is owned; views of it become unusable.</summary>
    public void Dispose()
    {
        _disposed = true;
        _buffer?.Dispose();
    }

    /// <summary>Type, shape and device: "BFloat16[4, 128] on cpu".</summary>
    public override string ToString() => $"{DType}[{string.Join(", ", _shape)}] on {Device.Name}";

    private static long Product(long[] shape)
    {
        long product = 1;
        foreach (var length in shape)
        {
            product *= length;
        }

        return product;
    }

    private static long CheckedSize(DType type, long[] shape)
    {
        Int128 bytes = type.SizeInBytes();
        foreach (var length in shape)
        {
            if (length < 0)
            {
                throw new ArgumentException($"a tensor of shape [{string.Join(", ", shape)}] has a negative dimension");
            }

            bytes *= length;
            if (bytes > long.MaxValue)
            {
                throw new ArgumentException($"a tensor {type}[{string.Join(", ", shape)}] is larger than 2^63 bytes");
            }
        }

        return (long)bytes;
    }

    private static long[] RowMajor(long[] shape)
    {
        var strides = new long[shape.Length];
        long stride = 1;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            strides[i] = stride;
            stride *= Math.Max(shape[i], 1);
        }

        return strides;
    }
}
