using System.Globalization;

namespace Octet.Cli.Inspect;

/// <summary>What a run of instructions asks of each part of a CU. Bytes are those of a whole wave of 64 lanes.</summary>
/// <param name="Counts">How many there are of each kind: "mfma", "valu", "lds_read_b128", "global_load_b128", "wait", ...</param>
/// <param name="LdsBytes">Read from, written to and permuted through LDS.</param>
/// <param name="GlobalLoadBytes">Loaded from global memory.</param>
/// <param name="GlobalStoreBytes">Stored to global memory.</param>
/// <param name="Macs">Multiply-adds of the matrix unit.</param>
/// <param name="VectorClocks">Clocks of one SIMD's vector unit: 4 for each instruction, 16 for a transcendental one.</param>
internal sealed record InstructionMix(
    IReadOnlyDictionary<string, int> Counts, long LdsBytes, long GlobalLoadBytes, long GlobalStoreBytes, long Macs, long VectorClocks)
{
    private const int Lanes = 64;
    private static readonly string[] Transcendental = ["v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_"];

    /// <summary>All instructions.</summary>
    public int Total => Counts.Values.Sum();

    /// <summary>Bytes a lane moves in the widest load from global memory or store to it.</summary>
    public int WidestGlobal => Counts.Keys.Max(GlobalWidth);

    /// <summary>Bytes a wave loads from global memory by the widest loads.</summary>
    public long WidestLoadBytes
    {
        get
        {
            var loads = Counts.Where(c => c.Key.StartsWith("global_load", StringComparison.Ordinal)).ToList();
            var widest = loads.Count == 0 ? 0 : loads.Max(c => GlobalWidth(c.Key));
            return loads.Where(c => GlobalWidth(c.Key) == widest).Sum(c => (long)c.Value * widest * Lanes);
        }
    }

    /// <summary>Bytes a wave moves to and from global memory in accesses of one width.</summary>
    public long GlobalBytes(int width) => Counts.Where(c => GlobalWidth(c.Key) == width).Sum(c => (long)c.Value * width * Lanes);

    /// <summary>How many there are of one kind.</summary>
    public int this[string kind] => Counts.GetValueOrDefault(kind);

    /// <summary>Whether the matrix unit multiplies bf16, at half the rate of FP8.</summary>
    public bool IsBFloat16 { get; private init; }

    public static InstructionMix Count(IEnumerable<Instruction> instructions)
    {
        var counts = new SortedDictionary<string, int>(StringComparer.Ordinal);
        long lds = 0, loads = 0, stores = 0, macs = 0, vector = 0;
        var bfloat16 = false;
        foreach (var instruction in instructions)
        {
            var kind = Kind(instruction.Mnemonic);
            counts[kind] = counts.GetValueOrDefault(kind) + 1;
            if (kind.StartsWith("lds_", StringComparison.Ordinal))
            {
                lds += Lanes * Bytes(instruction.Mnemonic);
            }
            else if (kind.StartsWith("global_load", StringComparison.Ordinal))
            {
                loads += Lanes * Bytes(instruction.Mnemonic);
            }
            else if (kind.StartsWith("global_", StringComparison.Ordinal))
            {
                stores += Lanes * Bytes(instruction.Mnemonic);
            }

            macs += kind == "mfma" ? MacsOf(instruction.Mnemonic) : 0;
            bfloat16 |= kind == "mfma" && instruction.Mnemonic.Contains("bf16", StringComparison.Ordinal);
            vector += kind switch { "valu" or "mfma" => 4, "transcendental" => 16, _ => 0 };
        }

        return new(counts, lds, loads, stores, macs, vector) { IsBFloat16 = bfloat16 };
    }

    // "global_load_b128": 16; 0 for all that is no access to global memory.
    private static int GlobalWidth(string kind) =>
        kind.StartsWith("global_", StringComparison.Ordinal) && kind.LastIndexOf("_b", StringComparison.Ordinal) is var at and > 0
            ? int.Parse(kind.AsSpan(at + 2), CultureInfo.InvariantCulture) / 8 : 0;

    /// <summary>The kind an instruction is counted as.</summary>
    public static string Kind(string mnemonic) => mnemonic switch
    {
        _ when mnemonic.StartsWith("v_mfma", StringComparison.Ordinal) || mnemonic.StartsWith("v_smfmac", StringComparison.Ordinal) => "mfma",
        _ when Transcendental.Any(t => mnemonic.StartsWith(t, StringComparison.Ordinal)) => "transcendental",
        _ when mnemonic.StartsWith("v_", StringComparison.Ordinal) => "valu",
        _ when mnemonic.StartsWith("ds_read", StringComparison.Ordinal) => $"lds_read_b{8 * Bytes(mnemonic)}",
        _ when mnemonic.StartsWith("ds_write", StringComparison.Ordinal) => $"lds_write_b{8 * Bytes(mnemonic)}",
        _ when mnemonic.Contains("permute", StringComparison.Ordinal) || mnemonic.StartsWith("ds_swizzle", StringComparison.Ordinal) => "lds_permute",
        _ when mnemonic.StartsWith("ds_", StringComparison.Ordinal) => "lds_atomic",
        _ when IsVectorMemory(mnemonic) && mnemonic.Contains("_load", StringComparison.Ordinal) => $"global_load_b{8 * Bytes(mnemonic)}",
        _ when IsVectorMemory(mnemonic) && mnemonic.Contains("_store", StringComparison.Ordinal) => $"global_store_b{8 * Bytes(mnemonic)}",
        _ when IsVectorMemory(mnemonic) && mnemonic.Contains("_atomic", StringComparison.Ordinal) => "global_atomic",
        "s_barrier" => "barrier",
        _ when mnemonic.StartsWith("s_waitcnt", StringComparison.Ordinal) => "wait",
        _ when mnemonic.StartsWith("s_load", StringComparison.Ordinal) || mnemonic.StartsWith("s_buffer_load", StringComparison.Ordinal) => "scalar_load",
        _ when mnemonic.StartsWith("s_branch", StringComparison.Ordinal) || mnemonic.StartsWith("s_cbranch", StringComparison.Ordinal) => "branch",
        _ => "salu",
    };

    /// <summary>Whether an instruction occupies the counter that s_waitcnt vmcnt waits for.</summary>
    public static bool IsVectorMemory(string mnemonic) =>
        mnemonic.StartsWith("global_", StringComparison.Ordinal) || mnemonic.StartsWith("buffer_", StringComparison.Ordinal)
        || mnemonic.StartsWith("flat_", StringComparison.Ordinal) || mnemonic.StartsWith("scratch_", StringComparison.Ordinal);

    /// <summary>Bytes one lane moves, from the ending: _b128, _dwordx4, read2_b64, ubyte, short_d16.</summary>
    public static int Bytes(string mnemonic)
    {
        var pairs = mnemonic.Contains("read2", StringComparison.Ordinal) || mnemonic.Contains("write2", StringComparison.Ordinal) ? 2 : 1;
        if (mnemonic.IndexOf("dwordx", StringComparison.Ordinal) is var wide and >= 0)
        {
            return 4 * (mnemonic[wide + 6] - '0');
        }

        foreach (var part in mnemonic.Split('_'))
        {
            if (part.Length >= 2 && part[0] is 'b' or 'u' or 'i' && int.TryParse(part.AsSpan(1), CultureInfo.InvariantCulture, out var bits))
            {
                return pairs * bits / 8;
            }
        }

        return mnemonic.Contains("byte", StringComparison.Ordinal) ? 1 : mnemonic.Contains("short", StringComparison.Ordinal) ? 2 : 4;
    }

    // v_mfma_f32_16x16x32_fp8_fp8: 16 * 16 * 32.
    private static long MacsOf(string mnemonic)
    {
        foreach (var part in mnemonic.Split('_'))
        {
            var sizes = part.Split('x');
            if (sizes.Length == 3 && sizes.All(s => int.TryParse(s, CultureInfo.InvariantCulture, out _)))
            {
                return sizes.Aggregate(1L, (product, size) => product * int.Parse(size, CultureInfo.InvariantCulture));
            }
        }

        return 0;
    }
}
