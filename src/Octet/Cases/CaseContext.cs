using System.Runtime.InteropServices;

namespace Octet.Cases;

/// <summary>
/// What a case has at hand on one device: seeded inputs, guarded tensors, comparisons. Every tensor lies between two guards
/// of <see cref="GuardBytes"/> that must be intact afterwards.
/// </summary>
internal sealed class CaseContext : IDisposable
{
    private const int GuardBytes = 256;
    private const byte GuardByte = 0x5A;

    private readonly List<Guarded> _tensors = [];
    private readonly TensorSet _large;
    private readonly string _op;
    private readonly string _name;
    private double _error;
    private double _tolerance = double.PositiveInfinity;
    private string? _failure;

    public CaseContext(Device device, Case test)
    {
        Device = device;
        Stream = device.Stream;
        _large = new TensorSet(device);
        (_op, _name) = (test.Op, test.Name);
        Random = new Random(Seed($"{test.Op}/{test.Name}"));
    }

    /// <summary>The device under test.</summary>
    public Device Device { get; }

    /// <summary>The stream to launch on.</summary>
    public DeviceStream Stream { get; }

    /// <summary>Seeded from the case's name: the same numbers on every device.</summary>
    public Random Random { get; }

    /// <summary>The FP8 encoding of the device.</summary>
    public DType Float8 => Device.Float8;

    /// <summary>Normal numbers, mean 0.</summary>
    public float[] Normal(long count, double deviation = 1)
    {
        var numbers = new float[count];
        for (var i = 0; i < numbers.Length; i++)
        {
            var radius = Math.Sqrt(-2 * Math.Log(1 - Random.NextDouble()));
            numbers[i] = (float)(deviation * radius * Math.Cos(2 * Math.PI * Random.NextDouble()));
        }

        return numbers;
    }

    /// <summary>Normal numbers rounded to BF16.</summary>
    public BFloat16[] NormalBFloat16(long count, double deviation = 1) =>
        Array.ConvertAll(Normal(count, deviation), x => (BFloat16)x);

    /// <summary>A tensor the op only reads.</summary>
    public TensorView Input<T>(T[] elements, params ReadOnlySpan<long> shape) where T : unmanaged =>
        Guard(DTypes.Of<T>(), shape, MemoryMarshal.AsBytes(elements.AsSpan()).ToArray(), isOutput: false);

    /// <summary>A tensor the op reads and writes; restored before the second run.</summary>
    public TensorView InOut<T>(T[] elements, params ReadOnlySpan<long> shape) where T : unmanaged =>
        Guard(DTypes.Of<T>(), shape, MemoryMarshal.AsBytes(elements.AsSpan()).ToArray(), isOutput: true);

    /// <summary>A tensor the op writes in full: nobody has written it before the first run.</summary>
    public TensorView Output(DType type, params ReadOnlySpan<long> shape) => Guard(type, shape, null, isOutput: true);

    /// <summary>Scratch memory; none for 0 bytes.</summary>
    public TensorView Workspace(long sizeInBytes) =>
        sizeInBytes == 0 ? default : Guard(DType.Byte, [sizeInBytes], null, isOutput: false);

    /// <summary>A tensor too large to guard, to fill or to read back: its elements are undefined until the case writes some.</summary>
    public TensorView Large(DType type, params ReadOnlySpan<long> shape) => _large.Create(type, shape);

    /// <summary>Normal rows as FP8 blocks of the device's encoding, and their exact values.</summary>
    public (QuantizedTensor Tensor, double[] Values) QuantizedInput(long rows, long columns, double deviation = 1)
    {
        var (codes, scales, values) = Blocks(Normal(rows * columns, deviation), 1, rows, columns, 1, 0, 0);
        var scaleColumns = Ceiling(columns);
        return (new QuantizedTensor(Codes(codes, rows, columns), Input(scales, rows, scaleColumns)), values);
    }

