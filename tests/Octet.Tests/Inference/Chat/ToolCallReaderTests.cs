using System.Text;
using Octet.Inference.Chat;

namespace Octet.Tests.Inference.Chat;

/// <summary>Tool calls are found in the text of an answer, however it is cut into pieces.</summary>
public sealed class ToolCallReaderTests
{
    public static TheoryData<string, string> Answers => new()
    {
        { "Nothing to call.", "text(Nothing to call.)" },
        { "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>", "call(f){\"x\": 1}" },
        { "Wait.<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>", "text(Wait.)call(f){}" },

        // Several, with line breaks between that are not text.
        {
            "<tool_call>\n{\"name\": \"a\", \"arguments\": {\"s\": \"}]\\\"{\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"b\", \"arguments\": {\"l\": [1, [2]]}}\n</tool_call>",
            "call(a){\"s\": \"}]\\\"{\"}call(b){\"l\": [1, [2]]}"
        },

        // As the model wrote them: spaces and order stay.
        { "<tool_call>{ \"name\" : \"f\" ,\n \"arguments\" :\n{ \"b\" : 2,\"a\":1 }}</tool_call>", "call(f){ \"b\" : 2,\"a\":1 }" },

        // No arguments are those of an empty object.
        { "<tool_call>{\"name\": \"f\"}</tool_call>", "call(f){}" },

        // Members before the name are passed over.
        { "<tool_call>{\"id\": {\"n\": [1]}, \"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>", "call(f){\"x\": 1}" },
        { "<tool_call>{\"name\": \"caf\\u00e9 \\\"x\\\"\", \"arguments\": {\"é\": \"☕\"}}</tool_call>", "call(café \"x\"){\"é\": \"☕\"}" },

        // What only begins like a call is text.
        { "a < b <tool", "text(a < b <tool)" },
        { "<tool_call>not JSON</tool_call>", "text(<tool_call>not JSON</tool_call>)" },
        { "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>", "text(<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>)" },
        { "<tool_call>{\"name\": \"f\"", "text(<tool_call>{\"name\": \"f\")" },

        // An answer that was cut off within its arguments, and one behind them.
        { "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"ab", "call(f){\"x\": \"ab" },
        { "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_", "call(f){\"x\": 1}" },
    };

    [Theory]
    [MemberData(nameof(Answers))]
    public void Is_the_same_however_the_answer_is_cut(string answer, string expected)
    {
        Assert.Equal(expected, Read([answer]));
        Assert.Equal(expected, Read([.. answer.Select(c => c.ToString())]));
        for (var i = 1; i < answer.Length; i++)
        {
            Assert.Equal(expected, Read([answer[..i], answer[i..]]));
        }
    }

    [Fact]
    public void Passes_arguments_on_as_they_come()
    {
        var reader = new ToolCallReader(() => "id");
        var updates = new List<ChatUpdate>();
        reader.Push("Hm.<tool_", updates);
        Assert.Equal("Hm.", Assert.Single(updates).Text);
        updates.Clear();
        reader.Push("call>{\"name\": \"f\", \"arguments\": {\"x", updates);
        Assert.Equal(2, updates.Count);
        Assert.Equal(("id", "f", ""), (updates[0].ToolCall!.Id, updates[0].ToolCall!.Name, updates[0].ToolCall!.Arguments));
        Assert.Equal((null, null, "{\"x"), (updates[1].ToolCall!.Id, updates[1].ToolCall!.Name, updates[1].ToolCall!.Arguments));
    }

    // The pieces put together: text(...) and call(name)arguments, in order.
    private static string Read(string[] pieces)
    {
        var reader = new ToolCallReader(() => "id");
        var updates = new List<ChatUpdate>();
        Array.ForEach(pieces, piece => reader.Push(piece, updates));
        reader.End(updates);
        var (read, text) = (new StringBuilder(), new StringBuilder());
        foreach (var update in updates)
        {
            text.Append(update.Text);
            if (update.ToolCall is not { } call)
            {
                continue;
            }

            EndText();
            read.Append(call.Name is null ? call.Arguments : $"call({call.Name})");
        }

        EndText();
        return read.ToString();

        void EndText()
        {
            read.Append(text.Length == 0 ? "" : $"text({text})");
            text.Clear();
        }
    }
}
