using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Octet.Cli.Inspect;

/// <summary>What llvm-mca says of a straight line of instructions that one wave runs over and over.</summary>
/// <param name="Clocks">GPU clocks of one turn; llvm-mca counts passes of 4 clocks.</param>
/// <param name="MatrixClocks">Of these the matrix unit is busy, at best.</param>
internal readonly record struct McaResult(double Clocks, double MatrixClocks);

/// <summary>llvm-objdump and llvm-mca, of the LLVM the kernels were compiled with.</summary>
internal sealed partial class LlvmTools
{
    private const int OldestMajor = 20; // the first that builds Octet
    private const int Turns = 100;      // enough for the first turn not to matter

    private readonly string _objdump;
    private readonly string _mca;

    private LlvmTools(string objdump, string mca) => (_objdump, _mca) = (objdump, mca);

    /// <summary>
    /// The tools in the folder OCTET_LLVM names; else llvm-objdump-N for the compiler's version N; else ones without a number of
    /// version 20 or newer.
    /// </summary>
    /// <param name="buildInfo">The library's line about itself, which names the compiler.</param>
    /// <exception cref="ArgumentException">None is there; the message has the remedy.</exception>
    public static LlvmTools Find(string buildInfo)
    {
        var major = CompilerVersion().Match(buildInfo) is { Success: true } match ? match.Groups[1].Value : "22";
        return new(Find("llvm-objdump", major), Find("llvm-mca", major));
    }

    /// <summary>The instructions of every kernel in a code object.</summary>
    public Dictionary<string, List<Instruction>> Disassemble(byte[] codeObject)
    {
        var path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, codeObject);
            return Disassembly.Parse(Run(_objdump, ["-d", path], ""));
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>The cycles of each line of instructions, in order.</summary>
    public McaResult[] Analyze(string target, IReadOnlyList<IReadOnlyList<string>> lines)
    {
        var source = new StringBuilder();
        for (var i = 0; i < lines.Count; i++)
        {
            source.Append(CultureInfo.InvariantCulture, $"# LLVM-MCA-BEGIN r{i}\n").AppendJoin('\n', lines[i])
                .Append(CultureInfo.InvariantCulture, $"\n# LLVM-MCA-END r{i}\n");
        }

        var arguments = new[] { "-mtriple=amdgcn-amd-amdhsa", $"-mcpu={target}", "--json", $"--iterations={Turns}", "--skip-unsupported-instructions=any" };
        using var json = JsonDocument.Parse(Run(_mca, arguments, source.ToString()));
        var results = new McaResult[lines.Count];
        foreach (var region in json.RootElement.GetProperty("CodeRegions").EnumerateArray())
        {
            results[int.Parse(region.GetProperty("Name").GetString()![1..], CultureInfo.InvariantCulture)] = ReadRegion(region);
        }

        return results;
    }

    /// <summary>One element of llvm-mca's CodeRegions.</summary>
    internal static McaResult ReadRegion(JsonElement region)
    {
        const int clocksPerPass = 4;
        var texts = region.GetProperty("Instructions").EnumerateArray().Select(i => i.GetString()!.Trim()).ToArray();
        var matrix = region.GetProperty("InstructionInfoView").GetProperty("InstructionList").EnumerateArray()
            .Where(i => InstructionMix.Kind(texts[i.GetProperty("Instruction").GetInt32()].Split([' ', '\t'], 2)[0]) == "mfma")
            .Sum(i => i.GetProperty("RThroughput").GetDouble());
        var passes = region.GetProperty("SummaryView").GetProperty("TotalCycles").GetDouble() / Turns;
        return new(clocksPerPass * passes, clocksPerPass * matrix);
    }

    private static string Find(string tool, string major)
    {
        if (Environment.GetEnvironmentVariable("OCTET_LLVM") is { Length: > 0 } folder)
        {
            foreach (var path in new[] { Path.Combine(folder, tool), Path.Combine(folder, $"{tool}-{major}"), Path.Combine(folder, "bin", tool) })
            {
                if (File.Exists(path))
                {
                    return path;
                }
            }

            throw new ArgumentException($"inspect: OCTET_LLVM = '{folder}' has no {tool}: name a folder with the tools of LLVM {major}");
        }

        foreach (var name in new[] { $"{tool}-{major}", tool, $"/opt/rocm/llvm/bin/{tool}" })
        {
            if (Version(name) >= OldestMajor)
            {
                return name;
            }
        }

        throw new ArgumentException($"inspect: {tool} is missing: apt-get install llvm-{major} (packages for Debian: https://apt.llvm.org), or set OCTET_LLVM to a folder with it");
    }

    // 0 where the tool cannot be started.
    private static int Version(string tool)
    {
        try
        {
            return LlvmVersion().Match(Run(tool, ["--version"], "")) is { Success: true } match
                ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : 0;
        }
        catch (Exception error) when (error is System.ComponentModel.Win32Exception or IOException)
        {
            return 0;
        }
    }

    private static string Run(string tool, string[] arguments, string input)
    {
        var start = new ProcessStartInfo(tool, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        process.WaitForExit();
        return process.ExitCode == 0
            ? output.GetAwaiter().GetResult()
            : throw new IOException($"inspect: {tool} {string.Join(' ', arguments)} failed with {process.ExitCode}: {error.GetAwaiter().GetResult().Trim()}");
    }

    [GeneratedRegex(@"clang (\d+)")]
    private static partial Regex CompilerVersion();

    [GeneratedRegex(@"LLVM version (\d+)")]
    private static partial Regex LlvmVersion();
}
