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

/// <summary>A token drawn for a request.</summary>
internal readonly record struct DrawnToken(int Choice, int Id, FinishReason? FinishReason, TokenLogprobs? Logprobs, int CachedTokens);

/// <summary>Where the tokens of a prompt's continuations go, as they are generated; completed with the last of them, or with what went wrong.</summary>
/// <param name="choices">How many continuations.</param>
internal sealed class GenerationOutput(int choices)
{
    private readonly Channel<DrawnToken> _tokens = Channel.CreateUnbounded<DrawnToken>(new() { SingleReader = true });
    private int _open = choices;

    public ChannelReader<DrawnToken> Reader => _tokens.Reader;

    public void Write(in DrawnToken token) => _tokens.Writer.TryWrite(token);

    /// <summary>Notes the end of one continuation.</summary>
    public void Complete(Exception? error)
    {
        if (Interlocked.Decrement(ref _open) == 0 || error is not null)
        {
            _tokens.Writer.TryComplete(error);
        }
    }
}

/// <summary>A text to continue.</summary>
/// <param name="sequence">Prompt, room and sampling.</param>
/// <param name="choice">Which continuation of its prompt it is.</param>
/// <param name="output">Where its tokens go.</param>
internal sealed class GenerationRequest(Sequence sequence, int choice, GenerationOutput output) : Request(sequence)
{
    private int _delivered;

    /// <summary>Where its tokens go.</summary>
    public GenerationOutput Output => output;

    public override bool IsBounded => true;

    /// <summary>Gives its owner the next token; the last one ends it.</summary>
    public void Deliver(int token, TokenLogprobs? logprobs)
    {
        FinishReason? reason = Sequence.Sampling.EndTokens.Contains(token) ? FinishReason.Stop
            : Sequence.PromptLength + ++_delivered >= Sequence.Limit ? FinishReason.Length : null;
        output.Write(new DrawnToken(choice, token, reason, logprobs, Math.Max(Sequence.CachedTokens, 0)));
        if (reason is not null)
        {
            End();
        }
    }

    protected override void Complete(Exception? error) => output.Complete(error);
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
