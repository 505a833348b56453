using System.Runtime.CompilerServices;
using Octet.Inference.Loading;

namespace Octet.Inference.Engine;

/// <summary>From the tokens that the engine delivers to those a caller sees: text, stop strings, cancellation.</summary>
internal static class TokenStream
{
    // A character has at most four bytes, so at most three tokens of the prompt hold the beginning of one.
    private const int TokensOfHalfCharacter = 3;

    /// <summary>Submits the continuations of a prompt and gives their tokens as they come.</summary>
    /// <param name="engine">Where they run.</param>
    /// <param name="tokenizer">Makes text of them.</param>
    /// <param name="create">The requests of one enumeration: the first, and its siblings.</param>
    /// <param name="options">What ends them.</param>
    /// <param name="stops">The strings that do.</param>
    /// <param name="cancellation">Ends the enumeration.</param>
    public static async IAsyncEnumerable<GeneratedToken> RunAsync(
        Engine engine, ModelTokenizer tokenizer, Func<GenerationRequest[]> create, GenerationOptions options, IReadOnlyList<string> stops,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var requests = create();
        var texts = Array.ConvertAll(requests, request => new Text(tokenizer, request.Sequence, new StopStrings(stops, options.IncludeStopString)));
        var output = requests[0].Output;
        using var activity = Telemetry.Activities.StartActivity("generate");
        activity?.SetTag("octet.prompt_tokens", requests[0].Sequence.PromptLength);
        engine.Submit(requests);

        // NOTE: a wait that can itself be cancelled allocates, every token anew; so cancellation ends the output instead.
        using var registration = cancellation.UnsafeRegister(
            static (state, token) => EndAll((GenerationRequest[])state!, new OperationCanceledException(token)), requests);
        try
        {
            await foreach (var drawn in output.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                cancellation.ThrowIfCancellationRequested();
                var text = texts[drawn.Choice];
                if (text.HasEnded)
                {
                    continue; // drawn before the engine heard of the stop string
                }

                var token = text.Push(drawn);
                if (token.StopString is not null)
                {
                    requests[drawn.Choice].End();
                }

                yield return token;
            }
        }
        finally
        {
            EndAll(requests, null);
        }
    }

    private static void EndAll(GenerationRequest[] requests, Exception? error)
    {
        foreach (var request in requests)
        {
            request.End(error);
        }
    }

    /// <summary>One continuation.</summary>
    private sealed class Text
    {
        private readonly TokenTextStream _characters;
        private readonly StopStrings _stops;
        private readonly int _minTokens;
        private int _count;

        public Text(ModelTokenizer tokenizer, Sequence sequence, StopStrings stops)
        {
            (_characters, _stops, _minTokens) = (tokenizer.Stream(), stops, sequence.Sampling.MinTokens);

            // Of a prompt that ends amid a character, the first tokens complete it.
            for (var i = Math.Max(0, sequence.PromptLength - TokensOfHalfCharacter); i < sequence.PromptLength; i++)
            {
                _characters.Push(sequence.Tokens[i]);
            }
        }

        public bool HasEnded { get; private set; }

        public GeneratedToken Push(in DrawnToken drawn)
        {
            // The last token is the place for what is left of a character that its bytes do not complete.
            var piece = drawn.FinishReason is FinishReason.Stop ? "" : _characters.Push(drawn.Id);
            piece += drawn.FinishReason is null ? "" : _characters.Flush();
            var (text, stop) = ++_count >= _minTokens ? _stops.Push(piece) : (piece, null);
            HasEnded = stop is not null || drawn.FinishReason is not null;
            return new GeneratedToken(
                drawn.Id, HasEnded && stop is null ? text + _stops.Flush() : text, stop is null ? drawn.FinishReason : FinishReason.Stop)
            {
                Choice = drawn.Choice,
                StopString = stop,
                Logprobs = drawn.Logprobs,
                CachedTokens = drawn.CachedTokens,
            };
        }
    }
}
