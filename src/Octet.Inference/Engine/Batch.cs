namespace Octet.Inference.Engine;

/// <summary>
/// What one step of the model works on, flattened: the next tokens of some sequences, where they stand, and where their K and V
/// go. The host arrays are filled by <see cref="Add"/> and brought to the device by <see cref="Upload"/>.
/// </summary>
internal sealed class Batch : IDisposable
{
    private readonly Device _device;
    private readonly int _blockSize;
    private readonly int _tableWidth;
    private readonly int[] _ids;
    private readonly int[] _positions;
    private readonly long[] _slots;
    private readonly int[] _queryStarts;
    private readonly int[] _contextLengths;
    private readonly int[] _blockTable;
    private readonly List<Sequence> _sequences = [];
    private readonly Tensor _deviceIds;
    private readonly Tensor _devicePositions;
    private readonly Tensor _deviceSlots;
    private readonly Tensor _deviceQueryStarts;
    private readonly Tensor _deviceContextLengths;
    private readonly Tensor _deviceBlockTable;

    public Batch(Device device, int maxTokens, int maxSequences, int maxContext, int blockSize)
    {
        _device = device;
        _blockSize = blockSize;
        _tableWidth = (maxContext + blockSize - 1) / blockSize;
        (_ids, _positions, _slots) = (new int[maxTokens], new int[maxTokens], new long[maxTokens]);
        (_queryStarts, _contextLengths) = (new int[maxSequences + 1], new int[maxSequences]);
        _blockTable = new int[maxSequences * _tableWidth];
        _deviceIds = Tensor.Create(device, DType.Int32, maxTokens);
        _devicePositions = Tensor.Create(device, DType.Int32, maxTokens);
        _deviceSlots = Tensor.Create(device, DType.Int64, maxTokens);
        _deviceQueryStarts = Tensor.Create(device, DType.Int32, maxSequences + 1);
        _deviceContextLengths = Tensor.Create(device, DType.Int32, maxSequences);
        _deviceBlockTable = Tensor.Create(device, DType.Int32, maxSequences, _tableWidth);
    }

    /// <summary>Tokens in the batch.</summary>
    public int Tokens { get; private set; }

    /// <summary>Sequences in the batch.</summary>
    public IReadOnlyList<Sequence> Sequences => _sequences;

    /// <summary>The longest context, the new tokens included.</summary>
    public int MaxContext { get; private set; }

    /// <summary>The most new tokens of one sequence.</summary>
    public int MaxQueries { get; private set; }

    /// <summary>[tokens] i32.</summary>
    public Tensor Ids => _deviceIds.Slice(0, 0, Tokens);

    /// <summary>[tokens] i32.</summary>
    public Tensor Positions => _devicePositions.Slice(0, 0, Tokens);

    /// <summary>[tokens] i64.</summary>
    public Tensor Slots => _deviceSlots.Slice(0, 0, Tokens);

    /// <summary>[sequences + 1] i32.</summary>
    public Tensor QueryStarts => _deviceQueryStarts.Slice(0, 0, _sequences.Count + 1);

    /// <summary>[sequences] i32.</summary>
    public Tensor ContextLengths => _deviceContextLengths.Slice(0, 0, _sequences.Count);

    /// <summary>[sequences, blocks] i32.</summary>
    public Tensor BlockTable => _deviceBlockTable.Slice(0, 0, _sequences.Count);

    /// <summary>Empties the batch.</summary>
    public void Clear()
    {
        _sequences.Clear();
        (Tokens, MaxContext, MaxQueries) = (0, 0, 0);
    }

    /// <summary>The row of the last token of sequence number <paramref name="index"/>.</summary>
    public int LastRow(int index) => _queryStarts[index + 1] - 1;

    /// <summary>Adds the next <paramref name="count"/> tokens of a sequence that are not cached.</summary>
    public void Add(Sequence sequence, int count)
    {
        var index = _sequences.Count;
        _sequences.Add(sequence);
        for (var i = 0; i < count; i++)
        {
            var position = sequence.Cached + i;
            _ids[Tokens + i] = sequence.Tokens[position];
            _positions[Tokens + i] = position;
            _slots[Tokens + i] = (long)sequence.Blocks[position / _blockSize] * _blockSize + position % _blockSize;
        }

        Tokens += count;
        _queryStarts[index + 1] = Tokens;
        _contextLengths[index] = sequence.Cached + count;
        sequence.Blocks.CopyTo(_blockTable.AsSpan(index * _tableWidth, _tableWidth));
        MaxContext = Math.Max(MaxContext, sequence.Cached + count);
        MaxQueries = Math.Max(MaxQueries, count);
    }

    /// <summary>Brings the arrays to the device.</summary>
    public void Upload()
    {
        var stream = _device.Stream;
        stream.Write<int>(Ids, _ids.AsSpan(0, Tokens));
        stream.Write<int>(Positions, _positions.AsSpan(0, Tokens));
        stream.Write<long>(Slots, _slots.AsSpan(0, Tokens));
        stream.Write<int>(QueryStarts, _queryStarts.AsSpan(0, _sequences.Count + 1));
        stream.Write<int>(ContextLengths, _contextLengths.AsSpan(0, _sequences.Count));
        stream.Write<int>(BlockTable, _blockTable.AsSpan(0, _sequences.Count * _tableWidth));
    }

    /// <summary>Waits until the device is done with the batch.</summary>
    public void Synchronize() => _device.Stream.Synchronize();

    /// <summary>Marks the batch's tokens as cached.</summary>
    public void Commit()
    {
        for (var i = 0; i < _sequences.Count; i++)
        {
            _sequences[i].Cached = _contextLengths[i];
        }
    }

    public void Dispose()
    {
        _deviceIds.Dispose();
        _devicePositions.Dispose();
        _deviceSlots.Dispose();
        _deviceQueryStarts.Dispose();
        _deviceContextLengths.Dispose();
        _deviceBlockTable.Dispose();
    }
}
