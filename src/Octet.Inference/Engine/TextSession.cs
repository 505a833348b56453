using Octet.Inference.Parallel;

namespace Octet.Inference.Engine;

/// <summary>
/// A text whose next tokens the caller chooses: for samplers and searches of one's own. Tokens are appended and give the logits behind
/// them; a text can be rewound, and forked without computing its tokens again. Any number of sessions advance in the same steps as all
/// other texts of the model, and each has the logits it would have alone.
/// </summary>
/// <remarks>
/// One call at a time. A token appended alone is computed as the continuation of a text is, several at once as a prompt is; the two may
/// differ in the last bit on GPUs. A session that waits for its caller gives its place in the KV cache up where others need it, and gets it
/// back unchanged.
/// </remarks>
public sealed class TextSession : IDisposable
{
    private readonly EngineGroup _engines;
    private readonly Func<long> _nextId;
    private readonly int _vocabulary;
    private readonly int _limit;
    private readonly List<int> _tokens = [];
    private SteppedRequest? _request;
    private bool _busy;
    private bool _disposed;

    internal TextSession(EngineGroup engines, Func<long> nextId, int vocabulary, int limit) =>
        (_engines, _nextId, _vocabulary, _limit) = (engines, nextId, vocabulary, limit);

    /// <summary>The tokens so far.</summary>
    public IReadOnlyList<int> Tokens => _tokens;

    /// <summary>The most tokens there can be.</summary>
    public int MaxTokens => _limit;

    /// <summary>Appends tokens; gives the logits behind the last: [vocabulary] f32, valid until the next call.</summary>
    /// <param name="tokens">At least one.</param>
    /// <param name="cancellation">Ends the wait, and with it the session.</param>
    /// <exception cref="ArgumentException">There are no tokens or too many, or an id is outside the vocabulary.</exception>
    /// <exception cref="InvalidOperationException">Another call is not done.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model is disposed.</exception>
    public async ValueTask<ReadOnlyMemory<float>> AppendAsync(ReadOnlyMemory<int> tokens, CancellationToken cancellation = default)
    {
        Enter();
        Check(tokens.Span);
        _busy = true;
        try
        {
            var appended = tokens.ToArray();
            _tokens.AddRange(appended);
            var computed = _request is null ? Begin(appended) : _request.Expect();
            var request = _request!;
            if (computed != request.First)
            {
                request.Engine!.Post(scheduler => scheduler.Append(request.Sequence, appended));
            }

            using var registration = cancellation.UnsafeRegister(
                static (state, token) => ((Request)state!).End(new OperationCanceledException(token)), request);
            return await computed.ConfigureAwait(false);
        }
        finally
        {
            _busy = false;
        }
    }

    /// <summary>Appends one token.</summary>
    /// <inheritdoc cref="AppendAsync(ReadOnlyMemory{int}, CancellationToken)"/>
    public ValueTask<ReadOnlyMemory<float>> AppendAsync(int token, CancellationToken cancellation = default) =>
        AppendAsync(new[] { token }, cancellation);

    /// <summary>Takes the text back to its first tokens.</summary>
    /// <param name="length">How many stay, at least one.</param>
    /// <exception cref="ArgumentOutOfRangeException">The text is not that long.</exception>
    public void Rewind(int length)
    {
        Enter();
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, _tokens.Count);
        _tokens.RemoveRange(length, _tokens.Count - length);
        var request = _request!;
        request.Engine!.Post(scheduler => scheduler.Rewind(request.Sequence, length));
    }

    /// <summary>A second text that begins as this one is so far; both share what is computed.</summary>
    public TextSession Fork()
    {
        Enter();
        var fork = new TextSession(_engines, _nextId, _vocabulary, _limit);
        if (_request is { } parent)
        {
            fork._tokens.AddRange(_tokens);
            var child = new Sequence(_nextId(), [.. _tokens], _limit, parent.Sequence.Salt) { IsStepped = true };
            fork._request = new SteppedRequest(child, _vocabulary);
            parent.Engine!.Fork(parent, fork._request);
        }

        return fork;
    }

    /// <summary>Frees what the KV cache holds of the text.</summary>
    public void Dispose()
    {
        _disposed = true;
        _request?.End();
    }

    private Task<ReadOnlyMemory<float>> Begin(int[] prompt)
    {
        _request = new SteppedRequest(new Sequence(_nextId(), prompt, _limit) { IsStepped = true }, _vocabulary);
        _engines.Submit(_request);
        return _request.First;
    }

    private void Enter()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_busy)
        {
            throw new InvalidOperationException("another call of this session is not done: await it first, or fork the session");
        }
    }

    private void Check(ReadOnlySpan<int> tokens)
    {
        if (tokens.IsEmpty || tokens.Length > _limit - _tokens.Count)
        {
            throw new ArgumentException($"{tokens.Length} tokens behind {_tokens.Count}: at least 1 is needed, and {_limit} are the most of a text");
        }

        foreach (var token in tokens)
        {
            if (token < 0 || token >= _vocabulary)
            {
                throw new ArgumentException($"token id {token} is outside the vocabulary 0..{_vocabulary - 1}");
            }
        }
    }
}

/// <summary>A text that advances when its owner appends tokens.</summary>
internal sealed class SteppedRequest : Request
{
    private readonly float[] _logits;
    private TaskCompletionSource<ReadOnlyMemory<float>> _computed = New();

    public SteppedRequest(Sequence sequence, int vocabulary)
        : base(sequence)
    {
        _logits = new float[vocabulary];
        First = _computed.Task;
    }

    /// <summary>What <see cref="Expect"/> would have given for the tokens the text begins with.</summary>
    public Task<ReadOnlyMemory<float>> First { get; }

    /// <summary>Where the engine puts the logits.</summary>
    public Span<float> Logits => _logits;

    /// <summary>The logits behind tokens that are about to be appended.</summary>
    public Task<ReadOnlyMemory<float>> Expect()
    {
        var next = New();
        Volatile.Write(ref _computed, next);
        if (HasEnded)
        {
            next.TrySetException(new ObjectDisposedException(nameof(TextSession), "the session has ended"));
        }

        return next.Task;
    }

    /// <summary>Says that <see cref="Logits"/> are there.</summary>
    public void Computed() => Volatile.Read(ref _computed).TrySetResult(_logits);

    protected override void Complete(Exception? error) => Volatile.Read(ref _computed).TrySetException(
        error ?? new ObjectDisposedException(nameof(TextSession), "the session has ended"));

    private static TaskCompletionSource<ReadOnlyMemory<float>> New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
