using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>How far loading has come.</summary>
/// <param name="LoadedBytes">Checkpoint bytes on the devices so far.</param>
/// <param name="TotalBytes">Checkpoint bytes in all: those this process needs.</param>
public readonly record struct LoadProgress(long LoadedBytes, long TotalBytes);

/// <summary>What loading came to.</summary>
/// <param name="BytesRead">Bytes read from the files for weights.</param>
/// <param name="BytesKept">Bytes of the weights, in the device's memory or in mapped files.</param>
/// <param name="BytesMapped">Those of them that stay in mapped files.</param>
internal readonly record struct LoadedBytes(long BytesRead, long BytesKept, long BytesMapped);

/// <summary>
/// Brings tensors of a checkpoint, or ranges of them, onto a device: FP8 block weights in the device's encoding (OCP codes are repacked to
/// FNUZ where it needs that, exactly), plain BF16, F16 or F32 projections quantised to FP8 blocks, the rest as BF16 or f32. Where the device
/// reads host memory and computes in the checkpoint's encoding, weights stay where the files are mapped: nothing but the scales is copied.
/// Every element is looked at once (<see cref="TensorValues"/>), wherever it stays.
/// </summary>
/// <remarks>
/// First every weight is asked for and its memory allocated, in whichever order the model has them; <see cref="Complete"/> then reads all of
/// it, in the order of the files (<see cref="LoadRun"/>). Scales come first, so that codes can be checked against them as they pass.
/// </remarks>
/// <param name="device">Where to.</param>
/// <param name="weights">Every tensor is allocated there: whoever made it frees them.</param>
/// <param name="options">How.</param>
internal sealed class WeightLoader(Device device, TensorSet weights, LoadOptions options)
{
    // Ops want tensors to begin at a multiple of it.
    private const int Alignment = 16;

    // Of the parts of scratch memory.
    private const int ScratchAlignment = 256;

    private readonly List<LoadPiece> _scales = [];
    private readonly List<LoadPiece> _elements = [];
    private readonly HashSet<CheckpointFile> _files = [];
    private long _mappedBytes;

    /// <summary>Some rows of a norm weight, bias, embedding, router or head, as BF16; some elements of a vector.</summary>
    /// <param name="source">The tensor.</param>
    /// <param name="first">The first row.</param>
    /// <param name="count">Rows.</param>
    public TensorView LoadBFloat16(SafeTensor source, long first, long count)
    {
        var rows = RowsOf(source).Rows(first, count);
        long[] shape = [count, .. source.Shape[1..]];
        if (CanMap(source, SafeTensorType.BFloat16))
        {
            AddMapped(new(rows));
            return TensorView.BorrowUnaligned(device, AddressOf(rows), DType.BFloat16, shape);
        }

        var tensor = weights.Create(DType.BFloat16, shape);
        AddBFloat16(rows, tensor.Address);
        return tensor;
    }

    /// <summary>All of such a tensor.</summary>
    public TensorView LoadBFloat16(SafeTensor source) => LoadBFloat16(source, 0, source.Shape[0]);

    /// <summary>Ranges of vectors, one after the other in one.</summary>
    public TensorView LoadBFloat16(IReadOnlyList<(SafeTensor Source, long First, long Count)> parts)
    {
        if (parts.Count == 1)
        {
            return LoadBFloat16(parts[0].Source, parts[0].First, parts[0].Count);
        }

        var tensor = weights.Create(DType.BFloat16, parts.Sum(part => part.Count));
        var place = tensor.Address;
        foreach (var (source, first, count) in parts)
        {
            AddBFloat16(RowsOf(source).Rows(first, count), place);
            place += (nint)(2 * count);
        }

        return tensor;
    }

    /// <summary>A vector as f32.</summary>
    public TensorView LoadFloat32(SafeTensor source)
    {
        var tensor = weights.Create(DType.Float32, source.Shape);
        var (matrix, place) = (RowsOf(source), tensor.Address);
        var count = source.ElementCount;
        Add(_elements, matrix, 0, checked((int)matrix.N), outputBytes: sizeof(float) * count, scratchBytes: 0, (in WindowBytes bytes, LoadWorker worker) =>
        {
            var stored = new byte[matrix.SizeInBytes];
            matrix.Pack(bytes, (int)matrix.N, stored);
            matrix.CheckElements(0, stored);
            var output = worker.Output(sizeof(float) * count);
            MemoryMarshal.AsBytes(TensorValues.ToSingles(source, stored).AsSpan()).CopyTo(output.Span);
            Copy(worker, place, output);
        });
        return tensor;
    }

