using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Exporters.Json;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;

namespace Octet.Benchmarks;

/// <summary>BenchmarkDotNet's defaults, the full JSON, and columns in the units of a kernel author.</summary>
internal sealed class OpConfig : ManualConfig
{
    public OpConfig()
    {
        Add(DefaultConfig.Instance);
        AddExporter(JsonExporter.Full);
        AddColumn(
            new OpColumn("TFLOP/s", (of, time) => of.Case.Flops / time / 1e6),
            new OpColumn("GB/s", (of, time) => of.Case.Bytes / time / 1e3),
            new OpColumn("share of ceiling", (of, time) => Floor(of) / time),
            new OpColumn("device us", (of, _) => DeviceTimes.Microseconds(of)));
        WithOptions(ConfigOptions.DisableOptimizationsValidator | ConfigOptions.JoinSummary);
    }

    // The time the ceilings measured in this run allow, in microseconds.
    private static double? Floor(OpCase of) => DeviceTimes.Ceilings(of.Device) is { } ceilings
        ? Math.Max(of.Case.Bytes / ceilings.GBytesPerSecond, ceilings.GFlops > 0 ? of.Case.Flops / ceilings.GFlops : 0) / 1e3
        : null;

    private sealed class OpColumn(string name, Func<OpCase, double, double?> value) : IColumn
    {
        public string Id => name;

        public string ColumnName => name;

        public bool AlwaysShow => true;

        public ColumnCategory Category => ColumnCategory.Custom;

        public int PriorityInCategory => 0;

        public bool IsNumeric => true;

        public UnitType UnitType => UnitType.Dimensionless;

        public string Legend => $"{name}, from the mean time and the case's flops and bytes";

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase) => GetValue(summary, benchmarkCase, SummaryStyle.Default);

        public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style)
        {
            var mean = summary[benchmarkCase]?.ResultStatistics?.Mean;
            var of = benchmarkCase.Parameters.Items.FirstOrDefault(p => p.Name == nameof(OpBenchmarks.Case))?.Value as OpCase;
            return mean is { } nanoseconds && of is not null && value(of, nanoseconds / 1e3) is { } number
                ? number.ToString("G4", CultureInfo.InvariantCulture)
                : "-";
        }

        public bool IsAvailable(Summary summary) => true;

        public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;
    }
}
