using System.CommandLine;
using System.Runtime.InteropServices;
using Octet.Inference.Loading;
using Octet.Inference.Planning;

namespace Octet.Cli;

/// <summary>How every command runs: bad input is one line on stderr and exit code 2, never a stack trace; Ctrl-C ends it cleanly.</summary>
internal static class CommandLine
{
    /// <summary>The command did what was asked.</summary>
    public const int Success = 0;

    /// <summary>A check failed.</summary>
    public const int CheckFailed = 1;

    /// <summary>Input that cannot be used: options, files, devices.</summary>
    public const int BadInput = 2;

    /// <summary>Stopped from the keyboard, by the shells' convention.</summary>
    public const int Interrupted = 130;

    /// <summary>Stopped by another process, by the shells' convention.</summary>
    public const int Terminated = 143;

    /// <summary>Nobody reads the output any more, by the shells' convention for the signal that ends other commands then.</summary>
    public const int ReaderGone = 141;

    // Runs when nobody reads stdout any more.
    private static Action s_readerGone = () => { };

    // Whether Ctrl-C has another meaning at the moment.
    private static Func<bool> s_takesInterrupt = () => false;

    // One step of a model in the simulator may take longer than anybody waits for.
    private static TimeSpan s_patience = TimeSpan.FromSeconds(3);

    public static async Task<int> RunAsync(Command root, string[] args)
    {
        StandardOutput.Install();

        // '@' begins a tensor in --ids, not a response file.
        var parsed = root.Parse(args.Length == 0 ? ["--help"] : args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
        {
            var path = string.Concat(Path(parsed.CommandResult.Command, root).Select(name => name + " "));
            Complain($"{string.Join(" ", parsed.Errors.Select(error => error.Message))} See 'octet {path}--help'.");
            return BadInput;
        }

        if (args.Length == 0)
        {
            await parsed.InvokeAsync(new() { Output = Console.Error });
            return BadInput;
        }

        using var cancellation = new CancellationTokenSource();
        var code = 0;
        bool Stop(int reason)
        {
            var isFirst = Interlocked.CompareExchange(ref code, reason, 0) == 0;
            if (isFirst)
            {
                cancellation.Cancel();
            }

            return isFirst;
        }

        // The first signal asks; a second one ends the process as it would have done by itself.
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = s_takesInterrupt() || Stop(Interrupted));
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => signal.Cancel = Stop(Terminated));
        s_readerGone = () => Stop(ReaderGone);

        // On a thread of its own, so that a command that never yields can be stopped too.
        var run = Task.Run(() => parsed.InvokeAsync(new() { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, cancellation.Token));
        try
        {
            await Task.WhenAny(run, AfterPatience(cancellation.Token));
            if (!run.IsCompleted)
            {
                NoteInterruption(code);
                Environment.Exit(code);
            }

            return await run;
        }
        catch (OperationCanceledException)
        {
            NoteInterruption(code);
            return code;
        }
        catch (StandardOutputException error) when (error.ReaderIsGone)
        {
            return ReaderGone;
        }
        catch (OutOfMemoryException error)
        {
            Complain($"not enough memory: {error.Message}");
            return BadInput;
        }
        catch (Exception error) when (error is ModelFormatException or PlanException or OctetException or ArgumentException or NotFiniteNumberException or IOException or UnauthorizedAccessException)
        {
            Complain(error.Message);
            return BadInput;
        }
    }

    /// <summary>For commands that work long for what they print: they end within a step once nobody reads stdout any more.</summary>
    /// <exception cref="StandardOutputException">stdout is closed.</exception>
    public static void StopWithoutReader() => StandardOutput.WatchReader(s_readerGone);

    /// <summary>For commands that end in their own time once they are asked to; a second signal ends them at once.</summary>
    public static void StopInOwnTime() => s_patience = Timeout.InfiniteTimeSpan;

    /// <summary>For commands in which Ctrl-C may stop something else than the command.</summary>
    /// <param name="takes">Called for each; true: it was meant otherwise, the command goes on.</param>
    public static void TakeInterrupts(Func<bool> takes) => s_takesInterrupt = takes;

    /// <summary>One line on stderr, with the name of the command before it.</summary>
    public static void Complain(string message) => Note($"octet: {message}");

    /// <summary>One line on stderr.</summary>
    public static void Note(string message)
    {
        try
        {
            Console.Error.WriteLine(string.Concat(message.ReplaceLineEndings(" ").Select(c => char.IsControl(c) ? ' ' : c)));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Nobody listens: stderr is closed.
        }
    }

    // Whoever stopped reading knows it.
    private static void NoteInterruption(int code)
    {
        if (code != ReaderGone)
        {
            Complain("interrupted");
        }
    }

    private static async Task AfterPatience(CancellationToken cancellation)
    {
        await Task.Delay(Timeout.InfiniteTimeSpan, cancellation).ContinueWith(static _ => { }, TaskScheduler.Default);
        await Task.Delay(s_patience, CancellationToken.None);
    }

    private static IEnumerable<string> Path(Command command, Command root) =>
        command == root ? [] : [.. command.Parents.OfType<Command>().SelectMany(parent => Path(parent, root)), command.Name];
}
