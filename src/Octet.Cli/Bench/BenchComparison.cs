namespace Octet.Cli.Bench;

/// <summary>
/// A run held against an earlier one. Each result of a run is a pair, the op and the ceilings, measured in turn; so the shares
/// are compared and not the times: a machine that is busy today slows both sides of a pair.
/// </summary>
/// <param name="Op">The op.</param>
/// <param name="Name">The shape.</param>
/// <param name="TimeRatio">Time now to the time then.</param>
/// <param name="SpeedRatio">Share of the ceiling now to the share then; of the times where there is no ceiling.</param>
/// <param name="IsWorse">Whether the loss is more than the threshold.</param>
/// <param name="IsAboveCeiling">Whether one of the two was measured above the ceiling, so that the ratio says little.</param>
internal sealed record BenchComparison(string Op, string Name, double TimeRatio, double SpeedRatio, bool IsWorse, bool IsAboveCeiling)
{
    /// <summary>Refuses a run that has nothing to be held against: asked before minutes go into the new one.</summary>
    /// <param name="path">The earlier run's file, for the message.</param>
    /// <param name="earlier">The earlier run.</param>
    /// <param name="device">The device of the run to come.</param>
    /// <param name="description">Its product.</param>
    /// <param name="workloads">The workloads of the run to come, op and name.</param>
    /// <exception cref="ArgumentException">The earlier run is of another device, or has none of the workloads.</exception>
    public static void Require(string path, BenchReport earlier, string device, string description, IReadOnlyCollection<(string Op, string Name)> workloads)
    {
        var (then, now) = (earlier.Origin.DeviceDescription, description);
        if (earlier.Device != device || (then != BenchOrigin.Unknown && then != now))
        {
            throw new ArgumentException(
                $"--compare: {path} is of {earlier.Device} ({then}), this run would be of {device} ({now}): the same device is needed");
        }

        if (!earlier.Results.Any(result => workloads.Contains((result.Op, result.Name))))
        {
            throw new ArgumentException(
                $"--compare: none of the {earlier.Results.Count} results of {path} is among the {workloads.Count} workloads of this run: other --op and --name, or a file of the same are needed");
        }
    }

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
               select new BenchComparison(result.Op, result.Name, time, speed, speed < 1 - threshold, old.IsAboveCeiling || result.IsAboveCeiling),
        ];
    }
}
