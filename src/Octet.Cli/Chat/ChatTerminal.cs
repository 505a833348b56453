using System.Text;

namespace Octet.Cli.Chat;

/// <summary>
/// The terminal of a conversation. Lines are edited as the terminal does it. Ctrl-C stops the answer that is under way; without one it
/// drops the line, and the second in a row ends the command. Where stdin is no terminal there are no marks, and Ctrl-C ends the command.
/// </summary>
internal sealed class ChatTerminal
{
    private const string Mark = "> ";

    private readonly Lock _lock = new();
    private readonly bool _isTerminal = !Console.IsInputRedirected;
    private readonly StreamReader? _input = StandardOutput.IsClosed(0) ? null : new(Console.OpenStandardInput(), new UTF8Encoding(false));
    private CancellationTokenSource? _answer;
    private bool _wasInterrupted;

    public ChatTerminal()
    {
        if (_isTerminal)
        {
            CommandLine.TakeInterrupts(TakeInterrupt);
        }
    }

    /// <summary>Whether somebody sits before it.</summary>
    public bool IsTerminal => _isTerminal;

    /// <summary>The next line; null: there is none.</summary>
    public async Task<string?> ReadAsync(CancellationToken cancellation)
    {
        WriteMark();
        if (_input is null)
        {
            return null;
        }

        // A terminal may give nothing for a long time, in a call that cannot be cancelled: it is left to itself then.
        var line = await Task.Run(_input.ReadLine, CancellationToken.None).WaitAsync(cancellation);
        lock (_lock)
        {
            _wasInterrupted = false;
        }

        return line;
    }

    /// <summary>Begins an answer, which the token stops.</summary>
    public CancellationTokenSource BeginAnswer(CancellationToken cancellation)
    {
        lock (_lock)
        {
            return _answer = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        }
    }

    /// <summary>Ends it.</summary>
    public void EndAnswer()
    {
        lock (_lock)
        {
            _answer?.Dispose();
            _answer = null;
        }
    }

    /// <summary>Writes a piece of an answer. What would move the cursor or change the terminal is left out.</summary>
    public static void Write(string text)
    {
        Console.Out.Write(Console.IsOutputRedirected ? text : string.Concat(text.Where(c => !char.IsControl(c) || c is '\n' or '\t')));
        Console.Out.Flush();
    }

    // On stderr, so that stdout has the answers alone.
    private void WriteMark()
    {
        if (_isTerminal)
        {
            Console.Error.Write(Mark);
            Console.Error.Flush();
        }
    }

    private bool TakeInterrupt()
    {
        lock (_lock)
        {
            if (_answer is not null)
            {
                _answer.Cancel();
                return _wasInterrupted = true;
            }

            if (_wasInterrupted)
            {
                return false;
            }

            _wasInterrupted = true;
        }

        CommandLine.Note(" (Ctrl-C again, Ctrl-D or /exit ends the conversation)");
        WriteMark();
        return true;
    }
}
