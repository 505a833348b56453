using System.Runtime.InteropServices;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Engine;

/// <summary>
/// What one step of the model works on, flattened: its tokens, where they stand, where their K and V go, which logits are wanted and how
/// tokens are drawn from them. The host side is filled from a <see cref="StepPlan"/> and brought to the device by one copy.
/// </summary>
/// <remarks>
/// Tokens of continuations come first, <see cref="QueryLength"/> of each, then the chunks of prompts. In a step that has both, continuations
/// are padded to a multiple of four rows, so that what begins behind them is aligned as ops want it. Padding repeats the continuation of the
/// shortest context: it reads no expert and no cache block of its own, and its K and V go nowhere.
/// </remarks>
internal sealed class StepInput : IDisposable
{
    /// <summary>Continuations beside prompts are padded to a multiple of this.</summary>
    public const int RowAlignment = 4;

    private const long Nowhere = -1;

    private readonly Device _device;
    private readonly int _blockSize;
    private readonly UploadBuffer _arrays;
    private readonly UploadArray<int> _ids;
    private readonly UploadArray<int> _positions;
    private readonly UploadArray<long> _slots;
    private readonly UploadArray<int> _contexts;
    private readonly UploadArray<int> _queryStarts;
    private readonly UploadArray<int> _outputs;
    private readonly UploadArray<int> _tables;
    private readonly SamplingInput? _sampling;
    private readonly int _firstId;
    private TensorView _table;

    /// <param name="device">Where the step runs.</param>
    /// <param name="workspace">Told when memory moves that recorded steps point to.</param>
    /// <param name="bounds">The largest step.</param>
    /// <param name="shape">The rank. One that does not draw has no use for how that is done.</param>
    public StepInput(Device device, Workspace workspace, StepBounds bounds, RankShape shape)
    {
        (_device, _blockSize, _firstId) = (device, bounds.BlockSize, shape.Vocabulary.First);
        var (maxTokens, maxRows, maxOutputs, maxContext, _) = bounds;
        var tables = checked(maxRows * TableWidth(maxContext));
        _arrays = new UploadBuffer(
            device,
            [4L * maxTokens, 4L * maxTokens, 8L * maxTokens, 4L * maxRows, 4L * (maxRows + 1), 4L * maxOutputs, .. shape.IsLeader ? SamplingInput.Sizes(maxOutputs) : [], 4L * tables]);
        _ids = _arrays.Add<int>(maxTokens);
        _positions = _arrays.Add<int>(maxTokens);
        _slots = _arrays.Add<long>(maxTokens);
        _contexts = _arrays.Add<int>(maxRows);
        _queryStarts = _arrays.Add<int>(maxRows + 1);
        _outputs = _arrays.Add<int>(maxOutputs);
        try
        {
            _sampling = shape.IsLeader ? new SamplingInput(device, workspace, _arrays, maxOutputs, shape.Config.VocabularySize) : null;
        }
        catch
        {
            _arrays.Dispose();
            throw;
        }

        // Last, so that only the rows in use are copied.
        _tables = _arrays.Add<int>(tables);
    }

    /// <summary>Tokens in all.</summary>
    public int Tokens { get; private set; }

    /// <summary>Continuations, padding included.</summary>
    public int DecodeRows { get; private set; }

    /// <summary>Tokens of each continuation.</summary>
    public int QueryLength { get; private set; }

    /// <summary>Tokens of the continuations: the first ones.</summary>
    public int DecodeTokens => DecodeRows * QueryLength;

    /// <summary>Chunks of prompts.</summary>
    public int PrefillRows { get; private set; }

    /// <summary>The most tokens of one chunk.</summary>
    public int MaxQueries { get; private set; }

    /// <summary>A bound of the contexts of continuations, and of the contexts of prompts; new tokens included.</summary>
    public (int Decode, int Prefill) MaxContext { get; private set; }

