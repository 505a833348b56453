using System.Diagnostics;

namespace Octet.Tests.Cli;

/// <summary>The octet command in a process of its own.</summary>
internal static class OctetProcess
{
    private const string Command = "Octet.Cli.dll";

    public static Task<(int Code, string Output, string Error)> Run(string[] arguments, params (string Name, string Value)[] variables) =>
        Run(Command, arguments, variables);

    /// <summary>Tests of this assembly in a process of their own.</summary>
    /// <param name="methods">Their names, without the class.</param>
    /// <param name="variables">Of its environment.</param>
    public static Task<(int Code, string Output, string Error)> RunTests(string[] methods, params (string Name, string Value)[] variables) =>
        Run("Octet.Tests.dll", ["-noColor", .. methods.SelectMany(method => (string[])["-method", $"*.{method}"])], variables);

    private static async Task<(int Code, string Output, string Error)> Run(string assembly, string[] arguments, (string Name, string Value)[] variables)
    {
        using var process = Start(assembly, arguments, variables);
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
        start.ArgumentList.Add($"octet() {{ dotnet exec '{Path.Combine(AppContext.BaseDirectory, Command)}' \"$@\"; }}; {script}");
        start.Environment.Remove("OCTET_DEVICE");
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await output, await error);
    }

    public static Process Start(params string[] arguments) => Start(Command, arguments, []);

    /// <summary>A command whose stdin the test writes, and which traces its launches on stderr.</summary>
    public static Process StartWithInput(params string[] arguments) => Start(Command, arguments, [("OCTET_TRACE", "1")], input: true);

    private static Process Start(string assembly, string[] arguments, (string Name, string Value)[] variables, bool input = false)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardInput = input, RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, assembly));
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        start.Environment.Remove("OCTET_DEVICE");
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }
}
