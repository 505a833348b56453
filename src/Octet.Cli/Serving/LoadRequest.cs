using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Octet.Cli.Serving;

/// <summary>Writes requests that ask for a streamed answer.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="IsChat">Whether they go to chat completions; else to plain ones.</param>
internal sealed record LoadRequest(string Model, bool IsChat)
{
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The temperature; null: the server's.</summary>
    public double? Temperature { get; init; }

    /// <summary>Whether an end token does not end the answer.</summary>
    public bool IgnoresEnd { get; init; }

    /// <summary>Fields besides, as the server has them.</summary>
    public IReadOnlyDictionary<string, JsonElement> Extra { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>The endpoint.</summary>
    public string Path => IsChat ? "/v1/chat/completions" : "/v1/completions";

    /// <summary>The body of a turn's request, whose message is added to those before.</summary>
    public ReadOnlyMemory<byte> Write(LoadTurn turn, LoadMessages messages) => Write(json =>
    {
        json.WriteStartObject();
        json.WriteString("model", Model);
        if (IsChat)
        {
            messages.AddUser(turn.Text);
            messages.Write(json);
        }
        else
        {
            WritePrompt(json, turn);
        }

        json.WriteNumber(IsChat ? "max_completion_tokens" : "max_tokens", turn.MaxTokens);
        if (Temperature is { } temperature)
        {
            json.WriteNumber("temperature", temperature);
        }

        if (IgnoresEnd)
        {
            json.WriteBoolean("ignore_eos", true);
        }

        foreach (var (name, value) in Extra)
        {
            json.WritePropertyName(name);
            value.WriteTo(json);
        }

        json.WriteBoolean("stream", true);
        json.WriteStartObject("stream_options");
        json.WriteBoolean("include_usage", true);
        json.WriteEndObject();
        json.WriteEndObject();
    });

    /// <summary>A body of JSON.</summary>
    public static ReadOnlyMemory<byte> Write(Action<Utf8JsonWriter> write)
    {
        var body = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(body, s_options))
        {
            write(json);
        }

        return body.WrittenMemory;
    }

    private static void WritePrompt(Utf8JsonWriter json, LoadTurn turn)
    {
        if (turn.Ids is not { } ids)
        {
            json.WriteString("prompt", turn.Text);
            return;
        }

        json.WriteStartArray("prompt");
        foreach (var id in ids)
        {
            json.WriteNumberValue(id);
        }

        json.WriteEndArray();
    }
}

/// <summary>The messages of a conversation as it grows.</summary>
/// <param name="before">Those that are there already, as they are sent.</param>
internal sealed class LoadMessages(IReadOnlyList<JsonElement> before)
{
    private readonly List<(string Role, string Content)> _said = [];

    /// <summary>The user's message; null: none.</summary>
    public void AddUser(string? text) => Add("user", text);

    /// <summary>What the server said.</summary>
    public void AddAnswer(string text) => Add("assistant", text);

    /// <summary>Writes <c>"messages": [...]</c>.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartArray("messages");
        foreach (var message in before)
        {
            message.WriteTo(json);
        }

        foreach (var (role, content) in _said)
        {
            json.WriteStartObject();
            json.WriteString("role", role);
            json.WriteString("content", content);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private void Add(string role, string? text)
    {
        if (text is not null)
        {
            _said.Add((role, text));
        }
    }
}
