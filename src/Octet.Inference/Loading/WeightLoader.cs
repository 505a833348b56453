using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>How far loading has come.</summary>
/// <param name="LoadedBytes">Checkpoint bytes on the device so far.</param>
/// <param name="TotalBytes">Checkpoint bytes in all.</param>
public readonly record struct LoadProgress(long LoadedBytes, long TotalBytes);

/// <summary>
/// Brings tensors of a checkpoint onto a device: FP8 block weights in the device's encoding (OCP codes are repacked to FNUZ where
/// it needs that, exactly), plain BF16, F16 or F32 projections quantised to FP8 blocks, the rest as BF16. Where the device reads host
/// memory and computes in the checkpoint's encoding, weights stay where the files are mapped: nothing but the scales is copied. Every
/// element is looked at once (<see cref="TensorValues"/>), wherever it stays.
/// </summary>
/// <param name="device">Where to.</param>
/// <param name="total">Bytes there are to load, for the progress.</param>
/// <param name="progress">Told of every chunk.</param>
/// <param name="cancellation">Stops between chunks.</param>
internal sealed class WeightLoader(Device device, long total, IProgress<LoadProgress>? progress, CancellationToken cancellation)
{
    private const int ChunkBytes = 64 << 20;

    private long _loaded;

    /// <summary>A norm weight, bias, embedding, router or head, as BF16.</summary>
    /// <exception cref="ModelFormatException">An element is not finite or too large.</exception>
    public Tensor LoadBFloat16(SafeTensor source)
    {
        if (CanMap(source, SafeTensorType.BFloat16))
        {
            ReadChunks(source, 0, source.ElementCount, (_, _) => { });
            return Tensor.BorrowUnaligned(device, source.Address, DType.BFloat16, source.Shape);
        }

        var tensor = Tensor.Create(device, DType.BFloat16, source.Shape);
        return Guarded(tensor, () =>
        {
            UploadBFloat16(source, 0, source.ElementCount, tensor);
            return tensor;
        });
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
        sources.All(source => source.Pitch == 0 && CanMap(source.Values, SafeTensorType.Float8E4M3));

    /// <summary>Reports that everything is loaded.</summary>
    public void Complete() => Advance(total - _loaded);

    // What the device reads must be what the file holds, where it holds it.
    private bool CanMap(SafeTensor source, SafeTensorType type) =>
        device.Properties.SharesHostMemory && device.Float8 == DType.Float8E4M3 && source.Type == type && source.SizeInBytes > 0
        && source.Address % type.SizeInBytes() == 0;

    // Stacks of matrices, each of them parts under each other.
    private Weight Load(MatrixSource[][] matrices, long[] leading)
    {
        var (n, k, first) = (matrices[0].Sum(part => part.N), matrices[0][0].K, matrices[0][0]);
        var scaleRows = MatrixSource.Blocks(first.ScaleRowOffset + n);
        var values = Tensor.Create(device, device.Float8, [.. leading, n, k]);
        return Guarded(values, () =>
        {
            var scales = Tensor.Create(device, DType.Float32, [.. leading, scaleRows, first.ScaleColumns]);
            return Guarded(scales, () =>
            {
                for (var i = 0; i < matrices.Length; i++)
                {
                    var row = i * n;
                    var scaleRow = i * scaleRows;
                    foreach (var part in matrices[i])
                    {
                        LoadMatrix(
                            part, Bytes(values, row * k, part.N * k),
                            Floats(scales, scaleRow * part.ScaleColumns, part.ScaleRows * part.ScaleColumns));
                        row += part.N;
                        scaleRow += part.ScaleRows;
                    }
                }

                return new Weight { Values = values, Scales = scales, ScaleRowOffset = first.ScaleRowOffset };
            });
        });
    }

    // Matrices [n, k] where they lie in the files; their scales in one stack.
    private Weight Map(MatrixSource[] sources, long[] leading)
    {
        var first = sources[0];
        var count = first.ScaleRows * first.ScaleColumns;
        var scales = Tensor.Create(device, DType.Float32, [.. leading, first.ScaleRows, first.ScaleColumns]);
        return Guarded(scales, () =>
        {
            var addresses = new long[sources.Length];
            for (var i = 0; i < sources.Length; i++)
            {
                ReadChunks(sources[i].Values, sources[i].First, sources[i].N * sources[i].K, (_, _) => { });
                addresses[i] = sources[i].Values.Address + (nint)sources[i].First;
                WriteScales(sources[i], Floats(scales, i * count, count));
            }

            return new Weight
            {
                Values = Tensor.Borrow(device, (nint)addresses[0], DType.Float8E4M3, [.. leading, first.N, first.K]),
                Scales = scales,
                ScaleRowOffset = first.ScaleRowOffset,
                ExpertAddresses = Tensor.From<long>(device, addresses, addresses.Length),
            };
        });
    }

    // One [n, k] projection into its place: raw bytes and their block scales.
    private void LoadMatrix(MatrixSource source, Tensor values, Tensor scales)
    {
        var count = source.N * source.K;
        if (source.Values.Type != SafeTensorType.Float8E4M3)
        {
            Quantize(source, values, scales);
            return;
        }

        if (source.Pitch > 0)
        {
            device.Stream.Write<byte>(values, ReadTransposed<byte>(source));
        }
        else
        {
            ReadChunks(source.Values, source.First, count, (offset, chunk) => device.Stream.Write(Bytes(values, offset, chunk.Length), chunk));
        }

        WriteScales(source, scales);
        if (device.Float8 == DType.Float8E4M3Fnuz && count > 0)
        {
            // Slices of a stack may begin anywhere, ops want 16 bytes: repack in a buffer of its own.
            using var codes = Tensor.Create(device, DType.Float8E4M3, count);
            using var factors = Tensor.Create(device, DType.Float32, scales.ElementCount);
            var fnuz = Tensor.Borrow(device, codes.Address, DType.Float8E4M3Fnuz, count);
            device.Stream.Copy(Bytes(codes, 0, count), values);
            device.Stream.Copy(factors, scales);
            Ops.Repack(device.Stream, new() { Values = codes, Scales = factors, OutputValues = fnuz, OutputScales = factors });
            device.Stream.Copy(values, Bytes(codes, 0, count));
            device.Stream.Copy(scales, factors);
            device.Stream.Synchronize();
        }
    }

    private void WriteScales(MatrixSource source, Tensor scales)
    {
        var singles = source.ReadScales();
        device.Stream.Write<float>(scales, singles);
        Advance((long)source.Scales!.Type.SizeInBytes() * singles.Length);
    }

    private void Quantize(MatrixSource source, Tensor values, Tensor scales)
    {
        var (n, k) = (source.N, source.K);
        using var plain = Tensor.Create(device, DType.BFloat16, n, k);
        if (source.Pitch == 0)
        {
            UploadBFloat16(source.Values, source.First, n * k, plain);
        }
        else if (source.Values.Type == SafeTensorType.Float32)
        {
            device.Stream.Write<BFloat16>(plain, Array.ConvertAll(ReadTransposed<float>(source), x => (BFloat16)x));
        }
        else if (source.Values.Type == SafeTensorType.Float16)
        {
            device.Stream.Write<BFloat16>(plain, Array.ConvertAll(ReadTransposed<Half>(source), x => (BFloat16)(float)x));
        }
        else
        {
            device.Stream.Write<BFloat16>(plain, ReadTransposed<BFloat16>(source));
        }

        using var codes = Tensor.Create(device, device.Float8, n, k);
        using var factors = Tensor.Create(device, DType.Float32, source.ScaleRows, source.ScaleColumns);
        Ops.QuantizeWeight(device.Stream, new() { X = plain, Output = new Weight { Values = codes, Scales = factors } });
        device.Stream.Copy(values, Bytes(codes, 0, n * k));
        device.Stream.Copy(scales, Floats(factors, 0, factors.ElementCount));
        device.Stream.Synchronize();
    }

    private void UploadBFloat16(SafeTensor source, long first, long count, Tensor destination) => ReadChunks(source, first, count, (offset, chunk) =>
    {
        var start = offset / source.Type.SizeInBytes();
        if (source.Type == SafeTensorType.BFloat16)
        {
            device.Stream.Write(Bytes(destination, 2 * start, chunk.Length), chunk);
            return;
        }

        var elements = Array.ConvertAll(TensorValues.ToSingles(source, chunk), x => (BFloat16)x);
        device.Stream.Write<byte>(Bytes(destination, 2 * start, 2L * elements.Length), MemoryMarshal.AsBytes<BFloat16>(elements));
    });

    // Some elements of a tensor: each chunk with where in them its first byte lies.
    private void ReadChunks(SafeTensor source, long first, long count, Action<long, ReadOnlySpan<byte>> take)
    {
        var size = source.Type.SizeInBytes();
        for (long offset = 0; offset < count * size; offset += ChunkBytes)
        {
            cancellation.ThrowIfCancellationRequested();
            var chunk = source.Slice((first * size) + offset, (int)Math.Min(ChunkBytes, (count * size) - offset));
            TensorValues.CheckWeights(source, first + (offset / size), chunk);
            take(offset, chunk);
            Advance(chunk.Length);
        }
    }

    // A matrix that lies transposed, row by row.
    private T[] ReadTransposed<T>(MatrixSource source) where T : unmanaged
    {
        cancellation.ThrowIfCancellationRequested();
        var size = source.Values.Type.SizeInBytes();
        var extent = ((source.K - 1) * source.Pitch) + source.N;
        var bytes = source.Values.Slice(source.First * size, checked((int)(extent * size)));
        TensorValues.CheckWeights(source.Values, source.First, bytes);
        var lying = MemoryMarshal.Cast<byte, T>(bytes);
        var (n, k, pitch) = ((int)source.N, (int)source.K, (int)source.Pitch);
        var rows = new T[checked(n * k)];

        // By squares, so that a cache line is used up while it is there.
        for (var top = 0; top < n; top += Float8.Block)
        {
            for (var left = 0; left < k; left += Float8.Block)
            {
                for (var i = top; i < Math.Min(top + Float8.Block, n); i++)
                {
                    for (var j = left; j < Math.Min(left + Float8.Block, k); j++)
                    {
                        rows[(i * k) + j] = lying[(j * pitch) + i];
                    }
                }
            }
        }

        Advance((long)rows.Length * size);
        return rows;
    }

    private void Advance(long bytes)
    {
        cancellation.ThrowIfCancellationRequested();
        _loaded += bytes;
        progress?.Report(new LoadProgress(_loaded, total));
    }

    private Tensor Bytes(Tensor tensor, long offset, long count) =>
        Tensor.Borrow(device, tensor.Address + (nint)offset, DType.Byte, count);

    private Tensor Floats(Tensor tensor, long offset, long count) =>
        Tensor.Borrow(device, tensor.Address + (nint)(4 * offset), DType.Float32, count);

    // Nothing is leaked when a later step refuses the checkpoint.
    private static T Guarded<T>(Tensor tensor, Func<T> body)
    {
        try
        {
            return body();
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }
}
