using System.Runtime.InteropServices;
using Octet.Inference.Models;

namespace Octet.Inference.Engine;

/// <summary>
/// Runs steps of a model on one device: moves blocks, brings the step's input over in one copy, runs the model over all of its tokens, draws,
/// and reads the drawn ids back. Steps with continuations only are recorded as graphs.
/// </summary>
internal sealed class ModelRunner : IStepRunner, IDisposable
{
    private readonly Device _device;
    private readonly IModel _model;
    private readonly KvSwap _swap;
    private readonly DecodeGraphs? _graphs;
    private readonly Workspace _workspace;
    private readonly StepInput _input;
    private readonly SamplingOutput _output;
    private readonly Action _decode;
    private readonly Func<TensorView> _stepLogits;
    private readonly int _maxContext;
    private TensorView _logits;
    private StepPlan _plan = new();

    /// <param name="device">Where the model is.</param>
    /// <param name="model">The model.</param>
    /// <param name="swap">Moves its KV blocks.</param>
    /// <param name="graphs">Records the steps of decode; null: they run eagerly.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="bounds">The largest step.</param>
    public ModelRunner(Device device, IModel model, KvSwap swap, DecodeGraphs? graphs, Workspace workspace, StepBounds bounds)
    {
        (_device, _model, _swap, _graphs, _workspace, _maxContext) = (device, model, swap, graphs, workspace, bounds.MaxContext);
        _decode = Decode;
        _stepLogits = () => _logits;
        _input = new StepInput(device, workspace, bounds, model.VocabularySize);
        try
        {
            _output = new SamplingOutput(device, bounds.MaxOutputs);
        }
        catch
        {
            _input.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Run(StepPlan plan)
    {
        _plan = plan;
        _swap.Move(plan);
        var recorded = _graphs is not null && plan.DecodeRows == plan.Rows.Count && _graphs.Covers(plan.DecodeRows);
        if (recorded)
        {
            var (rows, context) = (DecodeGraphs.RowBucket(plan.DecodeRows), _graphs!.ContextBucket(LongestContext(plan)));
            Fill(plan, rows, context);
            _graphs.Run(rows, _input.QueryLength, context, _decode, _stepLogits);
        }
        else
        {
            Fill(plan, plan.DecodeRows, LongestContext(plan));
            _decode();
        }

        if (_input.Outputs > 0)
        {
            _output.Read(_device.Stream, _input.HasLogprobs);
        }
        else
        {
            _device.Stream.Synchronize();
        }

        _swap.Settle();
    }

    /// <inheritdoc/>
    public ReadOnlySpan<int> Drawn(int row)
    {
        var (plan, scheduled) = (_plan, _plan.Rows[row]);
        return scheduled.Draws == 0 ? [] : _output.Drawn.Slice(_input.OutputOf(plan, row), row < plan.DecodeRows ? scheduled.Count : scheduled.Draws);
    }

    /// <inheritdoc/>
    public TokenLogprobs Logprobs(int row, int draw, int alternatives) => _output.LogprobsOf(_input.OutputOf(_plan, row) + draw, alternatives);

    /// <inheritdoc/>
    public void ReadLogits(int row, Span<float> logits)
    {
        var output = _input.OutputOf(_plan, row) + (row < _plan.DecodeRows ? _plan.Rows[row].Count - 1 : 0);
        _device.Stream.Read(_model.Logits.Slice(0, output, 1), logits);
    }

    /// <inheritdoc/>
    public void ReadAllLogits(int row, float[] logits, Action<int, ReadOnlySpan<float>> rows)
    {
        var (scheduled, first) = (_plan.Rows[row], _input.TokenOf(_plan, row));
        for (var done = 0; done < scheduled.Count; done += _model.MaxRows)
        {
            var count = Math.Min(_model.MaxRows, scheduled.Count - done);
            var used = logits.AsSpan(0, checked(count * _model.VocabularySize));
            _device.Stream.Read(_model.Head(first + done, count), used);
            rows(scheduled.Start + done, used);
        }
    }

    /// <inheritdoc/>
    public void Fork(Sequence parent, Sequence child) => _swap.Fork(parent, child);

    /// <inheritdoc/>
    public void Forget(Sequence sequence) => _swap.Forget(sequence);

    /// <inheritdoc/>
    public OctetException? FindLoss()
    {
        try
        {
            _device.Stream.Synchronize();
            return null;
        }
        catch (OctetException error)
        {
            // What is left of a driver's context after a fault of the device answers everything with an error.
            return new OctetException(
                error.Status, $"{_device.Name} is lost, so the text could not be continued; it may be asked for again where the model runs: {error.Message}", error);
        }
    }

    public void Dispose()
    {
        _output.Dispose();
        _input.Dispose();
    }

    private static int LongestContext(StepPlan plan)
    {
        var longest = 1;
        foreach (ref readonly var row in CollectionsMarshal.AsSpan(plan.Rows)[..plan.DecodeRows])
        {
            longest = Math.Max(longest, row.Start + row.Count);
        }

        return longest;
    }

    // What is read is of the step at hand: one that is replayed was made for the same number of outputs, but the last step may have had others.
    private void Fill(StepPlan plan, int rows, int context)
    {
        _input.Fill(plan, rows, context);
        _input.Upload();
        _output.Rows = _input.Outputs;
    }

    private void Decode()
    {
        _model.Run(_input);
        if (_input.Outputs == 0)
        {
            return;
        }

        _logits = _model.Head(_input);
        var args = _input.Sampling(_logits, _output);
        Ops.Sampling(_device.Stream, args with { Workspace = _workspace.Take(_device.Backend.SamplingWorkspace(in args)) });
    }
}

/// <summary>The largest step a runner has room for.</summary>
/// <param name="MaxTokens">Tokens, padding included.</param>
/// <param name="MaxRows">Sequences, padding included.</param>
/// <param name="MaxOutputs">Rows of logits.</param>
/// <param name="MaxContext">The longest context.</param>
/// <param name="BlockSize">Tokens of a KV block.</param>
internal readonly record struct StepBounds(int MaxTokens, int MaxRows, int MaxOutputs, int MaxContext, int BlockSize)
{
    /// <summary>The bounds of a scheduler's steps.</summary>
    /// <param name="tokenBudget">Its token budget.</param>
    /// <param name="maxSequences">Sequences that run together.</param>
    /// <param name="proposals">Tokens proposed for each.</param>
    /// <param name="maxContext">The longest context.</param>
    /// <param name="blockSize">Tokens of a KV block.</param>
    public static StepBounds Of(int tokenBudget, int maxSequences, int proposals, int maxContext, int blockSize)
    {
        var rows = DecodeGraphs.RowBucket(maxSequences) + StepInput.RowAlignment;
        var outputs = rows * (1 + proposals);
        return new StepBounds(Math.Max(tokenBudget, outputs) + outputs, rows, outputs, maxContext, blockSize);
    }
}
