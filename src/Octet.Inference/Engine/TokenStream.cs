using System.Runtime.CompilerServices;
using Octet.Inference.Parallel;

namespace Octet.Inference.Engine;

/// <summary>From the tokens that the engine delivers to a caller who enumerates them, and may cancel.</summary>
internal static class TokenStream
{
    /// <summary>Submits the continuations of a prompt and gives their tokens as they come.</summary>
    /// <param name="engines">Where they run: on one of them, all.</param>
    /// <param name="create">The requests of one enumeration: the first, and its siblings.</param>
    /// <param name="cancellation">Ends the enumeration.</param>
    public static async IAsyncEnumerable<GeneratedToken> RunAsync(
        EngineGroup engines, Func<GenerationRequest[]> create, [EnumeratorCancellation] CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var requests = create();
        var output = requests[0].Output;
        using var activity = Telemetry.Activities.StartActivity("generate");
        activity?.SetTag("octet.prompt_tokens", requests[0].Sequence.PromptLength);
        engines.Submit(requests);

        // NOTE: a wait that can itself be cancelled allocates, every token anew; so cancellation ends the output instead.
        using var registration = cancellation.UnsafeRegister(
            static (state, token) => EndAll((GenerationRequest[])state!, new OperationCanceledException(token)), requests);
        try
        {
            await foreach (var token in output.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                cancellation.ThrowIfCancellationRequested();
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
}
