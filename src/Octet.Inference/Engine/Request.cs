using System.Diagnostics;
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

    /// <summary>Where it was queued, and stays.</summary>
    public Engine? Engine { get; set; }

    /// <summary>What it counts for among the outstanding tokens of its engine.</summary>
    public int Outstanding { get; set; }

    /// <summary>Whether it counts among those that may run and wait.</summary>
    public virtual bool IsBounded => false;

    /// <summary>
    /// Told on the engine's thread of the logits of every token of the prompt, in order: the position of the first token, and logits
    /// [rows, vocabulary]. What is computed again after a preemption is told again. Null: nobody wants them.
    /// </summary>
    public virtual Action<int, ReadOnlySpan<float>>? Rows => null;

    /// <summary>
    /// Tells the owner that there will be nothing more: null where all is done or the owner itself wants no more. May be called from any
    /// thread, and more than once; the engine drops the sequence before its next step.
    /// </summary>
    public void End(Exception? error = null)
    {
        if (Interlocked.Exchange(ref _ended, 1) == 0)
        {
            // First: who is told the end may ask for the next text at once.
            Engine?.Leave(this);
            Complete(error);
        }
    }

    /// <summary>Tells the owner.</summary>
    protected abstract void Complete(Exception? error);
}

/// <summary>Where the tokens of a prompt's continuations go, as they are generated; completed with the last of them, or with what went wrong.</summary>
/// <param name="choices">How many continuations.</param>
/// <param name="prompt">Collects the prompt's log probabilities; null where they are not asked for.</param>
internal sealed class GenerationOutput(int choices, PromptLogprobs? prompt)
{
    private readonly Channel<GeneratedToken> _tokens = Channel.CreateUnbounded<GeneratedToken>(new() { SingleReader = true });
    private int _open = choices;

    public ChannelReader<GeneratedToken> Reader => _tokens.Reader;

    /// <summary>The prompt's log probabilities; null where they are not asked for.</summary>
    public PromptLogprobs? Prompt => prompt;

    public void Write(in GeneratedToken token) => _tokens.Writer.TryWrite(token);

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
/// <param name="text">Makes text of its tokens.</param>
/// <param name="output">Where its tokens go.</param>
internal sealed class GenerationRequest(Sequence sequence, int choice, ContinuationText text, GenerationOutput output) : Request(sequence)
{
    private readonly long _submitted = Stopwatch.GetTimestamp();
    private TimeSpan? _queueTime;
    private int _drawn;

    /// <summary>Where its tokens go.</summary>
    public GenerationOutput Output => output;

    /// <summary>Whether its first token waits for log probabilities of the prompt.</summary>
    public bool AwaitsPrompt => output.Prompt is { IsComplete: false };

    public override bool IsBounded => true;

    public override Action<int, ReadOnlySpan<float>>? Rows => AwaitsPrompt ? output.Prompt!.Add : null;

    /// <summary>Notes that it is in a step.</summary>
    public void Begin() => _queueTime ??= Stopwatch.GetElapsedTime(_submitted);

    /// <summary>What the owner will get of the next token that was drawn; the last one has the reason.</summary>
    public GeneratedToken Next(int token, TokenLogprobs? logprobs)
    {
        FinishReason? reason = Sequence.Sampling.EndTokens.Contains(token) ? FinishReason.Stop
            : Sequence.PromptLength + ++_drawn >= Sequence.Limit ? FinishReason.Length : null;
        var (piece, stop) = text.Push(token, reason);
        return new GeneratedToken(token, piece, stop is null ? reason : FinishReason.Stop)
        {
            Choice = choice,
            StopString = stop,
            Logprobs = logprobs,
            CachedTokens = Math.Max(Sequence.CachedTokens, 0),
            QueueTime = _queueTime ?? TimeSpan.Zero,
            PromptLogprobs = choice == 0 && text.Tokens == 1 ? output.Prompt?.All : null,
        };
    }

    /// <summary>Gives its owner a token; the last one ends it.</summary>
    public void Deliver(in GeneratedToken token)
    {
        output.Write(token);
        if (token.FinishReason is not null)
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

    public override Action<int, ReadOnlySpan<float>>? Rows => rows;

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
