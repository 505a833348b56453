using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using System.Text.RegularExpressions;
using Octet.Cli;
using Octet.Tests.Backends.Native;
using Octet.Tests.Cli;
using Octet.Tests.Cli.Bench;
using Octet.Tests.Cli.Inspect;
using Octet.Tests.Server;

namespace Octet.Tests;

/// <summary>
/// Every command, option and environment variable in README.md and docs/*.md: the lines of octet are parsed, the cheap ones are run as
/// they stand, and one that <see cref="s_checks"/> does not know fails the test.
/// </summary>
public sealed partial class ReadmeTests
{
    // What each line comes to. Lines of octet with placeholders (usage) are parsed only: CommandTests has each of these commands.
    private static readonly Dictionary<string, Check> s_checks = new()
    {
        ["dotnet run -c Release --project src/Octet.Cli --"] = Check.At("src/Octet.Cli/Octet.Cli.csproj"),
        ["dotnet run -c Release --project src/Octet.Cli -- generate --prompt \"ROMEO:\""] = Check.Runs("generated"),
        ["eng/test.sh"] = Check.At("eng/test.sh"),
        ["eng/nightly.sh"] = Check.At("eng/nightly.sh", "set -- cases random emulator"),
        ["eng/nightly.sh random"] = Check.At("eng/nightly.sh", "random()"),
        ["dotnet run --project samples/Generate"] = Check.By(typeof(SamplesTests)),
        ["dotnet run --project samples/CustomSampler"] = Check.By(typeof(SamplesTests)),
        ["dotnet test -c Release"] = Check.By(typeof(DotnetTests)),
        ["dotnet test -c Release --project tests/Octet.Tests --filter-class \"*.ReadmeTests\""] = Check.By(typeof(DotnetTests)),
        ["dotnet pack src/Octet.Cli -c Release -o build/packages"] = Check.By(typeof(DotnetTests)),
        ["dotnet tool install --global Octet.Cli --add-source build/packages"] = Check.By(typeof(DotnetTests)),
        ["dotnet run -c Release --project benchmarks/Octet.Benchmarks -- report"] = Check.At("benchmarks/Octet.Benchmarks/Program.cs", "args is [\"report\", ..]"),
        ["cmake -S . -B build/native -G Ninja && ninja -C build/native octet gfx942_emulator"] = Check.At("build/native/build.ninja", "build gfx942_emulator: phony"),
        ["LD_LIBRARY_PATH=build/native/gfx942_emulator octet check --device hip:0"] = Check.Runs("0 failed, 0 skipped", " --op norm"),
        ["eng/gpu-report.py"] = Check.At("eng/gpu-report.py"),
        ["octet devices"] = Check.Runs("without --device: "),
        ["octet load"] = Check.Runs("tp 1, ep 1: checkpoint 8.95 MB, read "),
        ["octet chat"] = Check.By(typeof(ChatTerminalTests)),
        ["octet check"] = Check.By(typeof(CommandTests)),
        ["octet bench serve"] = Check.By(typeof(BenchServeCommandTests)),
        ["octet plan"] = Check.Runs("* DP2/TP4/EP4"),
        ["octet topology"] = Check.RunsOr("no KFD topology", "group"),
        ["octet inspect"] = Check.By(typeof(InspectCommandTests)),
        ["octet inspect --step decode --tp 4 --ep 4 --batch 64 --context 5670"] = Check.By(typeof(StepCostTests)),
        ["octet inspect --step decode"] = Check.By(typeof(StepCostTests)),
        ["octet inspect --report docs/gfx942-report.md"] = Check.By(typeof(WholeRunTests)),
        ["OCTET_TRACE=1 octet generate --device sim --prompt \"ROMEO:\" --max-tokens 1"] = Check.Runs("octet: sampling_row grid 1x1x1"),
        ["OCTET_TRACE=1 octet generate --device sim --prompt \"ROMEO:\" --max-tokens 2"] = Check.Runs("octet: sampling_row grid 1x1x1"),
        ["octet generate --device \"cpu*4\" --tp 4 --prompt \"ROMEO:\" --max-tokens 16"] = Check.Runs("cpu*4 ("),
        ["octet generate --device \"cpu*2\" --dp 2 --prompt \"ROMEO:\" --max-tokens 16"] = Check.Runs("cpu*2 ("),
        ["octet check --device ilgpu:opencl:0"] = Check.RunsOr("device 'ilgpu:opencl:0': ", "0 failed", " --op norm"),
        ["octet generate --prompt \"ROMEO:\" --device ilgpu:cpu --max-tokens 16"] = Check.Runs("16 generated"),
        ["octet plan --node mi325x:8 --input 5600 --output 140 --concurrency 64"] = Check.Runs("* DP2/TP4/EP4"),
        ["octet plan --node mi325x:8 --ttft-p90 10000 --tpot-p90 100 --per node --json"] = Check.Runs("\"plans\""),
        ["octet plan --node h100:8 --engine trtllm --emit k8s"] = Check.Runs("apiVersion"),
        ["octet plan --node h100:8 --engine trtllm --calibrate src/Octet.Inference/Planning/Data/h100-qwen3-235b-fp8.csv"] =
            Check.Runs("held out: 96 points, mean error of TPOT 2.4 %"),
        ["OCTET_PAGE_PICTURE=docs/serve-page.png dotnet tests/Octet.Tests/bin/Release/net10.0/Octet.Tests.dll -class \"*PageTests\""] =
            Check.By(typeof(PageTests)),
        ["octet serve"] = Check.By(typeof(TranscriptTests)),
        ["Kestrel__Endpoints__Https__Url=https://0.0.0.0:8443 Kestrel__Certificates__Default__Path=server.pem Kestrel__Certificates__Default__KeyPath=server.key octet serve"] =
            Check.At("src/Octet.Cli/ServeCommand.cs", "UseKestrelHttpsConfiguration"),
        ["octet topology --groups 2x4"] = Check.RunsOr("no KFD topology", "group"),
    };

