using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>How far loading has come.</summary>
/// <param name="LoadedBytes">Checkpoint bytes on the device so far.</param>
/// <param name="TotalBytes">Checkpoint bytes in all.</param>
public readonly record struct LoadProgress(long LoadedBytes, long TotalBytes);

/// <summary>
/// Brings tensors of a checkpoint, or ranges of them, onto a device: FP8 block weights in the device's encoding (OCP codes are repacked to
/// FNUZ where it needs that, exactly), plain BF16, F16 or F32 projections quantised to FP8 blocks, the rest as BF16 or f32. Where the device
/// reads host memory and computes in the checkpoint's encoding, weights stay where the files are mapped: nothing but the scales is copied.
/// Every element is looked at once (<see cref="TensorValues"/>), wherever it stays.
/// </summary>
/// <remarks>
/// Files go through two pinned buffers, and codes that change through one buffer on the device: a weight is allocated once, its matrices
/// are written straight into their places, and nothing waits for them.
/// </remarks>
/// <param name="device">Where to.</param>
/// <param name="weights">Every tensor is allocated there: whoever made it frees them.</param>
/// <param name="total">Bytes there are to load, for the progress.</param>
/// <param name="progress">Told of every chunk.</param>
/// <param name="cancellation">Stops between chunks.</param>
internal sealed class WeightLoader(
    Device device, TensorSet weights, long total, IProgress<LoadProgress>? progress, CancellationToken cancellation) : IDisposable
{
    // Ops want tensors to begin at a multiple of it.
    private const int Alignment = 16;

    // How much of a mapped tensor is looked at between two reports.
    private const int LookedAtBytes = 64 << 20;

    private readonly StagingBuffers _staging = new(device);
    private byte[] _stored = [];
    private Tensor? _scratch;
    private Tensor? _codes;
    private Tensor? _factors;
    private long _loaded;

    /// <summary>A norm weight, bias, embedding, router or head, as BF16.</summary>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public TensorView LoadBFloat16(SafeTensor source) => LoadBFloat16(source, 0, source.Shape[0]);

    /// <summary>Some rows of such a tensor; some elements of a vector.</summary>
    /// <param name="source">The tensor.</param>
    /// <param name="first">The first row.</param>
    /// <param name="count">Rows.</param>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public TensorView LoadBFloat16(SafeTensor source, long first, long count)
    {
        var rows = RowsOf(source).Rows(first, count);
        long[] shape = [count, .. source.Shape[1..]];
        if (CanMap(source, SafeTensorType.BFloat16))
        {
            LookAt(rows);
            return TensorView.BorrowUnaligned(device, AddressOf(rows), DType.BFloat16, shape);
        }

        var tensor = weights.Create(DType.BFloat16, shape);
        WriteBFloat16(rows, tensor);
        return tensor;
    }

    /// <summary>A vector as f32.</summary>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public TensorView LoadFloat32(SafeTensor source)
    {
        TensorValues.CheckWeights(source, 0, source.Bytes);
        var tensor = weights.Create(DType.Float32, source.Shape);
        device.Stream.Write<float>(tensor, TensorValues.ToSingles(source, source.Bytes));
        Advance(source.SizeInBytes);
        return tensor;
    }

    /// <summary>Projections with the same input, one under the other: [sum of rows, k]; but for the last, of multiples of 128 rows.</summary>
    /// <exception cref="ModelFormatException">An element or a scale is not one that may be.</exception>
    public Weight LoadProjection(params MatrixSource[] parts) => parts.Length == 1 && Maps(parts)
        ? Map(parts, [])
        : Load([parts], []);

    /// <summary>The same projection of every expert: [experts, n, k].</summary>
    /// <exception cref="ModelFormatException">An element or a scale is not one that may be.</exception>
    public Weight LoadExperts(MatrixSource[] experts) => Maps(experts)
        ? Map(experts, [experts.Length])
        : Load([.. experts.Select(expert => new[] { expert })], [experts.Length]);

    /// <summary>Whether projections are used where they lie in the mapped files. They then cannot be put under each other.</summary>
    public bool Maps(params MatrixSource[] sources) =>
        sources.All(source => source.IsContiguous && CanMap(source.Values, SafeTensorType.Float8E4M3));

    /// <summary>Vectors one after the other in one.</summary>
    public TensorView Join(IReadOnlyList<TensorView> parts)
    {
        var all = weights.Create(DType.BFloat16, parts.Sum(part => part.ElementCount));
        long start = 0;
        foreach (var part in parts)
        {
            device.Stream.Copy(all.Slice(0, start, part.ElementCount), part);
            start += part.ElementCount;
        }

        return all;
    }

    /// <summary>Waits until everything is on the device and reports it.</summary>
    public void Complete()
    {
        device.Stream.Synchronize();
        Advance(total - _loaded);
    }

    /// <summary>Frees what loading alone needs.</summary>
    public void Dispose()
    {
        _staging.Dispose();
        _scratch?.Dispose();
        _codes?.Dispose();
        _factors?.Dispose();
    }

    private static MatrixSource RowsOf(SafeTensor tensor) => new()
    {
        Values = tensor, N = tensor.Shape[0], K = tensor.ElementCount / Math.Max(tensor.Shape[0], 1),
    };

    private static nint AddressOf(MatrixSource source) => source.Values.Address + (nint)(source.First * source.Values.Type.SizeInBytes());

    // What the device reads must be what the file holds, where it holds it.
    private bool CanMap(SafeTensor source, SafeTensorType type) =>
        device.Properties.SharesHostMemory && device.Float8 == DType.Float8E4M3 && source.Type == type && source.SizeInBytes > 0
        && source.Address % type.SizeInBytes() == 0;

    // Stacks of matrices, each of them parts under each other.
    private Weight Load(MatrixSource[][] matrices, long[] leading)
    {
        var (n, k, first) = (matrices[0].Sum(part => part.N), matrices[0][0].K, matrices[0][0]);
        var scaleRows = MatrixSource.Blocks(first.ScaleRowOffset + n);
        var values = weights.Create(device.Float8, [.. leading, n, k]);
        var scales = weights.Create(DType.Float32, [.. leading, scaleRows, first.ScaleColumns]);
        WriteScales(scales, [.. matrices.SelectMany(parts => parts)]);
        for (var i = 0; i < matrices.Length; i++)
        {
            var (row, scaleRow) = (i * n, i * scaleRows);
            foreach (var part in matrices[i])
            {
                if (part.Values.Type == SafeTensorType.Float8E4M3)
                {
                    WriteCodes(part, values.Address + (nint)(row * k));
                }
                else
                {
                    Quantize(part, values.Address + (nint)(row * k), Floats(scales.Address, scaleRow * part.ScaleColumns, part.ScaleRows * part.ScaleColumns));
                }

                row += part.N;
                scaleRow += part.ScaleRows;
            }
        }

        return new Weight { Values = values, Scales = scales, ScaleRowOffset = first.ScaleRowOffset, ScaleColumnOffset = first.ScaleColumnOffset };
    }

    // Matrices [n, k] where they lie in the files; their scales in one stack.
    private Weight Map(MatrixSource[] sources, long[] leading)
    {
        var first = sources[0];
        var scales = weights.Create(DType.Float32, [.. leading, first.ScaleRows, first.ScaleColumns]);
        WriteScales(scales, sources);
        foreach (var source in sources)
        {
            LookAt(source);
        }

        var addresses = weights.Create(DType.Int64, sources.Length);
        device.Stream.Write<long>(addresses, Array.ConvertAll(sources, source => (long)AddressOf(source)));
        return new Weight
        {
            Values = TensorView.Borrow(device, AddressOf(first), DType.Float8E4M3, [.. leading, first.N, first.K]),
            Scales = scales,
            ScaleRowOffset = first.ScaleRowOffset,
            ScaleColumnOffset = first.ScaleColumnOffset,
            ExpertAddresses = addresses,
        };
    }

    // The scales of all matrices of a weight, doubled for FNUZ as their codes are halved; those that are quantised here write theirs later.
    private void WriteScales(TensorView scales, MatrixSource[] sources)
    {
        var all = new float[scales.ElementCount];
        long start = 0;
        foreach (var source in sources)
        {
            if (source.Scales is not null)
            {
                var own = source.ReadScales();
                own.CopyTo(all, start);
                Advance((long)source.Scales.Type.SizeInBytes() * own.Length);
            }

            start += source.ScaleRows * source.ScaleColumns;
        }

        if (device.Float8 == DType.Float8E4M3Fnuz)
        {
            for (var i = 0; i < all.Length; i++)
            {
                all[i] *= 2;
            }
        }

        device.Stream.Write<float>(scales, all);
    }

    // FP8 codes into their place.
    private void WriteCodes(MatrixSource source, nint place) => ReadRows(source, (row, rows) =>
    {
        var count = rows * source.K;
        var address = place + (nint)(row * source.K);
        source.Read(row, rows, _staging.Take());
        if (device.Float8 != DType.Float8E4M3Fnuz)
        {
            _staging.Copy(Bytes(address, count));
            return;
        }

        // Matrices of a stack may begin anywhere: what is not aligned is repacked where it waits.
        var waiting = Grow(ref _scratch, DType.Byte, count).Address;
        var isAligned = address % Alignment == 0;
        var none = Floats(waiting, 0, 0);
        _staging.Copy(Bytes(waiting, count));
        Ops.Repack(device.Stream, new()
        {
            Values = TensorView.Borrow(device, waiting, DType.Float8E4M3, count),
            Scales = none,
            OutputValues = TensorView.Borrow(device, isAligned ? address : waiting, DType.Float8E4M3Fnuz, count),
            OutputScales = none,
        });
        if (!isAligned)
        {
            device.Stream.Copy(Bytes(address, count), Bytes(waiting, count));
        }
    });

    // Quantises the whole blocks a matrix lies in, and takes the matrix out of them.
    private void Quantize(MatrixSource source, nint place, TensorView scales)
    {
        var whole = source.WholeBlocks();
        var elements = Grow(ref _scratch, DType.Byte, 2 * whole.N * whole.K);
        var plain = TensorView.Borrow(device, elements.Address, DType.BFloat16, whole.N, whole.K);
        WriteBFloat16(whole, plain);
        var codes = Grow(ref _codes, device.Float8, whole.N * whole.K).Address;
        var factors = TensorView.Borrow(device, Grow(ref _factors, DType.Float32, scales.ElementCount).Address, DType.Float32, source.ScaleRows, source.ScaleColumns);
        Ops.QuantizeWeight(device.Stream, new()
        {
            X = plain,
            Output = new Weight { Values = TensorView.Borrow(device, codes, device.Float8, whole.N, whole.K), Scales = factors },
        });
        device.Stream.Copy(scales, factors);
        var first = codes + (nint)((source.ScaleRowOffset * whole.K) + source.ScaleColumnOffset);
        var (runs, length) = whole.K == source.K ? (1, source.N * source.K) : (source.N, source.K);
        for (var run = 0; run < runs; run++)
        {
            device.Stream.Copy(Bytes(place + (nint)(run * source.K), length), Bytes(first + (nint)(run * whole.K), length));
        }
    }

    private void WriteBFloat16(MatrixSource source, TensorView destination) => ReadRows(source, (row, rows) =>
    {
        var count = rows * source.K;
        var host = _staging.Take();
        if (source.Values.Type == SafeTensorType.BFloat16)
        {
            source.Read(row, rows, host);
        }
        else
        {
            var sizeInBytes = (int)(count * source.Values.Type.SizeInBytes());
            _stored = _stored.Length < sizeInBytes ? new byte[sizeInBytes] : _stored;
            source.Read(row, rows, _stored);
            var singles = TensorValues.ToSingles(source.Values, _stored.AsSpan(0, sizeInBytes));
            var rounded = MemoryMarshal.Cast<byte, BFloat16>(host);
            for (var i = 0; i < singles.Length; i++)
            {
                rounded[i] = (BFloat16)singles[i];
            }
        }

        _staging.Copy(Bytes(destination.Address + (nint)(2 * row * source.K), 2 * count));
    });

    // As many rows at a time as a staging buffer holds, by sixteens where it holds so many: each then begins where an op can.
    private void ReadRows(MatrixSource source, Action<long, int> take)
    {
        var bytesPerRow = source.K * source.Values.Type.SizeInBytes();
        var most = Math.Max(StagingBuffers.SizeInBytes / Math.Max(bytesPerRow, 1), 1);
        most = most > Alignment ? most / Alignment * Alignment : most;
        for (long row = 0; row < source.N; row += most)
        {
            cancellation.ThrowIfCancellationRequested();
            var rows = (int)Math.Min(most, source.N - row);
            take(row, rows);
            Advance(rows * bytesPerRow);
        }
    }

    // What stays in the mapped file.
    private void LookAt(MatrixSource source)
    {
        var size = source.Values.Type.SizeInBytes();
        for (long offset = 0; offset < source.SizeInBytes; offset += LookedAtBytes)
        {
            cancellation.ThrowIfCancellationRequested();
            var chunk = source.Values.Slice((source.First * size) + offset, (int)Math.Min(LookedAtBytes, source.SizeInBytes - offset));
            TensorValues.CheckWeights(source.Values, source.First + (offset / size), chunk);
            Advance(chunk.Length);
        }
    }

    private void Advance(long bytes)
    {
        cancellation.ThrowIfCancellationRequested();
        _loaded += bytes;
        progress?.Report(new LoadProgress(_loaded, total));
    }

    // One buffer for all matrices; what is enqueued on the smaller one is waited for.
    private Tensor Grow(ref Tensor? buffer, DType type, long elements)
    {
        if (buffer is null || buffer.ElementCount < elements)
        {
            device.Stream.Synchronize();
            buffer?.Dispose();
            buffer = null;
            buffer = Tensor.Create(device, type, elements);
        }

        return buffer;
    }

    private TensorView Bytes(nint address, long count) => TensorView.Borrow(device, address, DType.Byte, count);

    private TensorView Floats(nint address, long offset, long count) => TensorView.Borrow(device, address + (nint)(4 * offset), DType.Float32, count);
}
