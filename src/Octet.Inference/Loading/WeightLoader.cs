using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>How far loading has come.</summary>
/// <param name="LoadedBytes">Checkpoint bytes on the device so far.</param>
/// <param name="TotalBytes">Checkpoint bytes in all.</param>
public readonly record struct LoadProgress(long LoadedBytes, long TotalBytes);

/// <summary>
/// Brings tensors of a checkpoint onto a device: FP8 block weights in the device's encoding (OCP codes are repacked to FNUZ where
/// it needs that, exactly), plain BF16, F16 or F32 projections quantised to FP8 blocks, the rest as BF16. Where the device reads host
/// memory and computes in the checkpoint's encoding, weights stay where the files are mapped: nothing but the scales is copied.
/// </summary>
internal sealed class WeightLoader(CheckpointFiles files, Device device, IProgress<LoadProgress>? progress, CancellationToken cancellation)
{
    private const int ChunkBytes = 64 << 20;

    private readonly long _total = files.SizeInBytes;
    private long _loaded;

    /// <summary>A norm weight, bias, embedding or head: BF16 of exactly this shape.</summary>
    public Tensor LoadBFloat16(string name, params long[] shape)
    {
        var source = Expect(name, shape);
        if (CanMap(source, SafeTensorType.BFloat16))
        {
            Advance(source.SizeInBytes);
            return Tensor.BorrowUnaligned(device, source.Address, DType.BFloat16, shape);
        }

        var tensor = Tensor.Create(device, DType.BFloat16, shape);
        return Guarded(tensor, () => UploadBFloat16(source, tensor));
    }

    /// <summary>Projections with the same input, one under the other: [sum of rows, k].</summary>
    /// <param name="k">Input features.</param>
    /// <param name="parts">Name of the projection (without ".weight") and its output features; but for the last, multiples of 128.</param>
    public Weight LoadProjection(long k, params (string Name, long N)[] parts) =>
        Load(k, parts.Sum(p => p.N), [[.. parts]], stack: false);

    /// <summary>The same projection of every expert: [experts, n, k].</summary>
    /// <param name="n">Output features.</param>
    /// <param name="k">Input features.</param>
    /// <param name="names">Name of each expert's projection, without ".weight".</param>
    public Weight LoadExperts(long n, long k, IEnumerable<string> names) =>
        Load(k, n, [.. names.Select(name => new[] { (name, n) })], stack: true);

    /// <summary>Whether projections are used where they lie in the mapped files. They then cannot be put under each other.</summary>
    /// <param name="names">Without ".weight".</param>
    public bool Maps(params IEnumerable<string> names) => names.All(name => CanMap(files[$"{name}.weight"], SafeTensorType.Float8E4M3));

    // What the device reads must be what the file holds, where it holds it.
    private bool CanMap(SafeTensor source, SafeTensorType type) =>
        device.Properties.SharesHostMemory && device.Float8 == DType.Float8E4M3 && source.Type == type && source.SizeInBytes > 0
        && source.Address % type.SizeInBytes() == 0;

    private static long Blocks(long elements) => (elements + Float8.Block - 1) / Float8.Block;

    private Weight Load(long k, long n, (string Name, long N)[][] matrices, bool stack)
    {
        long[] leading = stack ? [matrices.Length] : [];
        if (matrices.All(parts => parts.Length == 1 && Maps(parts[0].Name)))
        {
            return Map(k, n, [.. matrices.Select(parts => parts[0].Name)], leading);
        }

        var values = Tensor.Create(device, device.Float8, [.. leading, n, k]);
        return Guarded(values, () =>
        {
            var scales = Tensor.Create(device, DType.Float32, [.. leading, Blocks(n), Blocks(k)]);
            return Guarded(scales, () =>
            {
                for (var i = 0; i < matrices.Length; i++)
                {
                    var row = i * n;
                    var scaleRow = i * Blocks(n);
                    foreach (var (name, rows) in matrices[i])
                    {
                        LoadMatrix(name, rows, k, Bytes(values, row * k, rows * k), Floats(scales, scaleRow * Blocks(k), Blocks(rows) * Blocks(k)));
                        row += rows;
                        scaleRow += Blocks(rows);
                    }
                }

                return new Weight { Values = values, Scales = scales };
            });
        });
    }

    // Matrices [n, k] where they lie in the files; their scales in one stack.
    private Weight Map(long k, long n, string[] names, long[] leading)
    {
        var scales = Tensor.Create(device, DType.Float32, [.. leading, Blocks(n), Blocks(k)]);
        return Guarded(scales, () =>
        {
            var addresses = new long[names.Length];
            for (var i = 0; i < names.Length; i++)
            {
                var source = Expect($"{names[i]}.weight", [n, k]);
                ReadChunks(source, checkFloat8: true, (_, _) => { });
                addresses[i] = source.Address;
                WriteScales(names[i], n, k, Floats(scales, i * Blocks(n) * Blocks(k), Blocks(n) * Blocks(k)));
            }

            return new Weight
            {
                Values = Tensor.Borrow(device, (nint)addresses[0], DType.Float8E4M3, [.. leading, n, k]),
                Scales = scales,
                ExpertAddresses = Tensor.From<long>(device, addresses, addresses.Length),
            };
        });
    }

