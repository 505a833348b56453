using System.Diagnostics;
using System.Globalization;
using System.Text;
using Octet.Backends;
using Octet.Cases;
using Octet.Cli.Bench;

namespace Octet.Benchmarks;

/// <summary>
/// docs/cpu-report.md: the cpu device beside ONNX Runtime on the shapes of one Qwen3-235B layer, run in turn, and how its time
/// grows with tokens, experts, context and threads. Ratios are medians over pairs taken in turn.
/// </summary>
internal static class CpuReport
{
    private const int Hidden = 4096;
    private const int Intermediate = 1536;
    private const int Experts = 128;

    // f32 experts in turn: together larger than any last-level cache of two cores' share, and they fit a small machine.
    private const int OnnxExperts = 6;
    private const double CacheBytes = 64 << 20;
    private const double Seconds = 2;

    private static readonly int[] s_tokens = [1, 8, 64, 512];

    public static void Write(string path)
    {
        var threads = CpuThreads.DefaultCount();
        using var device = Device.Open("cpu");
        using var clock = new BenchClock(device);
        using var probe = new BenchProbe(device, clock, CacheBytes);
        var text = new StringBuilder();
        Line(text, $"# The cpu device, measured");
        Line(text, $"");
        Line(text, $"Made by `dotnet run -c Release --project benchmarks/Octet.Benchmarks -- report` on {device.Properties.Description}, {threads} threads,");
        Line(text, $".NET {Environment.Version}, {DateTime.UtcNow:yyyy-MM-dd}. Every figure is a median; ratios are medians over pairs of runs taken in turn, because");
        Line(text, $"the machine was shared: compare the figures of one row, not those of two reports.");
        Line(text, $"");
        var rows = Compare(text, device, clock, probe, threads);
        var ceilings = probe.Ceilings;
        Line(text, $"");
        Line(text, $"Ceilings measured beside them: plain reading {ceilings.GBytesPerSecond:F1} GB/s, f32 multiply-adds {ceilings.GFlops:F0} GFLOP/s. The share of the ceiling");
        Line(text, $"is the longer of reading the bytes and doing the operations at those rates, over the time it took.");
        Line(text, $"");
        var attention = Attention(text, device);
        Line(text, $"");
        Goals(text, rows, attention, ceilings);
        Line(text, $"");
        var growth = Growth(text, device, threads);
        var folder = Path.GetDirectoryName(path) is { Length: > 0 } named ? named : ".";
        File.WriteAllText(Path.Combine(folder, "cpu-growth.svg"), GrowthPlot.Write(growth));
        Line(text, $"");
        Line(text, $"![Time against tokens, experts touched, context and threads](cpu-growth.svg)");
        File.WriteAllText(path, text.ToString());
    }

    /// <summary>One row of the comparison.</summary>
    /// <param name="IsLayer">The experts of a layer; else one projection.</param>
    /// <param name="Tokens">Rows of A.</param>
    /// <param name="Flops">Operations.</param>
    /// <param name="Bytes">Of the weights and activations once.</param>
    /// <param name="Share">Of the ceiling measured in turn with it.</param>
    /// <param name="Single">Times as fast as ONNX Runtime's f32.</param>
    /// <param name="EightBit">Times as fast as its 8-bit weights.</param>
    private sealed record Measured(bool IsLayer, int Tokens, double Flops, double Bytes, double Share, double Single, double EightBit)
    {
        /// <summary>Share of plain reading, where operations may be the longer of the two.</summary>
        public double OfReading(BenchCeilings ceilings) =>
            Share * Math.Min(1, Bytes / ceilings.GBytesPerSecond / (Flops / ceilings.GFlops));
    }