    /// <summary>Rows of logits: of all tokens of continuations in order, then of the last token of prompts.</summary>
    public int Outputs { get; private set; }

    /// <summary>Whether a row of logits asks for log probabilities.</summary>
    public bool HasLogprobs => _sampling is { HasLogprobs: true };

    /// <summary>[tokens] i32: rows of the rank's part of the vocabulary; what lies outside is another rank's.</summary>
    public TensorView Ids => _ids.First(Tokens);

    /// <summary>[tokens] i32.</summary>
    public TensorView Positions => _positions.First(Tokens);

    /// <summary>[tokens] i64.</summary>
    public TensorView Slots => _slots.First(Tokens);

    /// <summary>[decode rows] i32.</summary>
    public TensorView DecodeContexts => _contexts.First(DecodeRows);

    /// <summary>[decode rows, blocks] i32.</summary>
    public TensorView DecodeTable => _table.Slice(0, 0, DecodeRows);

    /// <summary>[prefill rows] i32.</summary>
    public TensorView PrefillContexts => _contexts.All.Slice(0, DecodeRows, PrefillRows);

    /// <summary>[prefill rows, blocks] i32.</summary>
    public TensorView PrefillTable => _table.Slice(0, DecodeRows, PrefillRows);

    /// <summary>[prefill rows + 1] i32, from the first token of prompts on.</summary>
    public TensorView QueryStarts => _queryStarts.First(PrefillRows + 1);

    /// <summary>[outputs] i32: the token of each row of logits.</summary>
    public TensorView OutputTokens => _outputs.First(Outputs);

    /// <summary>The settings of the draw of each row of logits, on the rank that draws.</summary>
    public SamplingArgs Sampling(TensorView logits, SamplingOutput output) => _sampling!.Args(logits, output);

    /// <summary>Fills the host side.</summary>
    /// <param name="plan">The step.</param>
    /// <param name="decodeRows">Rows the continuations are padded to, for a recorded step that was made for so many; else their number.</param>
    /// <param name="contextBound">At least the longest context of continuations.</param>
    public void Fill(StepPlan plan, int decodeRows, int contextBound)
    {
        var mixed = plan.DecodeRows > 0 && plan.DecodeRows < plan.Rows.Count;
        DecodeRows = mixed ? (decodeRows + RowAlignment - 1) / RowAlignment * RowAlignment : decodeRows;
        PrefillRows = plan.Rows.Count - plan.DecodeRows;
        (Tokens, Outputs, QueryLength, MaxQueries) = (0, 0, 1, 0);
        _sampling?.Clear();
        var rows = CollectionsMarshal.AsSpan(plan.Rows);
        var longest = 0;
        for (var i = 0; i < rows.Length; i++)
        {
            ref readonly var row = ref rows[i];
            longest = Math.Max(longest, row.Start + row.Count);
            if (i < plan.DecodeRows)
            {
                QueryLength = Math.Max(QueryLength, row.Count);
            }
            else
            {
                MaxQueries = Math.Max(MaxQueries, row.Count);
            }
        }

        MaxContext = (contextBound, longest);
        var width = TableWidth(Math.Max(contextBound, longest));
        _table = _tables.First((DecodeRows + PrefillRows) * width).View(DecodeRows + PrefillRows, width);
        FillDecode(rows[..plan.DecodeRows], width);
        FillPrefill(rows[plan.DecodeRows..], width);
    }

    /// <summary>Enqueues the copy to the device.</summary>
    public void Upload()
    {
        _arrays.Upload(_tables, _table.ElementCount);
        _sampling?.Upload();
    }

    /// <summary>The first row of logits of a row of the plan that was filled in.</summary>
    public int OutputOf(StepPlan plan, int row)
    {
        if (row < plan.DecodeRows)
        {
            return (row + 1) * QueryLength - plan.Rows[row].Count;
        }

        var output = DecodeTokens;
        for (var i = plan.DecodeRows; i < row; i++)
        {
            output += OutputsOf(plan.Rows[i]);
        }

        return output;
    }

