namespace Octet.Cases;

/// <summary>
/// A timed problem: an op on a shape of the target model with seeded random contents, no reference. Parity is the business of
/// <see cref="Case"/>; this is for the shapes whose reference would take minutes.
/// </summary>
/// <param name="Op">The op's name in the C ABI.</param>
/// <param name="Name">The shape: "QKV m8 n9216 k4096".</param>
/// <param name="Flops">Floating-point operations of one run; 0 where bytes alone count.</param>
/// <param name="Bytes">Bytes one run must read and write at least.</param>
/// <param name="Prepare">Makes the operands; the action runs the op once on the i-th of them.</param>
internal sealed record Workload(string Op, string Name, double Flops, double Bytes, Func<WorkloadContext, Action<int>> Prepare)
{
    /// <summary>Op and name.</summary>
    public override string ToString() => $"{Op}: {Name}";
}

/// <summary>Operands of a workload on one device, in as many copies as it takes to outgrow the last-level cache.</summary>
internal sealed class WorkloadContext(Device device, double cacheBytes, int seed = 1) : IDisposable
{
    // Enough for the operands that matter; an op on less than a kilobyte finds its operands warm in any program.
    private const int MostCopies = 64;
    private const int PatternBytes = 1 << 20;

    private readonly TensorSet _memory = new(device);
    private TensorView _pattern;

    /// <summary>The device under test.</summary>
    public Device Device { get; } = device;

    /// <summary>The stream to launch on.</summary>
    public DeviceStream Stream { get; } = device.Stream;

    /// <summary>The same numbers for every device.</summary>
    public Random Random { get; } = new(seed);

    /// <summary>How many copies of operands of so many bytes outgrow the cache twice over.</summary>
    public int Copies(double bytes) => (int)Math.Clamp(Math.Ceiling(2 * cacheBytes / Math.Max(bytes, 1)) + 1, 2, MostCopies);

    /// <summary>Undefined elements.</summary>
    public TensorView Create(DType type, params ReadOnlySpan<long> shape) => _memory.Create(type, shape);

    /// <summary>Given elements.</summary>
    public TensorView From<T>(ReadOnlySpan<T> elements, params ReadOnlySpan<long> shape) where T : unmanaged =>
        _memory.Add(Tensor.From(Device, elements, shape));

    /// <summary>FP8 codes of normal numbers: every code a real weight has, about as often, and no NaN.</summary>
    public TensorView Codes(params ReadOnlySpan<long> shape)
    {
        _pattern = _pattern.IsNull ? From<byte>(Pattern(), PatternBytes) : _pattern;
        var tensor = Create(Device.Float8, shape);
        for (long offset = 0; offset < tensor.SizeInBytes; offset += PatternBytes)
        {
            var length = Math.Min(PatternBytes, tensor.SizeInBytes - offset);
            Stream.Copy(
                TensorView.Borrow(Device, tensor.Address + (nint)offset, DType.Byte, length), _pattern.Slice(0, 0, length));
        }

        return tensor;
    }

    /// <summary>BF16 numbers of size 1, a pattern of 2^16 repeated.</summary>
    public TensorView BFloat16s(params ReadOnlySpan<long> shape)
    {
        var tensor = Create(DType.BFloat16, shape);
        var pattern = From<BFloat16>(
            [.. Enumerable.Range(0, (int)Math.Min(tensor.ElementCount, 1 << 16)).Select(_ => (BFloat16)(2 * Random.NextSingle() - 1))],
            Math.Min(tensor.ElementCount, 1 << 16));
        for (long offset = 0; offset < tensor.ElementCount; offset += pattern.ElementCount)
        {
            var length = Math.Min(pattern.ElementCount, tensor.ElementCount - offset);
            Stream.Copy(
                TensorView.Borrow(Device, tensor.Address + (nint)(2 * offset), DType.BFloat16, length), pattern.Slice(0, 0, length));
        }

        return tensor;
    }

    /// <summary>Scales between 0.001 and 0.002.</summary>
    public TensorView Scales(params ReadOnlySpan<long> shape)
    {
        long count = 1;
        foreach (var length in shape)
        {
            count *= length;
        }

        return From<float>([.. Enumerable.Range(0, (int)count).Select(_ => 0.001f * (1 + Random.NextSingle()))], shape);
    }

    /// <summary>FP8 activations.</summary>
    public QuantizedTensor Quantized(long rows, long columns) => new(Codes(rows, columns), Scales(rows, Blocks(columns)));

    /// <summary>An FP8 weight, or a stack of them.</summary>
    public Weight Weight(long n, long k, long experts = 0) => experts == 0
        ? new Weight { Values = Codes(n, k), Scales = Scales(Blocks(n), Blocks(k)) }
        : new Weight { Values = Codes(experts, n, k), Scales = Scales(experts, Blocks(n), Blocks(k)) };

    /// <summary>Scratch memory; none for 0 bytes.</summary>
    public TensorView Workspace(long sizeInBytes) => sizeInBytes == 0 ? default : Create(DType.Byte, sizeInBytes);

    public void Dispose() => _memory.Dispose();

    private static long Blocks(long elements) => (elements + Octet.Float8.Block - 1) / Octet.Float8.Block;

    private byte[] Pattern()
    {
        var codes = new byte[PatternBytes];
        for (var i = 0; i < codes.Length; i++)
        {
            // A sum of four uniform numbers is normal enough here; 448 stands for three deviations.
            var sum = Random.NextDouble() + Random.NextDouble() + Random.NextDouble() + Random.NextDouble() - 2;
            codes[i] = ((Float8E4M3)(float)(sum * 220)).Code;
            codes[i] = codes[i] == 0x80 ? (byte)0 : codes[i];
        }

        return codes;
    }
}
