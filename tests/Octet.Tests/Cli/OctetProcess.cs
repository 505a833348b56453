using System.Diagnostics;

namespace Octet.Tests.Cli;

/// <summary>The octet command in a process of its own.</summary>
internal static class OctetProcess
{
    public static Task<(int Code, string Output, string Error)> Run(string[] arguments, string? libraryPath = null) =>
        Run(arguments, ("LD_LIBRARY_PATH", libraryPath));

    public static async Task<(int Code, string Output, string Error)> Run(string[] arguments, (string Name, string? Value) variable)
    {
        using var process = Start(arguments, variable);
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }

    /// <summary>A line of bash in which octet is the command.</summary>
    public static async Task<(int Code, string Output, string Error)> Shell(string script)
    {
        var start = new ProcessStartInfo("bash") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add($"octet() {{ dotnet exec '{Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll")}' \"$@\"; }}; {script}");
        start.Environment.Remove("OCTET_DEVICE");
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }

    public static Process Start(params string[] arguments) => Start(arguments, ("", null));

    /// <summary>A command whose stdin the test writes, and which traces its launches on stderr.</summary>
    public static Process StartWithInput(params string[] arguments) => Start(arguments, ("OCTET_TRACE", "1"), input: true);

    private static Process Start(string[] arguments, (string Name, string? Value) variable, bool input = false)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardInput = input, RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll"));
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment.Remove("OCTET_DEVICE");
        if (variable.Value is not null)
        {
            start.Environment[variable.Name] = variable.Value;
        }

        return Process.Start(start)!;
    }
}
