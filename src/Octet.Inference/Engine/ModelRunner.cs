using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Engine;

/// <summary>
/// Runs steps of one rank of a model: moves blocks, brings the step's input over in one copy, and runs the model over all of its tokens. The
/// rank that draws does so, and reads the drawn ids back. How a step is run is decided by the group.
/// </summary>
internal sealed class ModelRunner : IDisposable
{
    private readonly Device _device;
    private readonly IModel _model;
    private readonly KvSwap _swap;
    private readonly Workspace _workspace;
    private readonly StepInput _input;
    private readonly SamplingOutput? _output;
    private readonly Action _enqueue;
    private TensorView _logits;
    private StepPlan _plan = new();

    /// <param name="device">Where the model is.</param>
    /// <param name="model">The model.</param>
    /// <param name="swap">Moves its KV blocks.</param>
    /// <param name="graphs">Its recorded steps; null: all are run eagerly.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="bounds">The largest step.</param>
    /// <param name="shape">The rank.</param>
    public ModelRunner(Device device, IModel model, KvSwap swap, DecodeGraphs? graphs, Workspace workspace, StepBounds bounds, RankShape shape)
    {
        (_device, _model, _swap, Graphs, _workspace) = (device, model, swap, graphs, workspace);
        _enqueue = Enqueue;
        _input = new StepInput(device, workspace, bounds, shape);
        try
        {
            _output = shape.IsLeader ? new SamplingOutput(device, bounds.MaxOutputs) : null;
        }
        catch
        {
            _input.Dispose();
            throw;
        }
    }

    /// <summary>Its recorded steps; null: all are run eagerly.</summary>
    public DecodeGraphs? Graphs { get; }

    /// <summary>Computes a step and waits for it.</summary>
    /// <param name="plan">The step.</param>
    /// <param name="bucket">The bounds it is enqueued for.</param>
    /// <param name="replays">Whether it is replayed, where it is still recorded.</param>
    public void Run(StepPlan plan, StepBucket bucket, bool replays)
    {
        _plan = plan;
        _swap.Move(plan);
        _input.Fill(plan, bucket.Rows, bucket.Context);
        _input.Upload();

        // What is read is of the step at hand: one that is replayed was made for the same number of outputs, but the last step may have had others.
        if (_output is not null)
        {
            _output.Rows = _input.Outputs;
        }

        if (replays && Graphs!.StateOf(bucket) == BucketState.Recorded)
        {
            Replay(bucket);
        }
        else
        {
            RunEagerly();
        }

        _swap.Settle();
    }

    /// <summary>Computes the step that was run once more, eagerly.</summary>
    public void RunEagerly()
    {
        _enqueue();
        Finish();
    }

    /// <summary>Records the step that was run, as its bucket's.</summary>
    public void Record(StepBucket bucket) => Graphs!.Record(bucket, _enqueue);

    /// <summary>Computes the step that was run once more, as it was recorded.</summary>
    public void Replay(StepBucket bucket)
    {
        Graphs!.Replay(bucket);
        Finish();
    }

    /// <summary>The logits of the step that was run.</summary>
    public float[] CopyLogits() => _logits.ToArray<float>();

    /// <summary>Fills them with what no step gives.</summary>
    public void SpoilLogits() => _device.Stream.Fill(_logits, 0xFF);

    /// <summary>The tokens drawn for a row of the step that was run: one for each of its outputs; negative where its logits were not finite.</summary>
    public ReadOnlySpan<int> Drawn(int row)
    {
        var (plan, scheduled) = (_plan, _plan.Rows[row]);
        return scheduled.Draws == 0 ? [] : _output!.Drawn.Slice(_input.OutputOf(plan, row), row < plan.DecodeRows ? scheduled.Count : scheduled.Draws);
    }

    /// <summary>The log probabilities of one of the tokens drawn for a row of the step that was run.</summary>
    public TokenLogprobs Logprobs(int row, int draw, int alternatives) => _output!.LogprobsOf(_input.OutputOf(_plan, row) + draw, alternatives);

    /// <inheritdoc/>
    public void ReadLogits(int row, Span<float> logits)
    {
        var output = _input.OutputOf(_plan, row) + (row < _plan.DecodeRows ? _plan.Rows[row].Count - 1 : 0);
        _device.Stream.Read(_model.Logits.Slice(0, output, 1), logits);
    }

    /// <summary>Where a row of the step that was run lies in it.</summary>
    /// <returns>Its first token among the step's, the position of that, and how many there are.</returns>
    public (int First, int Position, int Count) TokensOf(int row) => (_input.TokenOf(_plan, row), _plan.Rows[row].Start, _plan.Rows[row].Count);

    /// <summary>
    /// Computes the logits of some tokens of the step that was run, at most <see cref="IModel.MaxRows"/>, and waits for them. They are written
    /// over what <see cref="ReadLogits"/> reads.
    /// </summary>
    public void Evaluate(int first, int count)
    {
        _logits = _model.Head(first, count);
        _device.Stream.Synchronize();
    }

    /// <summary>Reads what was evaluated: [count, vocabulary].</summary>
    public void ReadEvaluated(Span<float> logits)
    {
        _device.Stream.Read(_logits, logits);
        _model.Exchange?.ThrowIfStopped();
    }

    /// <summary>Lets a text begin with what waits in host memory of another one.</summary>
    public void Fork(Sequence parent, Sequence child) => _swap.Fork(parent, child);

    /// <summary>Frees what waits in host memory of a text that has ended.</summary>
    public void Forget(Sequence sequence) => _swap.Forget(sequence);

    /// <summary>After a step that failed: why no other can be run on the device; null where one can.</summary>
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
        _output?.Dispose();
        _input.Dispose();
    }

    private void Enqueue()
    {
        _model.Run(_input);
        if (_input.Outputs == 0)
        {
            return;
        }

        _logits = _model.Head(_input);
        if (_output is null)
        {
            return;
        }

        var args = _input.Sampling(_logits, _output);
        Ops.Sampling(_device.Stream, args with { Workspace = _workspace.Take(_device.Backend.SamplingWorkspace(in args)) });
    }

    private void Finish()
    {
        if (_input.Outputs > 0 && _output is not null)
        {
            _output.Read(_device.Stream, _input.HasLogprobs);
        }
        else
        {
            _device.Stream.Synchronize();
        }

        if (_output is not null)
        {
            _model.Exchange?.ThrowIfStopped();
        }
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
