namespace Octet;

/// <summary>Tensors of one device that are freed together.</summary>
/// <param name="device">Where they lie.</param>
/// <param name="isMeasured">No memory is taken: only shapes and <see cref="SizeInBytes"/> are wanted.</param>
internal sealed class TensorSet(Device device, bool isMeasured = false) : IDisposable
{
    // What is only measured lies nowhere; ops want an address that is not zero, of 16 bytes.
    private const nint Nowhere = 256;

    private readonly List<Tensor> _tensors = [];

    /// <summary>Bytes of all; a tensor of no elements takes one.</summary>
    public long SizeInBytes { get; private set; }

    /// <summary>Those that have memory, in the order they were made.</summary>
    public IReadOnlyList<Tensor> Tensors => _tensors;

    /// <summary>Undefined elements.</summary>
    public TensorView Create(DType type, params ReadOnlySpan<long> shape)
    {
        var view = isMeasured ? TensorView.Borrow(device, Nowhere, type, shape) : Add(Tensor.Create(device, type, shape));
        SizeInBytes += Math.Max(view.SizeInBytes, 1);
        return view;
    }

    /// <summary>Undefined FP8 rows of the device's encoding.</summary>
    public QuantizedTensor CreateQuantized(long rows, long columns) => new(
        Create(device.Float8, rows, columns), Create(DType.Float32, rows, (columns + Float8.Block - 1) / Float8.Block));

    /// <summary>Takes over a tensor.</summary>
    public TensorView Add(Tensor tensor)
    {
        _tensors.Add(tensor);
        return tensor;
    }

    public void Dispose() => _tensors.ForEach(tensor => tensor.Dispose());
}