    /// <summary>
    /// A normal weight [experts, n, k] (rank 2 for one expert unless <paramref name="stack"/>) as FP8 blocks, with the shard's offset
    /// into the scale grid, and its exact values.
    /// </summary>
    public (Weight Weight, double[] Values) WeightInput(
        long n, long k, long experts = 1, int rowOffset = 0, int columnOffset = 0, double deviation = 1, bool stack = false)
    {
        var (codes, scales, values) = Blocks(Normal(experts * n * k, deviation), experts, n, k, Octet.Float8.Block, rowOffset, columnOffset);
        var (scaleRows, scaleColumns) = (Ceiling(rowOffset + n), Ceiling(columnOffset + k));
        stack |= experts > 1;
        var weight = new Weight
        {
            Values = stack ? Codes(codes, experts, n, k) : Codes(codes, n, k),
            Scales = stack ? Input(scales, experts, scaleRows, scaleColumns) : Input(scales, scaleRows, scaleColumns),
            ScaleRowOffset = rowOffset,
            ScaleColumnOffset = columnOffset,
        };
        return (weight, values);
    }

    /// <summary>FP8 codes as a tensor of the device's encoding.</summary>
    public TensorView Codes(byte[] codes, params ReadOnlySpan<long> shape) => Guard(Float8, shape, codes, isOutput: false);

    /// <summary>FP8 codes the op reads and writes.</summary>
    public TensorView CodesInOut(byte[] codes, params ReadOnlySpan<long> shape) => Guard(Float8, shape, codes, isOutput: true);

    /// <summary>The elements of any tensor, widened exactly.</summary>
    public double[] Values(TensorView tensor)
    {
        var bytes = Read(tensor);
        var values = new double[tensor.ElementCount];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = tensor.DType switch
            {
                DType.Float32 => BitConverter.ToSingle(bytes, 4 * i),
                DType.BFloat16 => BFloat16.FromBits(BitConverter.ToUInt16(bytes, 2 * i)),
                DType.Float8E4M3 or DType.Float8E4M3Fnuz => Octet.Float8.Widen(bytes[i], tensor.DType),
                DType.Int32 => BitConverter.ToInt32(bytes, 4 * i),
                DType.Int64 => BitConverter.ToInt64(bytes, 8 * i),
                _ => bytes[i],
            };
        }