    // What the device is meant to reach, and the worst row of this run.
    private static void Goals(StringBuilder text, List<Measured> rows, List<BenchResult> attention, BenchCeilings ceilings)
    {
        Line(text, $"## Goals");
        Line(text, $"");
        Line(text, $"| goal | at least | the worst row | |");
        Line(text, $"|---|---|---|---|");
        Goal("1 token: share of plain reading", 0.7, r => r.Tokens == 1, r => r.OfReading(ceilings));
        Goal("8 tokens: share of plain reading", 0.7, r => r.Tokens == 8, r => r.OfReading(ceilings));
        Goal("64 and 512 tokens: share of the f32 multiply-adds", 0.6, r => r.Tokens >= 64, r => r.Share);
        Goal("1 token: times f32", 2.5, r => r.Tokens == 1, r => r.Single);
        Goal("8 tokens: times f32", 2.5, r => r.Tokens == 8, r => r.Single);
        Goal("1 token: times 8-bit", 1, r => r.Tokens == 1, r => r.EightBit);
        Goal("8 tokens: times 8-bit", 1, r => r.Tokens == 8, r => r.EightBit);
        Goal("projections, 64 and 512 tokens: times f32", 0.7, r => r.Tokens >= 64 && !r.IsLayer, r => r.Single);
        Goal("layer, 64 and 512 tokens: times f32", 1, r => r.Tokens >= 64 && r.IsLayer, r => r.Single);
        Verdict("attention: share of the ceiling", 0.6, attention.Min(r => r.ShareOfCeiling));
        Line(text, $"");
        Line(text, $"At 8 tokens a byte of weights takes 16 operations: {0.7 * ceilings.GBytesPerSecond * 16:F0} GFLOP/s would be needed to read at 70 %, of {ceilings.GFlops:F0} the machine has in f32.");

        void Goal(string name, double least, Func<Measured, bool> which, Func<Measured, double> value) =>
            Verdict(name, least, rows.Where(which).Min(value));

        void Verdict(string name, double least, double worst) =>
            Line(text, $"| {name} | {least:0.0#} | {worst:F2} | {(worst >= least ? "met" : "missed")} |");
    }

    private static List<Measured> Compare(StringBuilder text, Device device, BenchClock clock, BenchProbe probe, int threads)
    {
        Line(text, $"## Beside ONNX Runtime {typeof(Microsoft.ML.OnnxRuntime.InferenceSession).Assembly.GetName().Version?.ToString(3)}");
        Line(text, $"");
        Line(text, $"f32: MatMul; 8-bit: MatMulNBits, blocks of 128, accuracy level 4. Ratios over 1: Octet is faster. The layer is {Experts} experts of random FP8");
        Line(text, $"weights (2.4 GB), each token routed to 8; ONNX Runtime runs expert by expert, {OnnxExperts} experts' weights in turn.");
        Line(text, $"");
        Line(text, $"| shape | tokens | Octet ms | GFLOP/s | GB/s | of ceiling | f32 ms | 8-bit ms | x f32 | x 8-bit |");
        Line(text, $"|---|---|---|---|---|---|---|---|---|---|");
        var rows = new List<Measured>();
        foreach (var (name, n, k) in new[] { ("QKV", 9216, Hidden), ("O", Hidden, 8192) })
        {
            using var single = OnnxProduct.Linear(k, n, eightBit: false, threads, new Random(1));
            using var eight = OnnxProduct.Linear(k, n, eightBit: true, threads, new Random(1));
            foreach (var tokens in s_tokens)
            {
                var workload = WorkloadList.Gemm(name, tokens, n, k);
                using var context = new WorkloadContext(device, CacheBytes);
                var (launch, next) = (workload.Prepare(context), 0);
                rows.Add(Row(
                    text, $"{name} {n} x {k}", tokens, isLayer: false, workload.Flops, workload.Bytes, () => launch(next++), single.On(tokens),
                    eight.On(tokens), clock, probe));
                Console.Error.WriteLine($"{name}, {tokens} tokens");
            }
        }

        using var weights = new WorkloadContext(device, CacheBytes);
        OnnxProduct[] singles = [.. Enumerable.Range(0, OnnxExperts).Select(i => OnnxProduct.Expert(Hidden, Intermediate, eightBit: false, threads, new Random(i)))];
        OnnxProduct[] eights = [.. Enumerable.Range(0, OnnxExperts).Select(i => OnnxProduct.Expert(Hidden, Intermediate, eightBit: true, threads, new Random(i)))];
        var stack = (weights.Weight(Intermediate, Hidden, Experts), weights.Weight(Intermediate, Hidden, Experts), weights.Weight(Hidden, Intermediate, Experts));
        foreach (var tokens in s_tokens)
        {
            using var context = new WorkloadContext(device, CacheBytes);
            var layer = new ExpertLayer(context, stack, WorkloadList.Route(new Random(tokens), tokens, Experts), tokens);
            rows.Add(Row(
                text, $"{layer.Touched} experts", tokens, isLayer: true, layer.Flops, layer.Bytes, layer.Run, layer.OneByOne(singles),
                layer.OneByOne(eights), clock, probe));
            Console.Error.WriteLine($"layer, {tokens} tokens");
        }

        foreach (var product in (OnnxProduct[])[.. singles, .. eights])
        {
            product.Dispose();
        }

        return rows;
    }

