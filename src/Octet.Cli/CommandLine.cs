using System.CommandLine;
using Octet.Inference.Loading;
using Octet.Inference.Planning;

namespace Octet.Cli;

/// <summary>How every command runs: bad input is one line on stderr and exit code 2, never a stack trace.</summary>
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

    public static async Task<int> RunAsync(RootCommand root, string[] args)
    {
        // '@' begins a tensor in --ids, not a response file.
        var parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
        {
            foreach (var error in parsed.Errors)
            {
                Complain(error.Message);
            }

            Console.Error.WriteLine($"See 'octet {string.Join(' ', parsed.CommandResult.Command == root ? [] : [parsed.CommandResult.Command.Name, ""])}--help'.");
            return BadInput;
        }

        try
        {
            return await parsed.InvokeAsync(new() { EnableDefaultExceptionHandler = false });
        }
        catch (OperationCanceledException)
        {
            Complain("interrupted");
            return Interrupted;
        }
        catch (Exception error) when (error is ModelFormatException or PlanException or OctetException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            Complain(error.Message);
            return BadInput;
        }
    }

    /// <summary>One line on stderr.</summary>
    public static void Complain(string message) => Console.Error.WriteLine($"octet: {message.ReplaceLineEndings(" ")}");
}
