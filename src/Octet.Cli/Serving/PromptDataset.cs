using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>
/// --dataset: a file with a JSON value in each line. A string, or an object with <c>prompt</c> (text or token ids), with <c>messages</c>
/// (a chat as it is sent), or with <c>turns</c> (what the user says, one after the other) and, if there is one, <c>system</c>; and with
/// <c>max_tokens</c> or <c>output_tokens</c>, where the answer's length is the line's own.
/// </summary>
internal static class PromptDataset
{
    /// <summary>Reads the sessions of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="isChat">Whether they go to chat completions, which take no token ids; plain ones take no messages and no turns.</param>
    /// <param name="maxTokens">The most tokens of an answer where a line does not say.</param>
    /// <exception cref="ArgumentException">A line is none of these; the message has its number.</exception>
    public static IReadOnlyList<LoadSession> Read(string path, bool isChat, int maxTokens)
    {
        var sessions = new List<LoadSession>();
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line))
            {
                continue;
            }

            try
            {
                sessions.Add(Session(JsonElement.Parse(line), isChat, maxTokens));
            }
            catch (Exception error) when (error is JsonException or FormatException)
            {
                throw new ArgumentException($"--dataset: {path}, line {number}: {error.Message}", error);
            }
        }

        return sessions.Count > 0 ? sessions : throw new ArgumentException($"--dataset: {path} has no prompts");
    }

    private static LoadSession Session(JsonElement line, bool isChat, int maxTokens)
    {
        if (line.ValueKind == JsonValueKind.String)
        {
            return new([new(line.GetString()) { MaxTokens = maxTokens }]);
        }

        Expect(line.ValueKind == JsonValueKind.Object, "expected a string or an object");
        maxTokens = Number(line, "max_tokens") ?? Number(line, "output_tokens") ?? maxTokens;
        if (line.TryGetProperty("prompt", out var prompt))
        {
            return new([Prompt(prompt, isChat, maxTokens)]);
        }

        if (line.TryGetProperty("messages", out var messages))
        {
            Expect(isChat, "messages need --endpoint chat");
            Expect(messages.ValueKind == JsonValueKind.Array && messages.GetArrayLength() > 0, "messages is no array with messages in it");
            return new([new(null) { MaxTokens = maxTokens }]) { Before = [.. messages.EnumerateArray()] };
        }

        Expect(line.TryGetProperty("turns", out var turns), "has none of prompt, messages, turns");
        Expect(isChat, "turns need --endpoint chat");
        Expect(turns.ValueKind == JsonValueKind.Array && turns.GetArrayLength() > 0, "turns is no array with texts in it");
        JsonElement[] before = line.TryGetProperty("system", out var system)
            ? [JsonElement.Parse($$"""{"role": "system", "content": {{system.GetRawText()}}}""")]
            : [];
        var asked = turns.EnumerateArray().Select(turn => new LoadTurn(Text(turn, "turns")) { MaxTokens = maxTokens });
        return new([.. asked]) { Before = before };
    }

    private static LoadTurn Prompt(JsonElement prompt, bool isChat, int maxTokens)
    {
        if (prompt.ValueKind != JsonValueKind.Array)
        {
            return new(Text(prompt, "prompt")) { MaxTokens = maxTokens };
        }

        Expect(!isChat, "a prompt of token ids needs --endpoint completions");
        Expect(prompt.GetArrayLength() > 0, "prompt has no token ids");
        int[] ids = [.. prompt.EnumerateArray().Select(id =>
            id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out var token)
                ? token
                : throw new FormatException("prompt has what is no token id"))];
        return new(null, ids) { MaxTokens = maxTokens, ExpectedTokens = ids.Length };
    }

    private static string Text(JsonElement value, string name) =>
        value.ValueKind == JsonValueKind.String ? value.GetString()! : throw new FormatException($"{name} has what is no text");

    private static int? Number(JsonElement line, string name) => !line.TryGetProperty(name, out var value) ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number > 0 ? number
        : throw new FormatException($"{name} is no whole number from 1");

    private static void Expect(bool condition, string problem)
    {
        if (!condition)
        {
            throw new FormatException(problem);
        }
    }
}