    // What may stand in the place of a value in a usage line.
    private static readonly Dictionary<string, string> s_placeholders = new()
    {
        ["N"] = "4", ["MS"] = "100", ["TEXT"] = "text", ["FILE"] = "file", ["DIR"] = "folder", ["JSON"] = "{}", ["LIST"] = "1,2", ["@FILE:TENSOR"] = "@file:ids",
    };

    private static readonly Command s_octet = OctetCommand.Create();

    public static TheoryData<string> OctetLines => [.. Commands().Where(c => Octet().IsMatch(c))];

    public static TheoryData<string> RunnableLines => [.. Commands().Where(c => s_checks.TryGetValue(c, out var check) && check.Expected is not null)];

    [Fact]
    public void Every_command_of_the_documents_has_a_check_and_no_check_is_left_over()
    {
        var commands = Commands().Where(c => !IsUsage(c)).ToHashSet();
        Assert.Empty(commands.Except(s_checks.Keys));
        Assert.Empty(s_checks.Keys.Except(commands));
    }

    [Theory]
    [MemberData(nameof(OctetLines))]
    public void Every_line_of_octet_is_understood(string line)
    {
        var arguments = CommandLineParser.SplitCommandLine(Octet().Replace(line, "").Replace("[", "", StringComparison.Ordinal).Replace("]", "", StringComparison.Ordinal)).ToArray();
        string[] commands = arguments is ["COMMAND", ..] ? [.. s_octet.Subcommands.Select(c => c.Name)] : [arguments[0]];
        foreach (var command in commands)
        {
            foreach (var alternative in Alternatives([command, .. arguments[1..]]))
            {
                Assert.Empty(s_octet.Parse(alternative, new ParserConfiguration { ResponseFileTokenReplacer = null }).Errors.Select(e => $"octet {string.Join(' ', alternative)}: {e.Message}"));
            }
        }
    }

