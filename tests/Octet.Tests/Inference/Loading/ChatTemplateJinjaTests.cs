using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Octet.Inference.Loading;
using Octet.Inference.Loading.Templates;
using Xunit;

namespace Octet.Tests.Inference.Loading;

/// <summary>
/// Templates render as jinja2 renders them: thousands of small ones, and templates in the style of model families over random conversations. The expectations
/// are what tests/templates/cases.py prints, recorded in expected.json; where the same versions of Python and jinja2 are installed, they are made anew.
/// </summary>
public sealed class ChatTemplateJinjaTests
{
    private static readonly string Folder = Path.Combine(TinyShakespeare.Directory, "..", "..", "templates");
    private static readonly Lazy<JsonElement> Expected = new(() => JsonElement.Parse(File.ReadAllBytes(Path.Combine(Folder, "expected.json"))));

    [Fact]
    public void Recorded_expectations_are_what_jinja2_makes_now()
    {
        var versions = Expected.Value.GetProperty("versions");
        var wanted = string.Join(' ', versions.EnumerateObject().Select(version => version.Value.GetString()));
        const string Ask = "import sys, jinja2, markupsafe; print('.'.join(map(str, sys.version_info[:2])), jinja2.__version__, markupsafe.__version__)";
        var python = Array.Find(["/usr/bin/python3", "python3"], command => Run(command, "-c", Ask)?.Trim() == wanted);
        if (python is null)
        {
            // Other versions of jinja2 differ in small things; then the record stands.
            Assert.Equal("3.11 3.1.2 2.1.2", wanted);
            return;
        }
        var made = Run(python, "-B", Path.Combine(Folder, "cases.py"));
        Assert.True(made is not null, $"{python} {Path.Combine(Folder, "cases.py")} failed");
        Assert.True(made == File.ReadAllText(Path.Combine(Folder, "expected.json")), "tests/templates/expected.json is not what cases.py prints: record it anew");
    }

    [Fact]
    public void Construct_renders_as_in_jinja2()
    {
        var failures = new List<string>();
        var context = new Context(Expected.Value.GetProperty("plain"));
        var constructs = Expected.Value.GetProperty("constructs");
        foreach (var construct in constructs.EnumerateArray())
        {
            var text = construct.GetProperty("template").GetString()!;
            Check(text, construct.GetProperty("expected"), Render(text, context), failures);
        }
        Assert.InRange(constructs.GetArrayLength(), 400, int.MaxValue);
        Assert.True(failures.Count == 0, string.Join('\n', failures.Take(20)));
    }

    [Fact]
    public void Filter_test_method_operator_and_format_give_what_they_give_in_jinja2()
    {
        var failures = new List<string>();
        var context = new Context(Expected.Value.GetProperty("plain"));
        var count = 0;
        foreach (var grid in Expected.Value.GetProperty("grids").EnumerateArray())
        {
            var template = grid.GetProperty("template").GetString()!;
            foreach (var (a, row) in grid.GetProperty("a").EnumerateArray().Zip(grid.GetProperty("expected").EnumerateArray()))
            {
                foreach (var (b, expected) in grid.GetProperty("b").EnumerateArray().Zip(row.EnumerateArray()))
                {
                    var text = template.Replace("@A@", a.GetString(), StringComparison.Ordinal).Replace("@B@", b.GetString(), StringComparison.Ordinal);
                    Check(text, expected, Render(text, context), failures);
                    count++;
                }
            }
        }
        Assert.InRange(count, 8000, int.MaxValue);
        Assert.True(failures.Count == 0, string.Join('\n', failures.Take(20)));
    }

    [Fact]
    public void Template_of_a_family_renders_random_conversations_as_in_jinja2()
    {
        var failures = new List<string>();
        Context[] contexts = [.. Expected.Value.GetProperty("conversations").EnumerateArray().Select(conversation => new Context(conversation))];
        foreach (var family in Expected.Value.GetProperty("families").EnumerateArray())
        {
            var template = new ChatTemplate(family.GetProperty("name").GetString()!, family.GetProperty("template").GetString()!, Context.SpecialTokens);
            foreach (var (context, expected) in contexts.Zip(family.GetProperty("expected").EnumerateArray()))
            {
                var text = Render(template, context, out var error);
                var digest = text is null ? null : "sha256:" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))[..16];
                Check($"{family.GetProperty("name")} on {JsonSerializer.Serialize(context.Json)}", expected, (digest, error ?? text), failures);
            }
        }
        Assert.Equal(400, contexts.Length);
        Assert.True(failures.Count == 0, string.Join('\n', failures.Take(5)));
    }

    private static void Check(string what, JsonElement expected, (string? Text, string? Error) rendered, List<string> failures)
    {
        var wanted = expected.ValueKind == JsonValueKind.Null ? null : expected.GetString();
        if (rendered.Text != wanted)
        {
            failures.Add($"{what}\n  expected {(wanted is null ? "an error" : $"'{wanted}'")}\n  is       {(rendered.Text is null ? rendered.Error : $"'{rendered.Text}'")}");
        }
    }

    private static (string? Text, string? Error) Render(string text, Context context)
    {
        try
        {
            return (Render(new ChatTemplate("t", text, Context.SpecialTokens), context, out var error), error);
        }
        catch (ModelFormatException refusal)
        {
            return (null, refusal.Message);
        }
    }

    private static string? Render(ChatTemplate template, Context context, out string? error)
    {
        error = null;
        try
        {
            return template.Render(context.Messages, context.Options);
        }
        catch (ModelFormatException refusal)
        {
            error = refusal.Message;
            return null;
        }
    }

    // What a command prints, or null if there is no such command or it fails.
    private static string? Run(string command, params string[] arguments)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(command, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, StandardOutputEncoding = Encoding.UTF8 })!;
            process.ErrorDataReceived += (_, _) => { };
            process.BeginErrorReadLine();
            var output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0 ? output : null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private sealed class Context(JsonElement json)
    {
        public static Dictionary<string, object?> SpecialTokens { get; } = new() { ["bos_token"] = TemplateText.Of("<s>"), ["eos_token"] = TemplateText.Of("</s>") };

        public JsonElement Json => json;

        public ChatMessage[] Messages { get; } = [.. json.GetProperty("messages").EnumerateArray().Select(ChatMessage.FromJson)];

        public ChatTemplateOptions Options { get; } = new()
        {
            AddGenerationPrompt = json.GetProperty("add_generation_prompt").GetBoolean(),
            Now = new DateTimeOffset(2026, 7, 4, 15, 6, 7, TimeSpan.Zero),
            Tools = json.TryGetProperty("tools", out var tools) ? [.. tools.EnumerateArray()] : null,
            Variables = json.TryGetProperty("variables", out var variables) ? variables.EnumerateObject().ToDictionary(member => member.Name, member => member.Value) : null,
        };
    }
}