    private static Measured Row(
        StringBuilder text, string shape, int tokens, bool isLayer, double flops, double bytes, Action octet, Action single, Action eight,
        BenchClock clock, BenchProbe probe)
    {
        for (var i = 0; i < 2; i++)
        {
            octet();
            single();
            eight();
        }

        var (ours, singles, eights, shares) = (new List<double>(), new List<double>(), new List<double>(), new List<double>());
        var start = Stopwatch.GetTimestamp();
        while (ours.Count < 5 || (ours.Count < 200 && Stopwatch.GetElapsedTime(start).TotalSeconds < Seconds))
        {
            var floor = probe.Floor(flops, bytes);
            ours.Add(clock.Time(octet));
            singles.Add(clock.Time(single));
            eights.Add(clock.Time(eight));
            shares.Add(floor / ours[^1]);
        }

        var time = BenchClock.Median(ours);
        var row = new Measured(isLayer, tokens, flops, bytes, BenchClock.Median(shares), Ratio(singles, ours), Ratio(eights, ours));
        Line(
            text,
            $"| {shape} | {tokens} | {time / 1e3:F2} | {flops / time / 1e3:F0} | {bytes / time / 1e3:F1} | {row.Share:P0} | {BenchClock.Median(singles) / 1e3:F2} | {BenchClock.Median(eights) / 1e3:F2} | {row.Single:F2} | {row.EightBit:F2} |");
        return row;
    }

    private static double Ratio(List<double> theirs, List<double> ours) => BenchClock.Median(theirs.Zip(ours, (t, o) => t / o));

    // Attention over a cache in FP8: sixteen heads share what is read, so the multiply-adds are the ceiling of decode too.
    private static List<BenchResult> Attention(StringBuilder text, Device device)
    {
        Line(text, $"## Attention over FP8 K and V");
        Line(text, $"");
        Line(text, $"64 heads of 128 over 4 KV heads.");
        Line(text, $"");
        Line(text, $"| op | shape | ms | GFLOP/s | of ceiling |");
        Line(text, $"|---|---|---|---|---|");
        using var runner = new BenchRunner(device, Seconds, CancellationToken.None);
        var results = WorkloadList.All.Where(w => w.Op.StartsWith("attention", StringComparison.Ordinal)).Select(runner.Run).ToList();
        foreach (var result in results)
        {
            Line(text, $"| {result.Op} | {result.Name} | {result.Microseconds / 1e3:F2} | {result.GFlops:F0} | {result.ShareOfCeiling:P0} |");
        }

        return results;
    }

    private static List<GrowthPlot.Series> Growth(StringBuilder text, Device device, int threads)
    {
        Line(text, $"## How the time grows");
        Line(text, $"");
        Line(text, $"| what | from | to |");
        Line(text, $"|---|---|---|");
        List<GrowthPlot.Series> all =
        [
            new("tokens (QKV)", Points(device, [1, 2, 4, 8, 16, 32, 64, 128, 256], m => WorkloadList.Gemm("QKV", m, 9216, Hidden))),
            new("experts touched (gate, up; 1 token each)", Points(device, [1, 2, 4, 8, 16, 32], count => Touched(count))),
            new("context (decode, 1 sequence)", Points(device, [256, 1024, 4096, 16_384, 65_536], length => WorkloadList.Decode(1, length))),
            new("threads (QKV, 64 tokens)", [.. Enumerable.Range(1, threads).Select(count => Threads(count))]),
        ];
        foreach (var series in all)
        {
            Line(text, $"| {series.Name} | {string.Join(", ", series.Points.Select(p => p.At.ToString("N0", CultureInfo.InvariantCulture)))} | {string.Join(", ", series.Points.Select(p => p.Milliseconds.ToString("G3", CultureInfo.InvariantCulture)))} ms |");
            Console.Error.WriteLine(series.Name);
        }

        return all;
    }

    private static Workload Touched(int count) => WorkloadList.Touching(count, Intermediate, Hidden);

    private static (double At, double Milliseconds)[] Points(Device device, int[] at, Func<int, Workload> workload)
    {
        using var runner = new BenchRunner(device, 0.4, CancellationToken.None);
        return [.. at.Select(x => ((double)x, runner.Run(workload(x)).Microseconds / 1e3))];
    }

    private static (double At, double Milliseconds) Threads(int count)
    {
        var before = Environment.GetEnvironmentVariable("OCTET_CPU_THREADS");
        Environment.SetEnvironmentVariable("OCTET_CPU_THREADS", count.ToString(CultureInfo.InvariantCulture));
        try
        {
            using var device = Device.Open("cpu");
            using var runner = new BenchRunner(device, 0.4, CancellationToken.None);
            return (count, runner.Run(WorkloadList.Gemm("QKV", 64, 9216, Hidden)).Microseconds / 1e3);
        }
        finally
        {
            Environment.SetEnvironmentVariable("OCTET_CPU_THREADS", before);
        }
    }

    private static void Line(StringBuilder text, FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
