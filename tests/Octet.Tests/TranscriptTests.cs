using System.Diagnostics;
using System.Text.RegularExpressions;
using Octet.Tests.Cli.Serving;

namespace Octet.Tests;

/// <summary>
/// The transcripts of README.md and docs/*.md (fences of console): each begins with octet serve; what follows is typed while it runs, and prints
/// what stands below it. There "..." is anything, and an indented line goes on with the one before it.
/// </summary>
public sealed partial class TranscriptTests
{
    public static TheoryData<string, string> Transcripts =>
        [.. MarkdownFile.All.SelectMany(file => file.Transcripts.Select(text => new TheoryDataRow<string, string>(file.Name, text)))];

    [Theory]
    [MemberData(nameof(Transcripts))]
    public async Task Transcript_is_what_is_printed(string file, string text)
    {
        var entries = Entry().Matches(text).Select(match => (Command: match.Groups["command"].Value, Output: match.Groups["output"].Value)).ToList();
        Assert.True(entries.Count > 1, file);
        Assert.Equal("octet serve", entries[0].Command);
        await using var server = await OctetServer.StartAsync();
        Assert.Matches(Pattern(entries[0].Output), $"octet serves tiny-shakespeare at {Address}");
        foreach (var (command, output) in entries.Skip(1))
        {
            var printed = await Run(command.Replace(Address, server.Address, StringComparison.Ordinal));
            Assert.True(Pattern(output).IsMatch(printed), $"{command}\nprinted\n{printed}");
        }
    }

    [Fact]
    public void Readme_has_a_transcript() => Assert.Contains("README.md", MarkdownFile.All.Where(file => file.Transcripts.Count > 0).Select(file => file.Name));

    [Theory]
    [InlineData("a ... c\n", "a b c", true)]
    [InlineData("{\"a\":\n  1}\n", "{\"a\":1}", true)]
    [InlineData("a\n\nb\n", "a\n\nb\n\n", true)]
    [InlineData("a ... c\n", "a b c d", false)]
    [InlineData("a\n", "b", false)]
    public void Dots_are_anything_and_indented_lines_go_on(string expected, string printed, bool matches) =>
        Assert.Equal(matches, Pattern(expected).IsMatch(printed));

    // Where the documents have it; here it listens at a free port.
    private const string Address = "http://127.0.0.1:8000";

    private static Regex Pattern(string output) =>
        new($"^{Regex.Escape(Indentation().Replace(output, "").TrimEnd()).Replace(@"\.\.\.", ".*", StringComparison.Ordinal)}\\s*$", RegexOptions.Singleline);

    private static async Task<string> Run(string command)
    {
        var start = new ProcessStartInfo("bash", ["-c", command]) { RedirectStandardOutput = true };
        using var process = Process.Start(start)!;
        var printed = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"exit code {process.ExitCode} of {command}: {printed}");
        return printed;
    }

    // A command, too, goes on in lines that are indented.
    [GeneratedRegex(@"^\$ (?<command>[^\n]*(?:\n +[^\n]*)*)\n(?<output>(?:(?!\$ )[^\n]*\n)*)", RegexOptions.Multiline)]
    private static partial Regex Entry();

    [GeneratedRegex(@"\n +")]
    private static partial Regex Indentation();
}
