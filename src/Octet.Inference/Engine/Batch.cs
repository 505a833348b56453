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
    private readonly UploadBuffer _arrays;
    private readonly UploadArray<int> _ids;
    private readonly UploadArray<int> _positions;
    private readonly UploadArray<long> _slots;
    private readonly UploadArray<int> _queryStarts;
    private readonly UploadArray<int> _contextLengths;
    private readonly List<Sequence> _sequences = [];

    // The block table stays on the device from step to step: only rows that change hands are written.
    private readonly int[] _blockTable;
    private readonly Tensor _deviceBlockTable;
    private readonly Sequence?[] _rowOwners;
    private Tensor _blockTableView;
    private (int First, int End) _changedRows;

    public Batch(Device device, int maxTokens, int maxSequences, int maxContext, int blockSize)
    {
        _device = device;
        _blockSize = blockSize;
        _tableWidth = (maxContext + blockSize - 1) / blockSize;
        _blockTable = new int[(long)maxSequences * _tableWidth];
        _rowOwners = new Sequence?[maxSequences];
        _arrays = new UploadBuffer(
            device, 4L * maxTokens, 4L * maxTokens, 8L * maxTokens, 4L * (maxSequences + 1), 4L * maxSequences);
        try
        {
            _ids = _arrays.Add<int>(maxTokens);
            _positions = _arrays.Add<int>(maxTokens);
            _slots = _arrays.Add<long>(maxTokens);
            _queryStarts = _arrays.Add<int>(maxSequences + 1);
            _contextLengths = _arrays.Add<int>(maxSequences);
            _deviceBlockTable = _blockTableView = Tensor.Create(device, DType.Int32, maxSequences, _tableWidth);
        }
        catch
        {
            _arrays.Dispose();
            throw;
        }
    }

    /// <summary>Tokens in the batch.</summary>
    public int Tokens { get; private set; }

    /// <summary>Sequences in the batch.</summary>
    public int Count => _sequences.Count;

    /// <summary>The longest context, the new tokens included.</summary>
    public int MaxContext { get; private set; }

    /// <summary>The most new tokens of one sequence.</summary>
    public int MaxQueries { get; private set; }

    /// <summary>[tokens] i32.</summary>
    public Tensor Ids => _ids.First(Tokens);

    /// <summary>[tokens] i32.</summary>
    public Tensor Positions => _positions.First(Tokens);

    /// <summary>[tokens] i64.</summary>
    public Tensor Slots => _slots.First(Tokens);

    /// <summary>[sequences + 1] i32.</summary>
    public Tensor QueryStarts => _queryStarts.First(Count + 1);

    /// <summary>[sequences] i32.</summary>
    public Tensor ContextLengths => _contextLengths.First(Count);

    /// <summary>[sequences, blocks] i32.</summary>
    public Tensor BlockTable => _blockTableView = _blockTableView.Shape[0] == Count ? _blockTableView : _deviceBlockTable.Slice(0, 0, Count);

    /// <summary>Empties the batch.</summary>
    public void Clear()
    {
        _sequences.Clear();
        (Tokens, MaxContext, MaxQueries) = (0, 0, 0);
    }

    /// <summary>The row of the last token of sequence number <paramref name="index"/>.</summary>
    public int LastRow(int index) => _queryStarts.Host[index + 1] - 1;

    /// <summary>Adds the next <paramref name="count"/> tokens of a sequence that are not cached.</summary>
    public void Add(Sequence sequence, int count)
    {
        Append(sequence, count);
        MaxContext = Math.Max(MaxContext, sequence.Cached + count);
        MaxQueries = Math.Max(MaxQueries, count);
    }

    /// <summary>
    /// Pads a batch of one token each to <paramref name="rows"/> sequences, for a recorded step that was made for so many. The
    /// padding repeats the sequence of the shortest context, so that it reads no expert and no cache block of its own, and its
    /// K and V go nowhere.
    /// </summary>
    public void Pad(int rows, int maxContext)
    {
        var shortest = _sequences[0];
        foreach (var sequence in _sequences)
        {
            shortest = sequence.Cached < shortest.Cached ? sequence : shortest;
        }

        while (Count < rows)
        {
            Append(shortest, 1);
            _slots.Host[Tokens - 1] = -1;
        }

        MaxContext = maxContext;
    }

    /// <summary>Enqueues the copies to the device.</summary>
    public void Upload()
    {
        _arrays.Upload();
        var (first, end) = _changedRows;
        if (first < end)
        {
            _device.Stream.Write<int>(
                _deviceBlockTable.Slice(0, first, end - first), _blockTable.AsSpan(first * _tableWidth, (end - first) * _tableWidth));
            _changedRows = default;
        }
    }

    /// <summary>Waits until the device is done with the batch.</summary>
    public void Synchronize() => _device.Stream.Synchronize();

    /// <summary>Marks the batch's tokens as cached.</summary>
    public void Commit()
    {
        // Padding repeats a sequence with the same length.
        var lengths = _contextLengths.Host;
        for (var i = 0; i < _sequences.Count; i++)
        {
            _sequences[i].Cached = lengths[i];
        }
    }

    public void Dispose()
    {
        _arrays.Dispose();
        _deviceBlockTable.Dispose();
    }

    private void Append(Sequence sequence, int count)
    {
        var index = _sequences.Count;
        _sequences.Add(sequence);
        var ids = _ids.Host;
        var positions = _positions.Host;
        var slots = _slots.Host;
        for (var i = 0; i < count; i++)
        {
            var position = sequence.Cached + i;
            ids[Tokens + i] = sequence.Tokens[position];
            positions[Tokens + i] = position;
            slots[Tokens + i] = (long)sequence.Blocks[position / _blockSize] * _blockSize + position % _blockSize;
        }

        Tokens += count;
        _queryStarts.Host[index + 1] = Tokens;
        _contextLengths.Host[index] = sequence.Cached + count;
        if (_rowOwners[index] != sequence)
        {
            _rowOwners[index] = sequence;
            sequence.Blocks.CopyTo(_blockTable.AsSpan(index * _tableWidth, _tableWidth));
            var (first, end) = _changedRows;
            _changedRows = first < end ? (Math.Min(first, index), Math.Max(end, index + 1)) : (index, index + 1);
        }
    }
}