    [Theory]
    [MemberData(nameof(RunnableLines))]
    public async Task Cheap_lines_run_as_they_stand(string line)
    {
        var check = s_checks[line];
        var (code, output) = await Shell(line + check.Appended);
        if (code == CommandLine.BadInput && check.WithoutHardware is { } reason)
        {
            Assert.Contains(reason, output, StringComparison.Ordinal);
            return;
        }

        Assert.True(code == 0, $"exit code {code}: {output}");
        Assert.Contains(check.Expected!, output, StringComparison.Ordinal);
    }

    [Fact]
    public void What_the_other_lines_start_is_there()
    {
        foreach (var (line, check) in s_checks.Where(c => c.Value.File is not null))
        {
            var path = Path.Combine(TinyModel.Root, check.File!);
            Assert.True(File.Exists(path), $"{line}: {check.File} is not there");
            Assert.True(check.Text is null || File.ReadAllText(path).Contains(check.Text, StringComparison.Ordinal), $"{line}: {check.File} has no '{check.Text}'");
            if (line == check.File && !OperatingSystem.IsWindows())
            {
                Assert.True(File.GetUnixFileMode(path).HasFlag(UnixFileMode.UserExecute), $"{line} is not executable");
            }
        }
    }

    [Fact]
    public void Every_option_belongs_to_the_command_of_its_row_or_to_one_of_octets()
    {
        foreach (var (code, row) in MarkdownFile.All.SelectMany(file => file.Spans).Where(span => span.Code.StartsWith("--", StringComparison.Ordinal)))
        {
            var option = code.Split(' ', '=')[0];
            IEnumerable<Command> named = row is not null && Octet().IsMatch(row) ? [Named(row)] : s_octet.Subcommands.Concat(s_octet.Subcommands.SelectMany(c => c.Subcommands));
            Assert.True(named.SelectMany(c => c.Options).Any(o => o.Name == option || o.Aliases.Contains(option)), $"{option} (in the row of '{row}') is no option");
        }
    }

    [Fact]
    public void Environment_variables_of_the_documents_are_those_the_sources_read()
    {
        HashSet<string> read = [.. Variables("src", "*.cs"), .. Variables("native", "*.cpp")];
        var spans = MarkdownFile.All.SelectMany(file => file.Spans.Select(s => s.Code).Concat(file.Lines).SelectMany(c => Variable().Matches(c)).Select(m => m.Value)).ToHashSet();
        Assert.NotEmpty(read);
        Assert.Empty(read.Except(spans));
        Assert.Empty(spans.Except(read).Except(Variables("tests", "*.cs")));

        static IEnumerable<string> Variables(string folder, string pattern) =>
            from path in Directory.GetFiles(Path.Combine(TinyModel.Root, folder), pattern, SearchOption.AllDirectories)
            from match in Read().Matches(File.ReadAllText(path))
            select match.Groups[1].Value;
    }

    [Fact]
    public void Indented_and_fenced_lines_and_spans_are_found()
    {
        var file = MarkdownFile.Parse("x.md", "Text `octet\nplan`:\n\n    octet a   # why\n    octet b \\\n      --c\n\n```sh\noctet d\n```\n\n| `octet e` | `--f x\\|y` |\n|---|---|\n\n```csharp\nvar x;\n```\n");
        Assert.Equal(["octet d", "octet a", "octet b        --c"], file.Lines);
        Assert.Equal(["var x;\n"], file.CSharp);
        Assert.Equal([("octet plan", null), ("octet e", "octet e"), ("--f x|y", "octet e")], file.Spans);
    }

    // Lines of blocks, and spans that begin as a command does.
    private static IEnumerable<string> Commands() =>
        MarkdownFile.All.SelectMany(file => file.Lines.Concat(file.Spans.Select(s => s.Code).Where(c => Started().IsMatch(c)))).Distinct();

