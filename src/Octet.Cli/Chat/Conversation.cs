using Octet.Inference.Loading;

namespace Octet.Cli.Chat;

/// <summary>
/// What was said: the system's message, and the turns. Where they become too long, the oldest turn is dropped and the system's message
/// stays.
/// </summary>
internal sealed class Conversation
{
    private List<ChatMessage> _turns = [];

    /// <summary>The system's message; null: there is none.</summary>
    public string? System { get; set; }

    /// <summary>All of it, as the model gets it.</summary>
    public IReadOnlyList<ChatMessage> Messages => System is null ? [.. _turns] : [new("system", System), .. _turns];

    /// <summary>What was said by user and assistant.</summary>
    public IReadOnlyList<ChatMessage> Turns
    {
        get => [.. _turns];
        set => _turns = [.. value];
    }

    /// <summary>The user says something.</summary>
    public void Ask(string text) => _turns.Add(new("user", text));

    /// <summary>The assistant has answered; nothing: the question is taken back.</summary>
    public void Answer(string text)
    {
        if (text.Length > 0)
        {
            _turns.Add(new("assistant", text));
        }
        else
        {
            _turns.RemoveAt(_turns.Count - 1);
        }
    }

    /// <summary>Forgets the oldest question and its answer; false: only the last question is left.</summary>
    public bool DropOldest()
    {
        var next = _turns.FindIndex(1, message => message.Role == "user");
        if (next > 0)
        {
            _turns.RemoveRange(0, next);
        }

        return next > 0;
    }

    /// <summary>Forgets the turns.</summary>
    public void Clear() => _turns.Clear();
}