    // One [n, k] projection into its place: raw bytes and their block scales.
    private void LoadMatrix(string name, long n, long k, Tensor values, Tensor scales)
    {
        var source = Expect($"{name}.weight", [n, k]);
        if (source.Type != SafeTensorType.Float8E4M3)
        {
            Quantize(source, n, k, values, scales);
            return;
        }

        Upload(source, values, checkFloat8: true);
        WriteScales(name, n, k, scales);
        if (device.Float8 == DType.Float8E4M3Fnuz && n * k > 0)
        {
            // Slices of a stack may begin anywhere, ops want 16 bytes: repack in a buffer of its own.
            using var codes = Tensor.Create(device, DType.Float8E4M3, n * k);
            using var factors = Tensor.Create(device, DType.Float32, scales.ElementCount);
            var fnuz = Tensor.Borrow(device, codes.Address, DType.Float8E4M3Fnuz, n * k);
            device.Stream.Copy(Bytes(codes, 0, n * k), values);
            device.Stream.Copy(factors, scales);
            Ops.Repack(device.Stream, new() { Values = codes, Scales = factors, OutputValues = fnuz, OutputScales = factors });
            device.Stream.Copy(values, Bytes(codes, 0, n * k));
            device.Stream.Copy(scales, factors);
            device.Stream.Synchronize();
        }
    }

    private void WriteScales(string name, long n, long k, Tensor scales)
    {
        var source = Expect($"{name}.weight_scale_inv", [Blocks(n), Blocks(k)]);
        var singles = ToSingles(source);
        if (Array.FindIndex(singles, scale => !float.IsFinite(scale)) is var bad and >= 0)
        {
            throw new ModelFormatException($"{source.File}: tensor '{source.Name}' holds {singles[bad]} at position {bad}; a scale must be finite");
        }

        device.Stream.Write<float>(scales, singles);
        Advance(4L * singles.Length);
    }

    private void Quantize(SafeTensor source, long n, long k, Tensor values, Tensor scales)
    {
        using var plain = Tensor.Create(device, DType.BFloat16, n, k);
        UploadBFloat16(source, plain);
        using var codes = Tensor.Create(device, device.Float8, n, k);
        using var factors = Tensor.Create(device, DType.Float32, Blocks(n), Blocks(k));
        Ops.QuantizeWeight(device.Stream, new() { X = plain, Output = new Weight { Values = codes, Scales = factors } });
        device.Stream.Copy(values, Bytes(codes, 0, n * k));
        device.Stream.Copy(scales, Floats(factors, 0, factors.ElementCount));
        device.Stream.Synchronize();
    }

    private SafeTensor Expect(string name, ReadOnlySpan<long> shape)
    {
        var tensor = files[name];
        return tensor.Shape.SequenceEqual(shape)
            ? tensor
            : throw new ModelFormatException(
                $"{tensor.File}: tensor {tensor} must have the shape [{string.Join(", ", shape.ToArray())}] by config.json");
    }

    private void UploadBFloat16(SafeTensor source, Tensor destination)
    {
        if (source.Type == SafeTensorType.BFloat16)
        {
            Upload(source, Bytes(destination, 0, destination.SizeInBytes), checkFloat8: false);
            return;
        }

        device.Stream.Write<BFloat16>(destination, Array.ConvertAll(ToSingles(source), x => (BFloat16)x));
        Advance(source.SizeInBytes);
    }

    private static float[] ToSingles(SafeTensor source) => source.Type switch
    {
        SafeTensorType.Float32 => MemoryMarshal.Cast<byte, float>(source.Bytes).ToArray(),
        SafeTensorType.BFloat16 => Array.ConvertAll(MemoryMarshal.Cast<byte, BFloat16>(source.Bytes).ToArray(), x => (float)x),
        SafeTensorType.Float16 => Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(source.Bytes).ToArray(), x => (float)x),
        _ => throw new ModelFormatException($"{source.File}: tensor {source} must be F32, BF16 or F16"),
    };

    private void Upload(SafeTensor source, Tensor destination, bool checkFloat8) =>
        ReadChunks(source, checkFloat8, (offset, chunk) => device.Stream.Write(Bytes(destination, offset, chunk.Length), chunk));

    private void ReadChunks(SafeTensor source, bool checkFloat8, Action<long, ReadOnlySpan<byte>> take)
    {
        for (long offset = 0; offset < source.SizeInBytes; offset += ChunkBytes)
        {
            cancellation.ThrowIfCancellationRequested();
            var chunk = source.Slice(offset, (int)Math.Min(ChunkBytes, source.SizeInBytes - offset));
            if (checkFloat8 && chunk.IndexOfAny((byte)0x7F, (byte)0xFF) is var position and >= 0)
            {
                throw new ModelFormatException(
                    $"{source.File}: tensor '{source.Name}' holds the FP8 NaN 0x{chunk[position]:x2} at position {offset + position}; the checkpoint is damaged");
            }

            take(offset, chunk);
            Advance(chunk.Length);
        }
    }

    private void Advance(long bytes)
    {
        cancellation.ThrowIfCancellationRequested();
        _loaded += bytes;
        progress?.Report(new LoadProgress(_loaded, _total));
    }

    private Tensor Bytes(Tensor tensor, long offset, long count) =>
        Tensor.Borrow(device, tensor.Address + (nint)offset, DType.Byte, count);

    private Tensor Floats(Tensor tensor, long offset, long count) =>
        Tensor.Borrow(device, tensor.Address + (nint)(4 * offset), DType.Float32, count);

    private static Tensor Guarded(Tensor tensor, Action fill) => Guarded(tensor, () =>
    {
        fill();
        return tensor;
    });

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
