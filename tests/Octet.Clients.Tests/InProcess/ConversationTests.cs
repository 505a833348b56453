using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Extensions.AI;

namespace Octet.Clients.Tests.InProcess;

/// <summary>Messages as chat templates get them.</summary>
public sealed class ConversationTests
{
    [Fact]
    public void Messages_of_every_role_become_turns_and_instructions_stand_before_them()
    {
        var turns = Conversation.Read(
            [
                new(new ChatRole("developer"), "Be kind."),
                new(ChatRole.User, [new TextContent("a"), new TextContent("b")]) { AuthorName = "ann" },
                new(ChatRole.Assistant, [new TextContent("c"), new TextContent("d"), new TextReasoningContent("e"), new UsageContent(new())]),
                new(
                    ChatRole.Assistant,
                    [new FunctionCallContent("1", "f", new Dictionary<string, object?> { ["x"] = 2, ["y"] = null }), new FunctionCallContent("2", "g")]),
                new(ChatRole.Tool, [new FunctionResultContent("1", "plain"), new FunctionResultContent("2", JsonElement.Parse("\"quoted\""))]),
                new(ChatRole.Tool, [new FunctionResultContent("3", new Dictionary<string, object?> { ["z"] = 1 }), new FunctionResultContent("4", null)]),
            ],
            "Be brief.");
        Assert.Equal(
            [
                ("system", "Be brief."), ("system", "Be kind."), ("user", "a\nb"), ("assistant", "cd"), ("assistant", null),
                ("tool", "plain"), ("tool", "quoted"), ("tool", "{\"z\":1}"), ("tool", ""),
            ],
            turns.Select(turn => (turn.Role, turn.Content)));
        Assert.Equal("ann", turns[2].Name);
        Assert.Equal("e", turns[3].ReasoningContent);
        Assert.Equal(
            [("f", "{\"x\":2,\"y\":null}", "1"), ("g", "{}", "2")],
            turns[4].ToolCalls!.Select(call => (call.Name, JsonSerializer.Serialize(call.Arguments), call.Id!)));
        Assert.Equal(["1", "2", "3", "4"], turns.Where(turn => turn.Role == "tool").Select(turn => turn.ToolCallId!));
    }

    public static TheoryData<ChatRole, AIContent, string> Unsupported => new()
    {
        { ChatRole.User, new DataContent(new byte[] { 1 }, "image/png"), "messages[1] has a DataContent (image/png)" },
        { ChatRole.User, new DataContent(new byte[] { 1 }, "audio/wav"), "messages[1] has a DataContent (audio/wav)" },
        { ChatRole.System, new UriContent("https://localhost/a.png", "image/png"), "messages[1] has a UriContent (image/png)" },
        { ChatRole.User, new FunctionResultContent("1", "x"), "messages[1] has a FunctionResultContent" },
        { ChatRole.Assistant, new HostedFileContent("f"), "messages[1] has a HostedFileContent" },
        { ChatRole.Tool, new TextContent("x"), "messages[1] has a TextContent" },
    };

    [Theory]
    [MemberData(nameof(Unsupported))]
    public void Content_that_the_model_cannot_read_is_named(ChatRole role, AIContent content, string named)
    {
        var error = Assert.Throws<NotSupportedException>(() => Conversation.Read([new(ChatRole.User, "Hello"), new(role, [content])], null));
        Assert.StartsWith(named, error.Message);
    }

    [Fact]
    public void Unknown_role_is_refused() =>
        Assert.Throws<ArgumentException>(() => Conversation.Read([new(new ChatRole("judge"), "Hello")], null));
}