    /// <summary>Projections with the same input, one under the other: [sum of rows, k]; but for the last, of multiples of 128 rows.</summary>
    public Weight LoadProjection(params MatrixSource[] parts) => parts.Length == 1 && Maps(parts)
        ? Map(parts, [])
        : Load([parts], []);

    /// <summary>The same projection of every expert: [experts, n, k].</summary>
    public Weight LoadExperts(MatrixSource[] experts) => Maps(experts)
        ? Map(experts, [experts.Length])
        : Load([.. experts.Select(expert => new[] { expert })], [experts.Length]);

    /// <summary>Whether projections are used where they lie in the mapped files. They then cannot be put under each other.</summary>
    public bool Maps(params MatrixSource[] sources) =>
        sources.All(source => source.IsContiguous && CanMap(source.Values, SafeTensorType.Float8E4M3));

    /// <summary>Reads all that was asked for and waits until it is on the device; what loading alone needs is freed, whatever happens.</summary>
    /// <exception cref="ModelFormatException">A file cannot be read, ends early or was changed; or an element or a scale is not one that may be.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public LoadedBytes Complete()
    {
        using var run = new LoadRun(device, [_scales, _elements], options);
        run.Run();
        foreach (var file in _files)
        {
            file.RequireUnchanged();
        }

        return BytesOf(run);
    }

    /// <summary>What loading would come to; nothing is read.</summary>
    public LoadedBytes Measure()
    {
        using var run = new LoadRun(device, [_scales, _elements], options);
        return BytesOf(run);
    }

    private static MatrixSource RowsOf(SafeTensor tensor) => new()
    {
        Values = tensor, N = tensor.Shape[0], K = tensor.ElementCount / Math.Max(tensor.Shape[0], 1),
    };

    private static nint AddressOf(MatrixSource source) => source.Values.Address + (nint)(source.First * source.Values.Type.SizeInBytes());

    private static long Aligned(long bytes) => (bytes + ScratchAlignment - 1) / ScratchAlignment * ScratchAlignment;

    private LoadedBytes BytesOf(LoadRun run) => new(run.BytesToRead, weights.SizeInBytes + _mappedBytes, _mappedBytes);

    // What the device reads must be what the file holds, where it holds it.
    private bool CanMap(SafeTensor source, SafeTensorType type) =>
        options.MayMap && !options.Drops && device.Properties.SharesHostMemory && device.Float8 == DType.Float8E4M3 && source.Type == type && source.SizeInBytes > 0
        && !source.Source.Content.IsRemote && source.FileOffset % type.SizeInBytes() == 0;

