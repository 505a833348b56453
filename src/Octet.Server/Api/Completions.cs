using System.Text.Json;
using Octet.Inference.Engine;
using Octet.Inference.Grammars;
using Octet.Server.Hosting;
using Octet.Server.Observability;

namespace Octet.Server.Api;

/// <summary>POST /v1/completions.</summary>
internal sealed class Completions(ServedModel served, ServerMetrics metrics, PromptLog log)
{
    // OpenAI's.
    private const int DefaultTokens = 16;

    /// <summary>Continues a text, at once or piece by piece.</summary>
    public async Task AnswerAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        Refuse(call.Body);
        var delivery = Delivery.Read(call.Body);
        var ids = Prompt(call);
        var options = SamplingFields.Read(call.Body, call.Chat.Model, ids.Length, DefaultTokens) with
        {
            Logprobs = SamplingFields.CompletionLogprobs(call.Body),
            Grammar = Grammar(call),
        };
        using var request = metrics.Begin(ids.Length, call.Http);
        var answer = new CompletionAnswer(served.Name, options, call.Chat.Model.Tokenizer);
        var model = call.Chat.Model;
        var tokens = log.Watch(answer.Id, ids, model.Tokenizer, model.GenerateAsync(ids, options, call.Cancellation), static token => token);
        await delivery.SendAsync(call, answer, tokens, request);
    }

    /// <summary>Writes the tokens that the model would get.</summary>
    public Task RenderAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        return Tokenization.WriteIdsAsync(call, Prompt(call), "token_ids");
    }

    private static void Refuse(in Fields fields)
    {
        if (fields.Boolean("echo") ?? false)
        {
            throw ApiException.BadField("echo", "is not supported, leave it out");
        }

        if (fields.Text("suffix") is { Length: > 0 })
        {
            throw ApiException.BadField("suffix", "is not supported, leave it out");
        }

        if (fields.Integer("best_of", 1) is { } best && best != (fields.Integer("n") ?? 1))
        {
            throw ApiException.BadField("best_of", "is not supported, leave it out");
        }
    }

    private static Grammar? Grammar(ApiCall call)
    {
        try
        {
            return call.Chat.GrammarOf(ChatFields.Format(call.Body));
        }
        catch (GrammarException error)
        {
            throw ApiException.BadField("response_format", error.Message);
        }
    }

    private static int[] Prompt(ApiCall call)
    {
        var prompt = call.Body.Find("prompt") ?? throw ApiException.BadField("prompt", "is missing, expected a string or token ids");
        var path = "prompt";
        if (prompt.ValueKind == JsonValueKind.Array && prompt.GetArrayLength() > 0 && prompt[0].ValueKind != JsonValueKind.Number)
        {
            // One of a batch is a batch of one.
            (prompt, path) = prompt.GetArrayLength() == 1 ? (prompt[0], "prompt[0]")
                : throw ApiException.BadField("prompt", $"has {prompt.GetArrayLength()} prompts, expected one: send a request for each, they run together");
        }

        var ids = prompt.ValueKind == JsonValueKind.Array
            ? TokenIds.Read(prompt, path, call.Chat.Model.Config.VocabularySize)
            : call.Chat.Model.Tokenizer.Encode(Fields.TextOf(prompt, "prompt"), allowSpecial: false);
        return ids.Length > 0 ? ids : throw ApiException.BadField("prompt", "is empty, expected at least one token");
    }
}
