using System.Globalization;

namespace Octet.Cli.Inspect;

/// <summary>One machine instruction.</summary>
/// <param name="Address">Where it lies.</param>
/// <param name="Mnemonic">"v_pk_fma_f32".</param>
/// <param name="Operands">What follows, as the assembler takes it.</param>
/// <param name="Target">Address a branch goes to; null for all others.</param>
internal sealed record Instruction(long Address, string Mnemonic, string Operands, long? Target)
{
    /// <summary>The line for an assembler.</summary>
    public string Text => Operands.Length == 0 ? Mnemonic : $"{Mnemonic} {Operands}";

    /// <summary>Ends a basic block without going on to the next instruction.</summary>
    public bool IsEnd => Mnemonic is "s_endpgm" or "s_branch" or "s_setpc_b64" or "s_trap";
}

/// <summary>What llvm-objdump -d prints of a code object.</summary>
internal static class Disassembly
{
    /// <summary>The instructions of every function, by its name.</summary>
    public static Dictionary<string, List<Instruction>> Parse(string text)
    {
        var functions = new Dictionary<string, List<Instruction>>();
        var starts = new Dictionary<string, long>();
        List<Instruction>? current = null;
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            if (line.EndsWith(">:") && line.IndexOf(" <") is var open and > 0)
            {
                var name = line[(open + 2)..^2].ToString();
                starts[name] = Hex(line[..open]);
                functions[name] = current = [];
            }
            else if (current is not null && line.StartsWith("\t"))
            {
                current.Add(ParseInstruction(line.ToString(), starts));
            }
        }

        // The assembler pads the end of a kernel with s_nop or s_code_end; nothing reaches them.
        foreach (var instructions in functions.Values)
        {
            var last = instructions.FindLastIndex(i => i.Mnemonic == "s_endpgm");
            instructions.RemoveRange(last + 1, instructions.Count - last - 1);
        }

        return functions;
    }

    // "\tv_add_u32 v1, v2, v3   // 000000001878: 242C0083 <kernel+0x1c>": the comment has the address and a branch's target.
    private static Instruction ParseInstruction(string line, Dictionary<string, long> starts)
    {
        var comment = line.LastIndexOf("// ", StringComparison.Ordinal);
        if (comment < 0)
        {
            throw new InvalidDataException($"llvm-objdump: an instruction without an address: '{line.Trim()}'");
        }

        var code = line.AsSpan(0, comment).Trim();
        var note = line.AsSpan(comment + 3).Trim();
        var space = code.IndexOf(' ');
        var mnemonic = (space < 0 ? code : code[..space]).ToString();
        return new(
            Hex(note[..note.IndexOf(':')]), mnemonic, space < 0 ? "" : code[(space + 1)..].Trim().ToString(),
            mnemonic.StartsWith("s_cbranch", StringComparison.Ordinal) || mnemonic == "s_branch" ? Target(note, starts) : null);
    }

    private static long? Target(ReadOnlySpan<char> note, Dictionary<string, long> starts)
    {
        var open = note.LastIndexOf('<');
        if (open < 0 || note[^1] != '>')
        {
            return null;
        }

        var symbol = note[(open + 1)..^1];
        var plus = symbol.LastIndexOf("+0x");
        return plus < 0
            ? starts.TryGetValue(symbol.ToString(), out var start) ? start : null
            : starts.TryGetValue(symbol[..plus].ToString(), out start) ? start + Hex(symbol[(plus + 3)..]) : null;
    }

    private static long Hex(ReadOnlySpan<char> digits) => long.Parse(digits.Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
