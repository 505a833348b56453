namespace Octet.Cli.Bench;

/// <summary>
/// A run held against an earlier one. Each result of a run is a pair, the op and the ceilings, measured in turn; so the shares
/// are compared and not the times: a machine that is busy today slows both sides of a pair.
/// </summary>
internal sealed record BenchComparison(string Op, string Name, double TimeRatio, double SpeedRatio, bool IsWorse)
{
    /// <summary>The results that both runs have.</summary>
    /// <param name="earlier">The run before the change.</param>
    /// <param name="now">The run after it.</param>
    /// <param name="threshold">A loss of more than this share is a regression: 0.1 is a tenth.</param>
    public static IReadOnlyList<BenchComparison> Of(BenchReport earlier, BenchReport now, double threshold)
    {
        var before = earlier.Results.ToDictionary(result => (result.Op, result.Name));
        return
        [
            .. from result in now.Results
               where before.ContainsKey((result.Op, result.Name))
               let old = before[(result.Op, result.Name)]
               let time = result.Microseconds / old.Microseconds
               let speed = old.ShareOfCeiling > 0 && result.ShareOfCeiling > 0 ? result.ShareOfCeiling / old.ShareOfCeiling : 1 / time
               select new BenchComparison(result.Op, result.Name, time, speed, speed < 1 - threshold),
        ];
    }
}
