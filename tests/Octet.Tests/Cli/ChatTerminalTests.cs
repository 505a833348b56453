using System.Diagnostics;
using System.Text;
using Microsoft.AspNetCore.Http;
using Octet.Cli.Chat;
using Octet.Tests.Cli.Serving;

namespace Octet.Tests.Cli;

/// <summary>octet chat as a user has it: stdin, stdout, stderr, and a terminal.</summary>
public sealed class ChatTerminalTests
{
    [Fact]
    public void The_oldest_turn_is_dropped_and_the_system_message_stays()
    {
        var conversation = new Conversation { System = "be kind" };
        foreach (var text in (string[])["a", "b"])
        {
            conversation.Ask(text);
            conversation.Answer(text.ToUpperInvariant());
        }

        conversation.Ask("c");
        Assert.True(conversation.DropOldest());
        Assert.Equal(["be kind", "b", "B", "c"], conversation.Messages.Select(message => message.Content));
        Assert.True(conversation.DropOldest());
        Assert.False(conversation.DropOldest());
        conversation.Answer("");
        Assert.Equal(["be kind"], conversation.Messages.Select(message => message.Content));
    }

    [Fact]
    public async Task Each_line_of_stdin_is_a_turn_and_the_history_is_in_the_prefix_cache()
    {
        var (code, output, error) = await Chat(
            $"{string.Concat(Enumerable.Repeat("Good morrow, cousin. ", 8))}\n\nWhat news?\n/clear\nWhat news?\n/nonsense\n/exit\nnot reached\n", "--temperature", "0", "--max-tokens", "8", "--stats");
        Assert.Equal(0, code);
        Assert.DoesNotContain("> ", output + error, StringComparison.Ordinal);
        var statistics = error.Split('\n').Where(line => line.Contains("prompt tokens", StringComparison.Ordinal)).ToArray();
        Assert.Equal(3, statistics.Length);
        Assert.Contains("(0 cached)", statistics[0], StringComparison.Ordinal);
        Assert.DoesNotContain("(0 cached)", statistics[1], StringComparison.Ordinal);
        Assert.Contains("(0 cached)", statistics[2], StringComparison.Ordinal);
        Assert.Contains("octet: there is no /nonsense; /help lists what there is", error, StringComparison.Ordinal);

        // What was forgotten has no part in the answer.
        var (_, alone, _) = await Chat("What news?\n", "--temperature", "0", "--max-tokens", "8");
        Assert.EndsWith(alone, output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Where_the_context_is_full_the_oldest_turns_go_and_a_message_beyond_it_is_refused()
    {
        var (code, _, error) = await Chat("Who?\nWhat?\nWhen?\n", "--max-model-len", "100", "--max-tokens", "40", "--stats", "--seed", "1");
        Assert.Equal(0, code);
        Assert.Contains("(the context is full: the oldest turn was dropped)", error, StringComparison.Ordinal);
        (code, var output, error) = await Chat(string.Join(' ', Enumerable.Repeat("word", 200)), "--max-model-len", "100");
        Assert.Equal((2, ""), (code, output));
        Assert.Matches(@"^octet: the conversation has \d+ tokens, the context 100: no room is left for an answer$", error.Trim());
    }

    [Fact]
    public async Task A_server_gets_the_conversation_and_may_say_that_it_is_too_long()
    {
        await using var server = await ScriptedServer.StartAsync(async (http, body) =>
        {
            if (body.GetProperty("messages").GetArrayLength() > 3)
            {
                http.Response.StatusCode = 400;
                await http.Response.WriteAsync("""{"error":{"message":"too long","code":"context_length_exceeded"}}""");
                return;
            }

            await ScriptedServer.StreamAsync(
                http, (0, ScriptedServer.Chunk("well ")), (0, ScriptedServer.Chunk("met")),
                (0, """{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"""), (0, "[DONE]"));
        });
        var (code, output, error) = await Chat(
            "hail\n//me\n", "--base-url", server.Address, "--model", "m", "--system", "be kind", "--seed", "9007199254740993", "--top-k", "5", "--stop", "x",
            "--template-kwargs", "{\"enable_thinking\":false}", "--stats");
        Assert.Equal((0, "well met\nwell met\n"), (code, output.ReplaceLineEndings("\n")));
        Assert.Contains("9 prompt tokens (4 cached), 2 generated", error, StringComparison.Ordinal);
        Assert.Contains("the oldest turn was dropped", error, StringComparison.Ordinal);
        var bodies = server.Requests.Select(request => request.Body).ToArray();
        Assert.Equal(3, bodies.Length);
        Assert.Equal("""[{"role":"system","content":"be kind"},{"role":"user","content":"hail"}]""", bodies[0].GetProperty("messages").GetRawText());
        Assert.Equal(4, bodies[1].GetProperty("messages").GetArrayLength());
        Assert.Equal("""[{"role":"system","content":"be kind"},{"role":"user","content":"/me"}]""", bodies[2].GetProperty("messages").GetRawText());
        Assert.Equal(9007199254740993, bodies[0].GetProperty("seed").GetInt64());
        Assert.Equal((5, "[\"x\"]", "{\"enable_thinking\":false}"), (bodies[0].GetProperty("top_k").GetInt32(), bodies[0].GetProperty("stop").GetRawText(), bodies[0].GetProperty("chat_template_kwargs").GetRawText()));
        Assert.False(bodies[0].TryGetProperty("temperature", out _));
    }

    [Fact]
    public async Task In_a_terminal_Ctrl_C_stops_the_answer_and_the_second_at_a_prompt_ends()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/script"), "script of util-linux, which makes a terminal, is not installed");

        // An answer that ends in no other way.
        var cut = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = await ScriptedServer.StartAsync(async (http, _) =>
        {
            try
            {
                http.Response.ContentType = "text/event-stream";
                while (true)
                {
                    await http.Response.WriteAsync($"data: {ScriptedServer.Chunk("and so on\u001b[2J\n")}\n\n", http.RequestAborted);
                    await Task.Delay(10, http.RequestAborted);
                }
            }
            catch (OperationCanceledException)
            {
                cut.SetResult();
            }
        });
        var start = new ProcessStartInfo("/usr/bin/script") { RedirectStandardInput = true, RedirectStandardOutput = true };
        var command = $"dotnet exec '{Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll")}' chat --base-url {server.Address} --model m --stats";
        foreach (var argument in (string[])["-q", "-e", "-c", command, "/dev/null"])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var terminal = new Terminal(process);
        await terminal.ReadUntil("> ");
        await terminal.Type("hello\n");
        await terminal.ReadUntil("hello\r\n");
        await terminal.ReadUntil("and so on[2J\r\n"); // without what would clear the screen
        await terminal.Type("\u0003");
        await terminal.ReadUntil("tokens/s");
        await cut.Task.WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken);
        await terminal.ReadUntil("> ");
        await terminal.Type("/clear\n");
        await terminal.ReadUntil("> ");
        await terminal.Type("half a line\u0003");
        await terminal.ReadUntil("(Ctrl-C again, Ctrl-D or /exit ends the conversation)\r\n> ");
        await terminal.Type("\u0003");
        await terminal.ReadUntil("octet: interrupted");
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(130, process.ExitCode);
    }

    private static async Task<(int Code, string Output, string Error)> Chat(string input, params string[] options)
    {
        var device = options.Contains("--base-url") ? Array.Empty<string>() : ["--device", "cpu"];
        var start = new ProcessStartInfo("dotnet") { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var argument in (string[])["exec", Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll"), "chat", .. device, .. options])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }

    /// <summary>Both sides of a terminal.</summary>
    private sealed class Terminal(Process process)
    {
        private readonly byte[] _buffer = new byte[4096];
        private string _read = "";

        public async Task Type(string keys)
        {
            await process.StandardInput.BaseStream.WriteAsync(Encoding.UTF8.GetBytes(keys));
            await process.StandardInput.BaseStream.FlushAsync();
        }

        public async Task<string> ReadUntil(string text)
        {
            using var timeout = new CancellationTokenSource(TimeSpan.FromMinutes(1));
            while (!_read.Contains(text, StringComparison.Ordinal))
            {
                var reading = process.StandardOutput.BaseStream.ReadAsync(_buffer, timeout.Token).AsTask();
                var length = await reading.ContinueWith(static read => read.IsCompletedSuccessfully ? read.Result : 0, TaskScheduler.Default);
                Assert.True(length > 0, $"no '{text}' in '{_read}'");
                _read += Encoding.UTF8.GetString(_buffer, 0, length);
            }

            var end = _read.IndexOf(text, StringComparison.Ordinal) + text.Length;
            (var before, _read) = (_read[..end], _read[end..]);
            return before;
        }
    }
}
