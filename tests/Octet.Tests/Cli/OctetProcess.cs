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

    public static Process Start(params string[] arguments) => Start(arguments, ("", null));

    private static Process Start(string[] arguments, (string Name, string? Value) variable)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
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
