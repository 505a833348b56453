using System.Text;
using System.Text.Json;
using Octet.Inference.Engine;
using Octet.Inference.Loading;

namespace Octet.Server.Api;

/// <summary>Log probabilities as OpenAI's API writes them.</summary>
/// <param name="tokenizer">Has the tokens' texts.</param>
internal sealed class LogprobsWriter(ModelTokenizer tokenizer)
{
    /// <summary>An entry of <c>choices[i].logprobs.content</c>: the token's text, bytes and log probability, and those of the most likely ones.</summary>
    public void WriteChat(Utf8JsonWriter json, in GeneratedToken token)
    {
        json.WriteStartObject();
        WriteToken(json, token.Id, token.Logprobs!.Logprob);
        json.WriteStartArray("top_logprobs");
        foreach (var likely in token.Logprobs.MostLikely)
        {
            json.WriteStartObject();
            WriteToken(json, likely.Id, likely.Logprob);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary><c>logprobs</c> of plain completions: arrays of texts, log probabilities, the most likely ones, and places in the text.</summary>
    /// <param name="json">Where to.</param>
    /// <param name="tokens">The tokens.</param>
    /// <param name="offset">Characters of the text before them.</param>
    public void WriteCompletion(Utf8JsonWriter json, IReadOnlyList<GeneratedToken> tokens, int offset)
    {
        json.WriteStartObject();
        json.WriteStartArray("tokens");
        foreach (var token in tokens)
        {
            json.WriteStringValue(TextOf(token.Id));
        }

        json.WriteEndArray();
        json.WriteStartArray("token_logprobs");
        foreach (var token in tokens)
        {
            json.WriteNumberValue(Finite(token.Logprobs!.Logprob));
        }

        json.WriteEndArray();
        json.WriteStartArray("top_logprobs");
        foreach (var token in tokens)
        {
            json.WriteStartObject();
            foreach (var likely in token.Logprobs!.MostLikely.DistinctBy(likely => TextOf(likely.Id)))
            {
                json.WriteNumber(TextOf(likely.Id), Finite(likely.Logprob));
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("text_offset");
        foreach (var token in tokens)
        {
            json.WriteNumberValue(offset);
            offset += token.Text.Length;
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private void WriteToken(Utf8JsonWriter json, int id, float logprob)
    {
        var text = TextOf(id);
        json.WriteString("token", text);
        json.WriteNumber("logprob", Finite(logprob));
        json.WriteStartArray("bytes");
        foreach (var b in tokenizer.BytesOf(id))
        {
            json.WriteNumberValue(b);
        }

        json.WriteEndArray();
    }

    // JSON has no infinity; OpenAI writes this for what is next to impossible.
    private static float Finite(float logprob) => float.IsFinite(logprob) ? logprob : -9999;

    private string TextOf(int id) => Encoding.UTF8.GetString(tokenizer.BytesOf(id));
}
