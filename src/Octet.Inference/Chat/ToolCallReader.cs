using System.Text;

namespace Octet.Inference.Chat;

/// <summary>
/// Finds tool calls in the text of an answer as it comes, in Hermes' form:
/// <c>&lt;tool_call&gt;{"name": "f", "arguments": {"x": 1}}&lt;/tool_call&gt;</c>, once for each call. Arguments are passed on as the model
/// wrote them, character by character. What is not of that form is text.
/// </summary>
internal sealed class ToolCallReader
{
    /// <summary>What opens a call.</summary>
    public const string Open = "<tool_call>";

    /// <summary>What closes it.</summary>
    public const string Close = "</tool_call>";

    // Of text: what may be the beginning of a call. Of a call: all of it so far that was not passed on.
    private readonly StringBuilder _held = new();
    private readonly Func<string> _createId;
    private State _state;
    private JsonValueScanner _arguments;

    /// <param name="createId">Names a call.</param>
    public ToolCallReader(Func<string> createId) => _createId = createId;

    private enum State
    {
        Text,

        // Between the marker and the arguments: held until the name is complete.
        Head,
        Arguments,

        // Behind the arguments.
        Tail,
    }

    /// <summary>Calls so far.</summary>
    public int Calls { get; private set; }

    /// <summary>Takes the next characters, and adds what they give.</summary>
    public void Push(string text, List<ChatUpdate> updates)
    {
        _held.Append(text);
        while (Advance(updates))
        {
        }
    }

    /// <summary>The answer has ended: what was held is text, or is the rest of a call.</summary>
    public void End(List<ChatUpdate> updates)
    {
        if (_state is State.Text or State.Head && _held.Length > 0)
        {
            AddText(_state == State.Head ? Open + _held : _held.ToString(), updates);
        }

        _held.Clear();
        _state = State.Text;
    }

    // Whether there is more to do with what is held.
    private bool Advance(List<ChatUpdate> updates) => _state switch
    {
        State.Text => ReadText(updates),
        State.Head => ReadHead(updates),
        State.Arguments => ReadArguments(updates),
        _ => ReadTail(updates),
    };

    private bool ReadText(List<ChatUpdate> updates)
    {
        var held = _held.ToString();
        var at = held.IndexOf(Open, StringComparison.Ordinal);
        var end = at >= 0 ? at : held.Length - PartialLength(held, Open);
        if (end > 0)
        {
            // Line breaks between calls are of the form and not of the text.
            var text = held[..end];
            if (Calls == 0 || !string.IsNullOrWhiteSpace(text))
            {
                AddText(text, updates);
            }
        }

        _held.Remove(0, at >= 0 ? at + Open.Length : end);
        if (at < 0)
        {
            return false;
        }

        _state = State.Head;
        return _held.Length > 0;
    }

    private bool ReadHead(List<ChatUpdate> updates)
    {
        switch (ToolCallHead.Read(_held.ToString(), out var head))
        {
            case ToolCallHead.Result.Incomplete when !_held.ToString().Contains(Close, StringComparison.Ordinal):
                return false;
            case ToolCallHead.Result.Complete:
                updates.Add(new() { Text = "", ToolCall = new(Calls, "") { Id = _createId(), Name = head.Name } });
                _held.Remove(0, head.Length);
                if (!head.HasArguments)
                {
                    updates.Add(new() { Text = "", ToolCall = new(Calls, "{}") });
                }

                _arguments = default;
                _state = head.HasArguments ? State.Arguments : State.Tail;
                Calls++;
                return true;
            default:
                // No call: the marker and what follows is text.
                AddText(Open, updates);
                _state = State.Text;
                return _held.Length > 0;
        }
    }

    private bool ReadArguments(List<ChatUpdate> updates)
    {
        var held = _held.ToString();
        var length = _arguments.Scan(held);
        if (length > 0)
        {
            updates.Add(new() { Text = "", ToolCall = new(Calls - 1, held[..length]) });
        }

        _held.Remove(0, length);
        if (!_arguments.IsComplete)
        {
            return false;
        }

        _state = State.Tail;
        return true;
    }

    private bool ReadTail(List<ChatUpdate> updates)
    {
        var held = _held.ToString();
        var at = held.IndexOf(Close, StringComparison.Ordinal);
        if (at < 0)
        {
            // Of the rest only what may become the marker counts.
            _held.Remove(0, held.Length - PartialLength(held, Close));
            return false;
        }

        _held.Remove(0, at + Close.Length);
        _state = State.Text;
        return _held.Length > 0;
    }

    private static void AddText(string text, List<ChatUpdate> updates) => updates.Add(new() { Text = text });

    /// <summary>Length of the longest end of a text that is a beginning of the marker, but not all of it.</summary>
    private static int PartialLength(string text, string marker)
    {
        for (var length = Math.Min(text.Length, marker.Length - 1); length > 0; length--)
        {
            if (text.AsSpan()[^length..].SequenceEqual(marker.AsSpan(0, length)))
            {
                return length;
            }
        }

        return 0;
    }
}