    // Stacks of matrices, each of them parts under each other.
    private Weight Load(MatrixSource[][] matrices, long[] leading)
    {
        var (n, k, first) = (matrices[0].Sum(part => part.N), matrices[0][0].K, matrices[0][0]);
        var scaleRows = MatrixSource.Blocks(first.ScaleRowOffset + n);
        var values = weights.Create(device.Float8, [.. leading, n, k]);
        var scales = weights.Create(DType.Float32, [.. leading, scaleRows, first.ScaleColumns]);
        for (var i = 0; i < matrices.Length; i++)
        {
            var (row, scaleRow) = (i * n, i * scaleRows);
            foreach (var part in matrices[i])
            {
                var (place, scalePlace) = (values.Address + (nint)(row * k), scales.Address + (nint)(sizeof(float) * scaleRow * part.ScaleColumns));
                if (part.Values.Type == SafeTensorType.Float8E4M3)
                {
                    var matrix = new ScaledMatrix(part);
                    AddScales(matrix, scalePlace);
                    AddCodes(matrix, place);
                }
                else
                {
                    AddQuantized(part, place, scalePlace);
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
        var place = scales.Address;
        foreach (var source in sources)
        {
            var matrix = new ScaledMatrix(source);
            AddScales(matrix, place);
            AddMapped(matrix);
            place += (nint)(sizeof(float) * source.ScaleRows * source.ScaleColumns);
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

    private void Add(
        List<LoadPiece> pieces, MatrixSource source, long row, int rows, long outputBytes, long scratchBytes, LoadPiece.Taker take)
    {
        _files.Add(source.Values.Source.Content);
        if (rows > 0 && source.K > 0)
        {
            pieces.Add(new()
            {
                Range = source.RangeOf(row, rows),
                SizeInBytes = rows * source.K * source.Values.Type.SizeInBytes(),
                OutputBytes = outputBytes,
                ScratchBytes = scratchBytes,
                Take = take,
            });
        }
    }

    // The scales of a matrix, doubled for FNUZ as its codes are halved.
    private void AddScales(ScaledMatrix matrix, nint place)
    {
        var source = matrix.Source;
        var count = source.ScaleRows * source.ScaleColumns;
        _files.Add(source.Scales!.Source.Content);
        if (count == 0)
        {
            return;
        }

        _scales.Add(new()
        {
            Range = source.ScaleRange,
            SizeInBytes = count * source.Scales.Type.SizeInBytes(),
            OutputBytes = sizeof(float) * count,
            Take = (in WindowBytes bytes, LoadWorker worker) =>
            {
                var output = worker.Output(sizeof(float) * count);
                var scales = MemoryMarshal.Cast<byte, float>(output.Span);
                matrix.ReadScales(bytes, scales);
                if (device.Float8 == DType.Float8E4M3Fnuz)
                {
                    foreach (ref var scale in scales)
                    {
                        scale *= 2;
                    }
                }

                Copy(worker, place, output);
            },
        });
    }

    // FP8 codes into their place.
    private void AddCodes(ScaledMatrix matrix, nint place)
    {
        var source = matrix.Source;
        var isFnuz = device.Float8 == DType.Float8E4M3Fnuz;
        foreach (var (row, rows) in source.Pieces())
        {
            var count = rows * source.K;
            Add(_elements, source, row, rows, source.IsContiguous ? 0 : count, isFnuz ? count : 0, (in WindowBytes bytes, LoadWorker worker) =>
            {
                var codes = Packed(source, rows, bytes, worker);
                matrix.Check(row, codes.Span);
                var address = place + (nint)(row * source.K);
                if (isFnuz)
                {
                    worker.Enqueue(stream => Repack(stream, worker.Scratch, codes, address));
                }
                else
                {
                    Copy(worker, address, codes);
                }
            });
        }
    }

    // Matrices of a stack may begin anywhere: what is not aligned is repacked where it waits.
    private void Repack(DeviceStream stream, nint waiting, PinnedBytes codes, nint address)
    {
        var isAligned = address % Alignment == 0;
        var none = TensorView.Borrow(device, waiting, DType.Float32, 0);
        stream.CopyAsync(Bytes(waiting, codes.Length), codes.Buffer, codes.Position);
        Ops.Repack(stream, new()
        {
            Values = TensorView.Borrow(device, waiting, DType.Float8E4M3, codes.Length),
            Scales = none,
            OutputValues = TensorView.Borrow(device, isAligned ? address : waiting, DType.Float8E4M3Fnuz, codes.Length),
            OutputScales = none,
        });
        if (!isAligned)
        {
            stream.Copy(Bytes(address, codes.Length), Bytes(waiting, codes.Length));
        }
    }

    // Quantises the whole blocks a matrix lies in, and takes the matrix out of them; blocks know nothing of each other, so some rows at a time.
    private void AddQuantized(MatrixSource source, nint place, nint scalePlace)
    {
        var whole = source.WholeBlocks();
        foreach (var (row, rows) in whole.Bands())
        {
            var count = rows * whole.K;
            var (codesAt, factorsAt) = (Aligned(2 * count), Aligned(2 * count) + Aligned(count));
            var factors = MatrixSource.Blocks(rows) * whole.ScaleColumns;
            Add(_elements, whole, row, rows, OutputOf(whole, count), factorsAt + (sizeof(float) * factors), (in WindowBytes bytes, LoadWorker worker) =>
            {
                var plain = BFloat16Of(whole, row, rows, bytes, worker);
                worker.Enqueue(stream =>
                {
                    var elements = TensorView.Borrow(device, worker.Scratch, DType.BFloat16, rows, whole.K);
                    var codes = TensorView.Borrow(device, worker.Scratch + (nint)codesAt, device.Float8, rows, whole.K);
                    var scales = TensorView.Borrow(
                        device, worker.Scratch + (nint)factorsAt, DType.Float32, MatrixSource.Blocks(rows), whole.ScaleColumns);
                    stream.CopyAsync(Bytes(elements.Address, plain.Length), plain.Buffer, plain.Position);
                    Ops.QuantizeWeight(stream, new() { X = elements, Output = new Weight { Values = codes, Scales = scales } });
                    var scaleRow = row / Float8.Block * whole.ScaleColumns;
                    stream.Copy(
                        Bytes(scalePlace + (nint)(sizeof(float) * scaleRow), sizeof(float) * factors), Bytes(scales.Address, sizeof(float) * factors));

                    // The rows of the band that are the matrix's.
                    var (first, end) = (Math.Max(row, source.ScaleRowOffset), Math.Min(row + rows, source.ScaleRowOffset + source.N));
                    var from = codes.Address + (nint)(((first - row) * whole.K) + source.ScaleColumnOffset);
                    var to = place + (nint)((first - source.ScaleRowOffset) * source.K);
                    var (runs, length) = whole.K == source.K ? (1, (end - first) * source.K) : (end - first, source.K);
                    for (var run = 0; run < runs; run++)
                    {
                        stream.Copy(Bytes(to + (nint)(run * source.K), length), Bytes(from + (nint)(run * whole.K), length));
                    }
                });
            });
        }
    }

    private void AddBFloat16(MatrixSource source, nint place)
    {
        foreach (var (row, rows) in source.Pieces())
        {
            var address = place + (nint)(2 * row * source.K);
            Add(_elements, source, row, rows, OutputOf(source, rows * source.K), scratchBytes: 0, (in WindowBytes bytes, LoadWorker worker) =>
                Copy(worker, address, BFloat16Of(source, row, rows, bytes, worker)));
        }
    }

    // What stays in the mapped file.
    private void AddMapped(ScaledMatrix matrix)
    {
        var source = matrix.Source;
        _files.Add(source.Values.Source.Content);
        _mappedBytes += source.SizeInBytes;
        foreach (var (row, rows) in source.Pieces())
        {
            var size = source.K * source.Values.Type.SizeInBytes();
            _elements.Add(new()
            {
                SizeInBytes = rows * size,
                Take = (in WindowBytes _, LoadWorker _) =>
                    matrix.Check(row, source.Values.Slice(((source.First * source.Values.Type.SizeInBytes()) + (row * size)), checked((int)(rows * size)))),
            });
        }
    }

    // Bytes that BFloat16Of makes: none where the elements are taken from the window.
    private static long OutputOf(MatrixSource source, long count) =>
        source.Values.Type == SafeTensorType.BFloat16 && source.IsContiguous ? 0 : 2 * count;

    // Elements as they are stored, in row-major order: in the window, where they lie there so.
    private static PinnedBytes Packed(MatrixSource source, int rows, in WindowBytes bytes, LoadWorker worker)
    {
        var length = rows * source.K * source.Values.Type.SizeInBytes();
        if (source.ColumnStride == 1 && bytes.PackedPosition is { } position)
        {
            return worker.Window(position, length);
        }

        var output = worker.Output(length);
        source.Pack(bytes, rows, output.Span);
        return output;
    }

    private static PinnedBytes BFloat16Of(MatrixSource source, long row, int rows, in WindowBytes bytes, LoadWorker worker)
    {
        if (source.Values.Type == SafeTensorType.BFloat16)
        {
            var packed = Packed(source, rows, bytes, worker);
            source.CheckElements(row, packed.Span);
            return packed;
        }

        var stored = new byte[checked((int)(rows * source.K * source.Values.Type.SizeInBytes()))];
        source.Pack(bytes, rows, stored);
        source.CheckElements(row, stored);
        var singles = TensorValues.ToSingles(source.Values, stored);
        var output = worker.Output(2L * singles.Length);
        var rounded = MemoryMarshal.Cast<byte, BFloat16>(output.Span);
        for (var i = 0; i < singles.Length; i++)
        {
            rounded[i] = (BFloat16)singles[i];
        }

        return output;
    }

    private void Copy(LoadWorker worker, nint address, PinnedBytes bytes) =>
        worker.Enqueue(stream => stream.CopyAsync(Bytes(address, bytes.Length), bytes.Buffer, bytes.Position));

    private TensorView Bytes(nint address, long count) => TensorView.Borrow(device, address, DType.Byte, count);
}