    // "octet bench serve [--json]": the innermost command that is named.
    private static Command Named(string line) =>
        line.Split(' ').Skip(1).Aggregate(s_octet, (command, word) => command.Subcommands.FirstOrDefault(c => c.Name == word) ?? command);

    private static bool IsUsage(string line) => Octet().IsMatch(line) && Placeholder().IsMatch(Quoted().Replace(line, "")[Octet().Match(line).Length..]);

    // "a|b" is two lines, and a placeholder its value; --op, --device and --target take names.
    private static IEnumerable<string[]> Alternatives(string[] arguments)
    {
        IEnumerable<string[]> lines = [[]];
        foreach (var argument in arguments)
        {
            lines = [.. from line in lines from value in argument.Split('|') select (string[])[.. line, Value(line, value)]];
        }

        return lines;
    }

    private static string Value(string[] before, string value) => value == "NAME"
        ? before[^1] switch { "--device" => "cpu", "--target" => "gfx942", _ => "norm" }
        : s_placeholders.GetValueOrDefault(value, value);

    // octet stands for 'dotnet run -c Release --project src/Octet.Cli --', which would build: here both are the command under test.
    private static async Task<(int Code, string Output)> Shell(string line)
    {
        const string Functions =
            """
            octet() { command dotnet exec "$OCTET_UNDER_TEST" "$@"; }
            dotnet() { [ "$1 $2 $3 $4 $5 $6" = "run -c Release --project src/Octet.Cli --" ] || exit 99; shift 6; octet "$@"; }
            """;
        var start = new ProcessStartInfo("bash", ["-c", $"{Functions}\n{line}"])
        {
            WorkingDirectory = TinyModel.Root,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OCTET_UNDER_TEST"] = Path.Combine(AppContext.BaseDirectory, "Octet.Cli.dll");
        start.Environment.Remove("OCTET_DEVICE");
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output + await error);
    }

    [GeneratedRegex(@"^(?:[A-Z_]+=\S+ )*octet ")]
    private static partial Regex Octet();

    [GeneratedRegex(@"^(?:[A-Z_]+=\S+ )*(?:(?:octet|dotnet|cmake|ninja|python3) |eng/)")]
    private static partial Regex Started();

    [GeneratedRegex(@"\[|\b[A-Z]+\b|\|")]
    private static partial Regex Placeholder();

    [GeneratedRegex("\"[^\"]*\"")]
    private static partial Regex Quoted();

    [GeneratedRegex("\\bOCTET_[A-Z_]+\\b")]
    private static partial Regex Variable();

    [GeneratedRegex("(?:(?:getenv|GetEnvironmentVariable|environment|setting)\\w*\\(|Variable = )\"(OCTET_[A-Z_]+)\"")]
    private static partial Regex Read();

    /// <summary>How a line is checked.</summary>
    private sealed record Check
    {
        /// <summary>What its output has where it runs; null where it does not run here.</summary>
        public string? Expected { get; private init; }

        /// <summary>What makes it shorter here.</summary>
        public string Appended { get; private init; } = "";

        /// <summary>What it says with exit code 2 where the hardware is missing; null where it needs none.</summary>
        public string? WithoutHardware { get; private init; }

        /// <summary>What it starts, where it takes too long here.</summary>
        public string? File { get; private init; }

        /// <summary>What that file has.</summary>
        public string? Text { get; private init; }

        public static Check Runs(string expected, string appended = "") => new() { Expected = expected, Appended = appended };

        public static Check RunsOr(string withoutHardware, string expected, string appended = "") =>
            new() { Expected = expected, Appended = appended, WithoutHardware = withoutHardware };

        public static Check At(string file, string? text = null) => new() { File = file, Text = text };

        /// <summary>Another class of tests runs it.</summary>
        public static Check By(Type tests) => new() { File = Directory.GetFiles(Path.Combine(TinyModel.Root, "tests"), tests.Name + ".cs", SearchOption.AllDirectories).Single() };
    }
}
