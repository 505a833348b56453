using System.CommandLine;
using System.Diagnostics;
using System.Text;
using Octet.Cli.Chat;
using Octet.Cli.Serving;
using Octet.Inference.Chat;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Cli;

/// <summary>octet chat: a conversation in the terminal, or a line of stdin for each turn.</summary>
internal sealed class ChatCommand
{
    private const int DefaultTokens = 512;

    private const string Help =
        """
        /system TEXT   set the system's message; without TEXT: remove it
        /clear         forget what was said; the system's message stays
        /help          this
        /exit          end, as Ctrl-D does
        //...          a message that begins with /
        Ctrl-C stops the answer; without one it drops the line, and the second ends.
        """;

    private readonly ModelArguments _model;
    private readonly SamplingArguments _sampling;
    private readonly TemplateVariables _variables;
    private readonly ApiArguments _api;
    private readonly Option<string?> _system = new("--system") { Description = "The system's message" };
    private readonly Option<int?> _context = NumberOption.Create<int>(
        "--max-model-len", "Longest conversation and answer together, in tokens; default: the model's", "a whole number from 1",
        x => x >= 1);
    private readonly Option<bool> _statistics = new("--stats") { Description = "After each answer, its tokens and times on stderr" };

    private ChatCommand(Command command)
    {
        _model = new(command);
        _api = new(command, "A server of OpenAI's API that answers instead of a model here; --model is then its name", null);
        command.Add(_system);
        command.Add(_context);
        command.Add(_statistics);
        _variables = new(command, "Variables of the chat template");
        _sampling = new(command, json: null, DefaultTokens);
    }

    public static Command Create()
    {
        var command = new Command(
            "chat", "Talk to a model, in the terminal or with a line of stdin for each turn; /help lists what can be typed");
        var chat = new ChatCommand(command);
        command.SetAction((parsed, cancellation) => chat.RunAsync(parsed, cancellation));
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancellation)
    {
        CommandLine.StopWithoutReader();
        var options = _sampling.Options(parsed);
        var variables = _variables.Read(parsed);
        if (_api.BaseUrl(parsed) is not null)
        {
            using var client = _api.Connect(parsed);
            var name = _model.Name(parsed) ?? await client.FirstModelAsync(cancellation);
            return await TalkAsync(parsed, new RemotePartner(client, name, options, variables), cancellation);
        }

        // Before the weights are read, which may take minutes.
        ChatTemplate.Load(_model.Directory(parsed));
        using var devices = _model.OpenDevices(parsed);
        var context = parsed.GetValue(_context) ?? ModelConfig.Load(_model.Directory(parsed)).MaxContext;
        using var model = _model.Load(parsed, devices, context, cancellation);
        _model.NoteNotApplied(parsed, model.GenerationConfig);
        return await TalkAsync(parsed, new LocalPartner(new ChatModel(model), options, variables), cancellation);
    }

    private async Task<int> TalkAsync(ParseResult parsed, IChatPartner partner, CancellationToken cancellation)
    {
        var terminal = new ChatTerminal();
        var conversation = new Conversation { System = parsed.GetValue(_system) };
        while (await terminal.ReadAsync(cancellation) is { } line)
        {
            if (string.IsNullOrWhiteSpace(line))
            {
                continue;
            }

            if (line[0] == '/' && !line.StartsWith("//", StringComparison.Ordinal))
            {
                if (!Obey(line, conversation))
                {
                    break;
                }

                continue;
            }

            conversation.Ask(line[0] == '/' ? line[1..] : line);
            await AnswerAsync(terminal, conversation, partner, parsed.GetValue(_statistics), cancellation);
        }

        return CommandLine.Success;
    }

    // false: the conversation is over.
    private static bool Obey(string line, Conversation conversation)
    {
        var words = line.TrimEnd().Split(' ', 2);
        switch (words[0])
        {
            case "/exit" or "/quit":
                return false;
            case "/clear":
                conversation.Clear();
                break;
            case "/system":
                conversation.System = words.Length > 1 ? words[1] : null;
                break;
            case "/help":
                Console.Error.WriteLine(Help);
                break;
            default:
                CommandLine.Complain($"there is no {words[0]}; /help lists what there is");
                break;
        }

        return true;
    }

    private static async Task AnswerAsync(
        ChatTerminal terminal, Conversation conversation, IChatPartner partner, bool statistics, CancellationToken cancellation)
    {
        var (dropped, turns) = (0, conversation.Turns);
        while (!partner.HasRoom(conversation.Messages) && conversation.DropOldest())
        {
            dropped++;
        }

        var answer = new Answer();
        try
        {
            while (!await TryAnswerAsync(terminal, conversation, partner, answer, cancellation))
            {
                dropped++;
            }

            Console.Out.WriteLine();
        }
        catch (Exception error) when (terminal.IsTerminal && error is ArgumentException or ApiFailure or OctetException)
        {
            // One question that has no answer is not the end of a conversation.
            CommandLine.Complain(error.Message);
            (dropped, conversation.Turns) = (0, turns);
        }

        conversation.Answer(answer.Text);
        if (dropped > 0)
        {
            CommandLine.Note($"(the context is full: the oldest {(dropped == 1 ? "turn was" : $"{dropped} turns were")} dropped)");
        }

        if (statistics)
        {
            CommandLine.Note(answer.Statistics());
        }
    }

    // false: a turn was dropped, and it may be tried again.
    private static async Task<bool> TryAnswerAsync(
        ChatTerminal terminal, Conversation conversation, IChatPartner partner, Answer answer, CancellationToken cancellation)
    {
        var stop = terminal.BeginAnswer(cancellation).Token;
        try
        {
            await foreach (var piece in partner.AnswerAsync(conversation.Messages, stop))
            {
                answer.Add(piece);
                ChatTerminal.Write(piece.Text);
            }
        }
        catch (Exception error) when (
            error is OperationCanceledException or ApiFailure && stop.IsCancellationRequested && !cancellation.IsCancellationRequested)
        {
            // What was said so far stays said.
        }
        catch (ConversationTooLongException) when (conversation.DropOldest())
        {
            return false;
        }
        finally
        {
            terminal.EndAnswer();
        }

        return true;
    }

    /// <summary>One answer as it comes.</summary>
    private sealed class Answer
    {
        private readonly StringBuilder _text = new();
        private readonly long _start = Stopwatch.GetTimestamp();
        private TimeSpan _first;
        private TimeSpan _last;
        private (int Prompt, int Cached, int Answer) _tokens;

        public string Text => _text.ToString();

        public void Add(in ChatPiece piece)
        {
            _text.Append(piece.Text);
            _tokens = piece.Tokens ?? _tokens;
            if (piece.Text.Length > 0)
            {
                _last = Stopwatch.GetElapsedTime(_start);
                _first = _first == default ? _last : _first;
            }
        }

        public string Statistics()
        {
            var perToken = _tokens.Answer > 1 ? (_last - _first).TotalMilliseconds / (_tokens.Answer - 1) : 0;
            var rate = _last > TimeSpan.Zero ? _tokens.Answer / _last.TotalSeconds : 0;
            return $"{_tokens.Prompt} prompt tokens ({_tokens.Cached} cached), {_tokens.Answer} generated, "
                + $"TTFT {_first.TotalMilliseconds:f1} ms, TPOT {perToken:f2} ms, {rate:f1} tokens/s";
        }
    }
}