        return values;
    }

    /// <summary>The bytes of a contiguous tensor.</summary>
    public byte[] Read(TensorView tensor)
    {
        var bytes = new byte[tensor.SizeInBytes];
        Stream.Read<byte>(TensorView.Borrow(Device, tensor.Address, DType.Byte, bytes.Length), bytes);
        return bytes;
    }

    /// <summary>calc_diff = 1 - 2 x.y / (x.x + y.y) in f64; NaN and infinities must stand in the same places.</summary>
    public static double Difference(ReadOnlySpan<double> actual, ReadOnlySpan<double> expected)
    {
        double xy = 0, xx = 0, yy = 0;
        for (var i = 0; i < expected.Length; i++)
        {
            if (!double.IsFinite(actual[i]) || !double.IsFinite(expected[i]))
            {
                if (!actual[i].Equals(expected[i]))
                {
                    return double.PositiveInfinity;
                }

                continue;
            }

            (xy, xx, yy) = (xy + actual[i] * expected[i], xx + actual[i] * actual[i], yy + expected[i] * expected[i]);
        }

        return xx + yy == 0 ? 0 : 1 - 2 * xy / (xx + yy);
    }

    /// <summary>Holds values to a reference by <see cref="Difference"/>.</summary>
    public void Compare(string what, ReadOnlySpan<double> actual, ReadOnlySpan<double> expected, double tolerance)
    {
        if (actual.Length != expected.Length)
        {
            throw new ArgumentException($"{what}: {actual.Length} values, the reference has {expected.Length}");
        }

        Record(what, Math.Max(Difference(actual, expected), 0), tolerance);
    }

    /// <summary>Holds a tensor to a reference by <see cref="Difference"/>.</summary>
    public void Compare(string what, TensorView actual, ReadOnlySpan<double> expected, double tolerance) =>
        Compare(what, Values(actual), expected, tolerance);

    /// <summary>Exact equality, element by element.</summary>
    public void Equal<T>(string what, ReadOnlySpan<T> actual, ReadOnlySpan<T> expected) where T : IEquatable<T>
    {
        var differing = actual.Length == expected.Length ? 0 : Math.Max(actual.Length, expected.Length);
        var first = "";
        for (var i = 0; i < actual.Length && i < expected.Length; i++)
        {
            if (!actual[i].Equals(expected[i]))
            {
                first = differing++ == 0 ? $", the first at {i}: {actual[i]} instead of {expected[i]}" : first;
            }
        }

        Record($"{what}: {differing} of {expected.Length} differ{first}", differing, 0);
    }

    /// <summary>Codes of a quantisation: at most one code away, on fewer than 0.05 % (and at least one) of the bytes.</summary>
    public void CompareCodes(string what, ReadOnlySpan<byte> actual, ReadOnlySpan<byte> expected)
    {
        var differing = actual.Length == expected.Length ? 0 : int.MaxValue;
        for (var i = 0; i < actual.Length && differing != int.MaxValue; i++)
        {
            var distance = Math.Abs(Order(actual[i]) - Order(expected[i]));
            differing = distance > 1 ? int.MaxValue : differing + distance;
        }

        Record(what, differing, Math.Max(1, expected.Length * 0.0005));

        static int Order(byte code) => (code & 0x80) != 0 ? -(code & 0x7F) : code;
    }

    /// <summary>Notes a measure against its tolerance; the one nearest to its limit is reported.</summary>
    public void Record(string what, double error, double tolerance)
    {
        var passed = error <= tolerance;
        if (!passed)
        {
            _failure ??= $"{what}: error {error:g4}, tolerance {tolerance:g4}";
        }

        if (double.IsPositiveInfinity(_tolerance) || !passed || error * _tolerance > _error * tolerance)
        {
            (_error, _tolerance) = (error, tolerance);
        }
    }

    /// <summary>Before the first run.</summary>
    public void Begin() => Stream.Synchronize();

    /// <summary>Keeps the outputs of the first run, and refills them.</summary>
    public void EndFirstRun()
    {
        Stream.Synchronize();
        foreach (var guarded in _tensors.Where(t => t.IsOutput))
        {
            guarded.FirstRun = Read(guarded.Tensor);
            Write(guarded.Tensor, guarded.Initial ?? [.. Enumerable.Repeat((byte)0xA5, guarded.FirstRun.Length)]);
        }
    }

    /// <summary>The second run must have given the same bits, and no run touched a guard or an input.</summary>
    public void EndSecondRun()
    {
        Stream.Synchronize();
        foreach (var guarded in _tensors)
        {
            var all = Read(guarded.Whole);
            var body = all.AsSpan(GuardBytes, all.Length - 2 * GuardBytes);
            if (all.AsSpan(0, GuardBytes).ContainsAnyExcept(GuardByte) || all.AsSpan(GuardBytes + body.Length).ContainsAnyExcept(GuardByte))
            {
                _failure ??= $"a guard of {guarded.Tensor} was overwritten";
            }

            if (guarded.IsOutput ? !body.SequenceEqual(guarded.FirstRun) : guarded.Initial is { } initial && !body.SequenceEqual(initial))
            {
                _failure ??= guarded.IsOutput
                    ? $"{guarded.Tensor}: two runs gave different bits"
                    : $"{guarded.Tensor}: an input was overwritten";
            }
        }
    }

    /// <summary>The outcome, with a failure from outside the comparisons.</summary>
    public CaseResult Result(string? failure)
    {
        failure ??= _failure;
        if (failure is null && double.IsPositiveInfinity(_tolerance))
        {
            failure = "the case compared nothing";
        }

        return new CaseResult(
            _op, _name, Device.Name, _error, double.IsPositiveInfinity(_tolerance) ? 0 : _tolerance, failure is null, failure, null);
    }

    public void Dispose()
    {
        foreach (var guarded in _tensors)
        {
            guarded.Whole.Dispose();
        }

        _large.Dispose();
    }

    private static long Ceiling(long elements) => (elements + Octet.Float8.Block - 1) / Octet.Float8.Block;

    // Codes, scales and exact values of [matrices, rows, columns] in blocks of rowBlock x 128 whose grid is shifted by the offsets.
    private (byte[] Codes, float[] Scales, double[] Values) Blocks(
        float[] x, long matrices, long rows, long columns, long rowBlock, int rowOffset, int columnOffset)
    {
        var (scaleRows, scaleColumns) = ((rowOffset + rows + rowBlock - 1) / rowBlock, Ceiling(columnOffset + columns));
        var scales = new float[matrices * scaleRows * scaleColumns];

        // Scales differ by up to 16 from block to block, so that a neighbour's scale shows.
        var factors = Array.ConvertAll(scales, _ => MathF.Pow(2, 4 * Random.NextSingle() - 2));
        long Block(long i)
        {
            var (matrix, row, column) = (i / (rows * columns), i / columns % rows, i % columns);
            return (matrix * scaleRows + (rowOffset + row) / rowBlock) * scaleColumns + (columnOffset + column) / Octet.Float8.Block;
        }

        for (long i = 0; i < x.Length; i++)
        {
            x[i] *= factors[Block(i)];
            scales[Block(i)] = Math.Max(scales[Block(i)], Math.Abs(x[i]));
        }

        scales = Array.ConvertAll(scales, amax => Octet.Float8.Scale(amax, Float8));
        var codes = new byte[x.Length];
        var values = new double[x.Length];
        for (long i = 0; i < x.Length; i++)
        {
            codes[i] = Octet.Float8.Narrow(x[i] / scales[Block(i)], Float8, Octet.Float8.Limit(Float8));
            values[i] = (double)Octet.Float8.Widen(codes[i], Float8) * scales[Block(i)];
        }

        return (codes, scales, values);
    }

    private TensorView Guard(DType type, ReadOnlySpan<long> shape, byte[]? initial, bool isOutput)
    {
        long bytes = type.SizeInBytes();
        foreach (var length in shape)
        {
            bytes *= length;
        }

        if (initial is not null && initial.Length != bytes)
        {
            throw new ArgumentException($"{initial.Length} bytes for {type}[{string.Join(", ", shape.ToArray())}]");
        }

        var whole = Tensor.Create(Device, DType.Byte, bytes + 2 * GuardBytes);
        Stream.Fill(whole.Slice(0, 0, GuardBytes), GuardByte);
        Stream.Fill(whole.Slice(0, GuardBytes + bytes, GuardBytes), GuardByte);
        var tensor = TensorView.Borrow(Device, whole.Address + GuardBytes, type, shape);
        _tensors.Add(new Guarded(whole, tensor, initial, isOutput));
        if (initial is not null)
        {
            Write(tensor, initial);
        }

        return tensor;
    }

    private void Write(TensorView tensor, byte[] bytes) =>
        Stream.Write<byte>(TensorView.Borrow(Device, tensor.Address, DType.Byte, bytes.Length), bytes);

    // FNV-1a: string.GetHashCode differs from process to process.
    private static int Seed(string text)
    {
        var hash = 2166136261u;
        foreach (var c in text)
        {
            hash = (hash ^ c) * 16777619u;
        }

        return (int)hash;
    }

    private sealed record Guarded(Tensor Whole, TensorView Tensor, byte[]? Initial, bool IsOutput)
    {
        public byte[] FirstRun { get; set; } = [];
    }
}
