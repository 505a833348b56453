using System.Globalization;
using System.Text;

namespace Octet.Cli.Inspect;

/// <summary>docs/gfx942-report.md: how the model works, how far it is from published times, the goals, and the tables.</summary>
internal static class InspectReport
{
    // A goal of the project: what a shape must reach, and what would be better still.
    private sealed record Goal(string Op, string Shape, string Elsewhere, double Must, double Stretch, string Unit);

    private static readonly Goal[] Goals =
    [
        new("gemm", "square m=4096 n=4096 k=4096", "AITER 870", 1000, 1143, "TFLOP/s"),
        new("gemm", "qkv TP8 m=64 n=1280 k=4096", "AITER 14.5", 7, 5, "us"),
        new("gemm", "o TP8 m=64 n=4096 k=1024", "AITER 5.9", 5, 4, "us"),
        new("gemm", "o TP2 m=64 n=4096 k=4096", "AITER 15.6", 9, 7, "us"),
        new("moe_layer", "TP1 T=1 experts=128 width=1536", "H200 59", 45, 38, "us"),
        new("moe_layer", "TP1 T=64 experts=128 width=1536", "H200 561", 530, 495, "us"),
        new("moe_layer", "TP1 T=16384 experts=128 width=1536", "H200 713", 800, 941, "TFLOP/s"),
        new("moe_layer", "TP4 T=64 experts=128 width=384", "H200 171", 145, 130, "us"),
        new("moe_layer", "TP8/EP8 T=64 experts=16 width=1536", "H200 99", 90, 80, "us"),
        new("attention_decode", "64q/4kv batch 64 context 4096", "H200 86", 65, 60, "us"),
        new("attention_decode", "8q/1kv batch 1 context 131072", "H200 31", 31, 25, "us"),
        new("rope", "8q/1kv tokens 64", "5.1 (MI308X)", 5, 5, "us"),
    ];

    public static string Write(Inspection inspection)
    {
        var text = new StringBuilder();
        text.AppendLine($"**Modelled from the compiled code, not measured**: nothing on this page was run on a {inspection.Gpu.Target}.").AppendLine();
        text.AppendLine($"Produced by `octet inspect --report docs/gfx942-report.md`, from {inspection.BuildInfo}.").AppendLine();
        Explain(text, inspection.Gpu);
        Check(text);
        WriteGoals(text, inspection);
        foreach (var target in inspection.Kernels.Select(k => k.Target).Distinct())
        {
            text.AppendLine($"## Kernels of {target}").AppendLine();
            text.AppendLine(InspectTable.Markdown(InspectTable.KernelHeader, [.. inspection.Kernels.Where(k => k.Target == target).Select(k => InspectTable.Row(inspection, k))]));
        }

        text.Append(StepTable.Markdown(new StepCosts(inspection.Costs), inspection.Gpu));
        text.AppendLine($"## Shapes on {inspection.Gpu.Target}").AppendLine();
        text.Append(InspectTable.Markdown(InspectTable.ShapeHeader, [.. inspection.Shapes.Select(InspectTable.Row)]));
        return text.ToString();
    }

