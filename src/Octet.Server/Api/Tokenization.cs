using Octet.Server.Hosting;

namespace Octet.Server.Api;

/// <summary>POST /tokenize and /detokenize.</summary>
internal sealed class Tokenization(ServedModel served)
{
    /// <summary>The tokens of a prompt, or of messages in the chat template.</summary>
    public Task EncodeAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        var ids = call.Body.Find("messages") is not null
            ? call.Chat.Encode(ChatFields.Read(call.Body))
            : call.Chat.Model.Tokenizer.Encode(call.Body.RequiredText("prompt"), allowSpecial: false);
        return WriteIdsAsync(call, ids, "tokens");
    }

    /// <summary>The text of tokens.</summary>
    public Task DecodeAsync(ApiCall call)
    {
        ModelEndpoints.CheckName(call.Body, served);
        var tokens = call.Body.Array("tokens") ?? throw ApiException.BadField("tokens", "is missing, expected token ids");
        var text = call.Chat.Model.Tokenizer.Decode(TokenIds.Read(tokens, "tokens", call.Chat.Model.Config.VocabularySize));
        return JsonWriting.WriteAsync(
            call.Http.Response,
            json =>
            {
                json.WriteStartObject();
                json.WriteString("prompt", text);
                json.WriteEndObject();
            },
            call.Cancellation);
    }

    /// <summary>Answers with token ids, their number and the context.</summary>
    public static Task WriteIdsAsync(ApiCall call, IReadOnlyList<int> ids, string name) => JsonWriting.WriteAsync(
        call.Http.Response,
        json =>
        {
            json.WriteStartObject();
            json.WriteNumber("count", ids.Count);
            json.WriteNumber("max_model_len", call.Chat.Model.MaxLength);
            json.WriteStartArray(name);
            foreach (var id in ids)
            {
                json.WriteNumberValue(id);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        },
        call.Cancellation);
}