    /// <summary>The first token of a row of the plan that was filled in.</summary>
    public int TokenOf(StepPlan plan, int row) => row < plan.DecodeRows
        ? OutputOf(plan, row)
        : DecodeTokens + _queryStarts.Host[row - plan.DecodeRows];

    public void Dispose()
    {
        _sampling?.Dispose();
        _arrays.Dispose();
    }

    // A prompt at its end: a row for each text that begins with it, or the one its owner wants to see.
    private static int OutputsOf(in ScheduledRow row) =>
        row.Draws > 0 ? row.Draws : row.Sequence.IsStepped && row.Start + row.Count == row.Sequence.Tokens.Count ? 1 : 0;

    // A multiple of four, as ops want what begins at a row aligned.
    private int TableWidth(int context) => (context + RowAlignment * _blockSize - 1) / (RowAlignment * _blockSize) * RowAlignment;

    private void FillDecode(ReadOnlySpan<ScheduledRow> rows, int width)
    {
        var shortest = 0;
        for (var i = 0; i < rows.Length; i++)
        {
            shortest = rows[i].Start < rows[shortest].Start ? i : shortest;
            DecodeRow(rows[i], i, width, keeps: true);
        }

        for (var i = rows.Length; i < DecodeRows; i++)
        {
            DecodeRow(rows[shortest], i, width, keeps: false);
        }
    }

    private void DecodeRow(in ScheduledRow row, int index, int width, bool keeps)
    {
        var sequence = row.Sequence;
        var end = row.Start + row.Count;
        for (var position = end - QueryLength; position < end; position++)
        {
            // Of a continuation with fewer new tokens than others, the ones before are computed once more, to no effect.
            var isNew = keeps && position >= row.Start;
            AddToken(sequence, position, isNew ? Slot(sequence, position) : Nowhere);
            AddOutput(Tokens - 1, isNew && row.Draws > 0 ? sequence : null, position + 1);
        }

        _contexts.Host[index] = end;
        FillTable(sequence, index, width);
    }

    private void FillPrefill(ReadOnlySpan<ScheduledRow> rows, int width)
    {
        for (var i = 0; i < rows.Length; i++)
        {
            ref readonly var row = ref rows[i];
            var sequence = row.Sequence;
            for (var position = row.Start; position < row.Start + row.Count; position++)
            {
                AddToken(sequence, position, Slot(sequence, position));
            }

            _queryStarts.Host[i + 1] = Tokens - DecodeTokens;
            _contexts.Host[DecodeRows + i] = row.Start + row.Count;
            FillTable(sequence, DecodeRows + i, width);
            for (var output = 0; output < OutputsOf(row); output++)
            {
                AddOutput(Tokens - 1, row.Draws == 0 ? null : output == 0 ? sequence : sequence.Siblings[output - 1], row.Start + row.Count);
            }
        }
    }

    private void AddToken(Sequence sequence, int position, long slot)
    {
        var known = sequence.Tokens.Count;
        _ids.Host[Tokens] = (position < known ? sequence.Tokens[position] : sequence.Proposals[position - known]) - _firstId;
        _positions.Host[Tokens] = position;
        _slots.Host[Tokens] = slot;
        Tokens++;
    }

    // Null: the token drawn there is of no use to anyone.
    private void AddOutput(int token, Sequence? sequence, int position)
    {
        _outputs.Host[Outputs++] = token;
        _sampling?.Add(sequence, position);
    }

    private long Slot(Sequence sequence, int position) => (long)sequence.Blocks[position / _blockSize] * _blockSize + position % _blockSize;

    private void FillTable(Sequence sequence, int row, int width)
    {
        var blocks = CollectionsMarshal.AsSpan(sequence.Blocks);
        blocks[..Math.Min(blocks.Length, width)].CopyTo(_tables.Host.Slice(row * width, width));
    }
}