    private static void Explain(StringBuilder text, Gpu gpu) => text.AppendLine(string.Create(CultureInfo.InvariantCulture, $"""
        ## How to read it

        Registers, spills and scratch come from the code object, LDS from what the launchers ask for. The hot loop is the one with the
        most matrix instructions; a turn of it is laid out as a straight line along the branches it most likely takes: those with more
        matrix work, then with more bytes by the widest loads, then the shorter ones. `llvm-mca` tells what a turn takes one wave; it counts
        passes of 4 clocks, and the table shows clocks. *Matrix busy* is matrix clocks / max(llvm-mca, LDS bytes of four waves / 128,
        vector clocks with 16 for a transcendental): one wave on a SIMD. *Transactions* and *LDS passes* are counted in the simulator on
        small versions of the shapes: 64-byte transactions x 64 / bytes accessed, and bank passes / passes without conflicts.

        A launch takes max(hbm, cache, max(matrix, vector, lds) + tail + wait) + the first load + launch, in microseconds (a kernel
        without a loop runs once and waits for its loads where its code does: no first load comes before it):

        - matrix: flops of the tiles, padding included, at {gpu.Fp8Teraflops} TFLOP/s (bf16: half), or the unit's clocks at {gpu.GigaHertz} GHz if longer;
        - vector, lds: the unit's clocks, spread over {gpu.ComputeUnits} CUs; cache: bytes the waves load, in whole transactions, at {gpu.CacheTerabytes} TB/s; hbm: each byte once, at {gpu.HbmTerabytes} TB/s;
        - tail: the busiest unit's share lost because ceil(blocks / CUs) blocks fall to one CU; launch: {Gpu.LaunchMicroseconds} us from one launch to the next;
        - wait: what the chain of turns takes beyond that. The widest loads of a turn take {Gpu.CacheMicroseconds} to {Gpu.MemoryMicroseconds} us, by how many bytes miss the caches, all others
          {Gpu.CacheMicroseconds} us, and are waited for where the code has `s_waitcnt vmcnt`. r waves on a SIMD take one wave's turn + (r - 1) x the clocks of the unit they
          use most.

        Grids, blocks and LDS are those of the real launchers, on a planned device. Experts are chosen at random: 128 (1 - (15/16)^T) of
        them are read, and tiles are filled accordingly. The term that binds is the largest one of the sum over an op's launches.
        """)).AppendLine();

    private static void Check(StringBuilder text)
    {
        text.AppendLine("## The model against published times").AppendLine();
        text.AppendLine("AITER's tuned configurations, described by hand (16x64x256 without split-K up to M = 128, 128x128x128 from M = 2048; one turn of loads in flight),");
        text.AppendLine("against its published times on gfx942. Two constants, the latency and the launch, were fitted to the first three rows, so these show that the").AppendLine("form of the model holds, not that it predicts; the last row was not fitted.").AppendLine();
        text.AppendLine(InspectTable.Markdown(
            ["shape", "published us", "modelled us", "modelled / published"],
            [.. PublicFigures.All.Select(f => new[] { f.Name, InspectTable.Text(f.Microseconds), InspectTable.Text(f.Microseconds * f.Ratio), InspectTable.Text(f.Ratio) })]));
        var outside = PublicFigures.All.Where(f => f.Ratio is < 1 / 1.5 or > 1.5).Select(f => f.Name).ToList();
        text.AppendLine(outside.Count == 0
            ? "All lie within a factor of 1.5. The large GEMM comes out faster than published: the model charges no address arithmetic, no epilogue and no clock drop beside the power ceiling."
            : $"Not within a factor of 1.5: {string.Join(", ", outside)}.").AppendLine();
    }

    private static void WriteGoals(StringBuilder text, Inspection inspection)
    {
        var rows = new List<string[]>();
        foreach (var goal in Goals)
        {
            if (inspection.Shapes.FirstOrDefault(s => s.Op == goal.Op && s.Name == goal.Shape) is not { } shape)
            {
                continue;
            }

            var isRate = goal.Unit == "TFLOP/s";
            var value = isRate ? shape.Teraflops : shape.Microseconds;
            bool Meets(double limit) => isRate ? value >= limit : value <= limit;
            rows.Add([
                $"{goal.Op} {goal.Shape}", goal.Unit, goal.Elsewhere, InspectTable.Text(goal.Must), InspectTable.Text(goal.Stretch), InspectTable.Text(value),
                Meets(goal.Stretch) ? "beyond stretch" : Meets(goal.Must) ? "met" : "missed", shape.Terms.Binds,
                isRate ? InspectTable.Text(shape.Flops / shape.LoopMicroseconds * 1e-6) : "-",
            ]);
        }

        if (rows.Count > 0)
        {
            text.AppendLine("## Goals").AppendLine();
            text.AppendLine("The last column leaves memory out: max(flops / ceiling, matrix clocks / *matrix busy*) / tail of the matrix launches. The verdict is of the whole model.").AppendLine();
            text.AppendLine(InspectTable.Markdown(["shape", "unit", "best known elsewhere, measured there", "goal", "stretch", "modelled", "verdict", "binds", "loops alone"], rows));
        }
    }
}
