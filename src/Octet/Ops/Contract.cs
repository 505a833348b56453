using System.Runtime.CompilerServices;
using System.Text;

namespace Octet;

/// <summary>
/// The ops: one method each, the contract of all backends. Each checks shapes, types, strides, alignment, sizes and devices of its
/// arguments, the same way for every device, then enqueues the work. Rows may lie any distance apart at which they do not overlap
/// (inputs of <see cref="Gemm"/> and <see cref="Quantize"/> may), elements within a row are contiguous, and tensors begin at a
/// multiple of 16 bytes, but for those of <see cref="TensorView.BorrowUnaligned"/>. One call takes at most 4,194,303 tokens or rows and
/// 2^33 elements of one of them.
/// </summary>
public static partial class Ops
{
}

/// <summary>
/// The checks of the ops: each throws ArgumentException with the op, the argument's name and the values. The limits are the tightest
/// of all backends': what one device takes, every device takes.
/// </summary>
internal readonly ref partial struct Contract
{
    /// <summary>Tokens or rows of one call: a block of up to 1,024 threads for each, of the 2^32 threads of a launch.</summary>
    public const long MaxRows = (1L << 22) - 1;

    /// <summary>Elements of one matrix of tokens: what the smallest tiles cut into few enough blocks for a launch.</summary>
    public const long MaxElements = 1L << 33;

    /// <summary>Elements of one weight.</summary>
    public const long MaxWeightElements = 1L << 35;

    /// <summary>Elements between rows: offsets in a matrix of 2^26 rows stay within 64 bits.</summary>
    public const long MaxStride = 1L << 34;

    private const int Alignment = 16;

    private readonly string _op;
    private readonly Device _device;

    public Contract(string op, DeviceStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        stream.ThrowIfDisposed();
        (_op, _device) = (op, stream.Device);
    }

    /// <summary>For the queries that come before an op: what it would refuse, they refuse.</summary>
    public Contract(string op, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        (_op, _device) = (op, device);
    }

    /// <summary>The FP8 encoding of the device.</summary>
    public DType Float8 => _device.Float8;

    public void Require(bool condition, [InterpolatedStringHandlerArgument("condition")] ref FailureText text)
    {
        if (!condition)
        {
            throw new ArgumentException($"{_op}: {text.ToString()}");
        }
    }

    public void Require(bool condition, string text)
    {
        if (!condition)
        {
            throw new ArgumentException($"{_op}: {text}");
        }
    }

    /// <summary>A tensor of one of two types on the device, beginning where every device can read it; one found by an address beside it anywhere.</summary>
    public void OnDevice(in Argument name, in TensorView tensor, DType type, DType? otherType = null, bool isAddressed = false)
    {
        Require(!tensor.IsNull, $"{name} is null");
        Require(tensor.Device == _device, $"{name} {tensor} is not on the stream's device {_device.Name}");
        Require(
            tensor.DType == type || tensor.DType == otherType,
            $"{name} {tensor} must be {type}{(otherType is null || otherType == type ? "" : $" or {otherType}")}");
        var alignment = isAddressed || tensor.IsUnaligned ? tensor.DType.SizeInBytes() : Alignment;
        Require(tensor.Address % alignment == 0, $"{name} {tensor} begins at {tensor.Address:x}, must be aligned to {alignment} bytes");
    }

    /// <summary>[rows, columns] of one of two types, columns contiguous; rows overlap only where that is allowed.</summary>
    public void Matrix(in Argument name, in TensorView tensor, DType type, DType? otherType = null, bool mayOverlap = false)
    {
        OnDevice(name, tensor, type, otherType);
        Require(
            tensor.Rank == 2 && (tensor.Strides[1] == 1 || tensor.Shape[1] <= 1),
            $"{name} {tensor} must have two dimensions, the second contiguous");
        Stride(name, tensor, tensor.Strides[0], mayOverlap ? 0 : tensor.Shape[1]);
        Require(tensor.Shape[0] <= int.MaxValue && tensor.Shape[1] <= int.MaxValue, $"{name} {tensor}: rows and columns must be below 2^31");
    }

    public void Matrix(in Argument name, in TensorView tensor, long rows, long columns, DType type, DType? otherType = null)
    {
        Matrix(name, tensor, type, otherType);
        Require(tensor.Shape[0] == rows && tensor.Shape[1] == columns, $"{name} {tensor} must be [{rows}, {columns}]");
    }

    /// <summary>A matrix with a row for each token: as many as one call takes.</summary>
    public void Tokens(string name, long tokens, long columns) => Require(
        tokens <= MaxRows && columns <= MaxElements / Math.Max(tokens, 1),
        $"{name}: {tokens} x {columns}: one call takes at most {MaxRows} rows and {MaxElements} elements");

    /// <summary>[rows, columns], or [segments, rows, columns] f32: partial sums to be added in order; columns contiguous.</summary>
    public void Summands(in Argument name, in TensorView tensor, DType type)
    {
        if (tensor.Rank != 3)
        {
            Matrix(name, tensor, type);
            return;
        }

        OnDevice(name, tensor, DType.Float32);
        Require(
            tensor.Shape[0] is >= 1 and <= 1 << 16 && (tensor.Strides[2] == 1 || tensor.Shape[2] <= 1),
            $"{name} {tensor} must be 1..65,536 partial sums, columns contiguous");
        Stride(name, tensor, tensor.Strides[1], tensor.Shape[2]);
        Stride(name, tensor, tensor.Strides[0], 0);
        Require(tensor.Shape[1] <= int.MaxValue && tensor.Shape[2] <= int.MaxValue, $"{name} {tensor}: rows and columns must be below 2^31");
    }

    /// <summary>[length], contiguous.</summary>
    public void Vector(in Argument name, in TensorView tensor, DType type, long length)
    {
        Contiguous(name, tensor, type);
        Require(tensor.ElementCount == length, $"{name} {tensor} must have {length} elements");
    }

    public void Contiguous(in Argument name, in TensorView tensor, DType type)
    {
        OnDevice(name, tensor, type);
        Require(tensor.IsContiguous, $"{name} {tensor} must be contiguous");
    }

    /// <summary>Scratch memory of at least so many bytes; where none is needed it may be null, but not wrong.</summary>
    public void Workspace(in TensorView workspace, long needed)
    {
        if (needed == 0 && workspace.IsNull)
        {
            return;
        }

        Contiguous("workspace", workspace, DType.Byte);
        Require(workspace.SizeInBytes >= needed, $"workspace {workspace} must have {needed} bytes");
    }

    private void Stride(in Argument name, in TensorView tensor, long stride, long least) => Require(
        stride >= least && stride <= MaxStride,
        $"{name} {tensor}: rows lie {stride} elements apart, must be {least}..{MaxStride}");

    /// <summary>Formats only where the condition fails: a passing check costs no allocation, and one word of the stack.</summary>
    [InterpolatedStringHandler]
    public readonly ref struct FailureText
    {
        private readonly StringBuilder? _text;

        public FailureText(int literalLength, int formattedCount, bool condition, out bool enabled)
        {
            enabled = !condition;
            _text = enabled ? new(literalLength + 16 * formattedCount) : null;
        }

        public void AppendLiteral(string text) => _text!.Append(text);

        public void AppendFormatted<T>(in T value) => _text!.Append(value?.ToString());

        public void AppendFormatted<T>(in T value, string? format) where T : IFormattable => _text!.Append(value.ToString(format, null));

        public override string ToString() => _text!.ToString();
    }
}
