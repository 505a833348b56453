using System.Threading.Channels;

namespace Octet.Inference.Engine;

/// <summary>What somebody wants of one sequence; the engine's thread alone touches the sequence.</summary>
internal abstract class Request(Sequence sequence)
{
    private int _ended;

    /// <summary>The text.</summary>
    public Sequence Sequence { get; } = sequence;

    /// <summary>Whether its owner has been told the end: what is still computed of it, nobody wants.</summary>
    public bool HasEnded => Volatile.Read(ref _ended) != 0;

    /// <summary>Called once, by whoever ends the request.</summary>
    public Action<Request>? Ended { get; set; }

    /// <summary>Whether it counts among those that may run and wait.</summary>
    public virtual bool IsBounded => false;

    /// <summary>
    /// Tells the owner that there will be nothing more: null where all is done or the owner itself wants no more. May be called from any
    /// thread, and more than once; the engine drops the sequence before its next step.
    /// </summary>
    public void End(Exception? error = null)
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
        {
            // First: who is told the end may ask for the next text at once.
            Ended?.Invoke(this);
            Complete(error);
        }
    }

    /// <summary>Tells the owner.</summary>
    protected abstract void Complete(Exception? error);
}

/// <summary>A text to continue.</summary>
/// <param name="sequence">Prompt, room and sampling.</param>
/// <param name="endTokens">Tokens that end the text.</param>
internal sealed class GenerationRequest(Sequence sequence, IReadOnlyList<int> endTokens) : Request(sequence)
{
    /// <summary>Tokens as they are generated; completed at the end of the text, or with what went wrong.</summary>
    public Channel<int> Output { get; } = Channel.CreateUnbounded<int>(new() { SingleReader = true, SingleWriter = true });

    public override bool IsBounded => true;

    /// <summary>Tokens delivered.</summary>
    public int Delivered { get; set; }

    /// <summary>Whether a token ends the text.</summary>
    public bool IsEnd(int token) => endTokens.Contains(token);

    protected override void Complete(Exception? error) => Output.Writer.TryComplete(error);
}

/// <summary>A text of which the logits of every token are wanted.</summary>
/// <param name="sequence">The text.</param>
/// <param name="rows">Called on the engine's thread, in order: the position of the first token, and logits [rows, vocabulary].</param>
internal sealed class EvaluationRequest(Sequence sequence, Action<int, ReadOnlySpan<float>> rows) : Request(sequence)
{
    private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Ends with the last row.</summary>
    public Task Done => _done.Task;

    /// <summary>Told of every run of rows.</summary>
    public Action<int, ReadOnlySpan<float>> Rows { get; } = rows;

    protected override void Complete(Exception? error)
    {
        if (error is null)
        {
            _done.TrySetResult();
        }
        else
        {
            _done.TrySetException(error);
        }
    }
}
