
namespace Octet.Cli.Inspect;

/// <summary>The modelled time of a shape.</summary>
/// <param name="Op">The op.</param>
/// <param name="Name">The shape's name.</param>
/// <param name="Config">The kernels launched, in order, joined by " + ".</param>
/// <param name="Launches">How many launches.</param>
/// <param name="Blocks">Of the largest grid.</param>
/// <param name="Flops">Useful ones.</param>
/// <param name="Bytes">Read and written at least.</param>
/// <param name="Terms">Where the time goes.</param>
/// <param name="LoopMicroseconds">The matrix launches by their loops' busy share alone.</param>
internal sealed record ModelledShape(
    string Op, string Name, string Config, int Launches, long Blocks, double Flops, double Bytes, Terms Terms, double LoopMicroseconds)
{
    public double Microseconds => Terms.Total;

    public double Teraflops => Flops / Terms.Total * 1e-6;

    public double GigabytesPerSecond => Bytes / Terms.Total * 1e-3;

    /// <summary>Plans a shape's ops with their own launchers, and adds up the modelled launches.</summary>
    /// <param name="costs">Of the kernels.</param>
    /// <param name="shape">The ops.</param>
    /// <param name="plan">A planned device of their target.</param>
    /// <param name="launched">Told of every launch.</param>
    public static ModelledShape Model(KernelCosts costs, Shape shape, OpSession plan, Action<PlannedLaunch> launched)
    {
        var terms = default(Terms);
        var loops = 0.0;
        var all = new List<PlannedLaunch>();
        foreach (var step in shape.Steps)
        {
            var (workspace, launches) = plan.Plan(step);
            all.AddRange(launches);
            foreach (var work in Divide(step.Work, launches, workspace, costs.ByName))
            {
                loops += CostModel.LoopMicroseconds(costs.Gpu, work);
                terms += costs.TimeOf(work);
            }
        }

        all.ForEach(launched);
        return new(
            shape.Op, shape.Name, string.Join(" + ", all.Select(l => l.Kernel)), all.Count, all.Max(l => l.Blocks),
            shape.Steps.Sum(s => s.Work.Flops), shape.Steps.Sum(s => s.Work.HbmBytes), terms, loops);
    }

    /// <summary>
    /// An op's work among its launches: the matrix work and the op's bytes to the launches that use the matrix unit, in equal parts
    /// (to the first launch where none does); what they leave in the workspace is written by them and read by the others.
    /// </summary>
    public static IEnumerable<LaunchWork> Divide(
        OpWork op, IReadOnlyList<PlannedLaunch> launches, long workspace, IReadOnlyDictionary<string, KernelCost> kernels)
    {
        bool IsMatrix(PlannedLaunch launch) => op.Macs is not null && kernels[launch.Kernel].Mix.Macs > 0;
        var workers = launches.Where(IsMatrix).ToList();
        if (workers.Count == 0)
        {
            workers = [launches[0]];
        }

        var others = launches.Count - workers.Count;
        foreach (var launch in launches)
        {
            var kernel = kernels[launch.Kernel];
            var isWorker = workers.Contains(launch);
            var macs = IsMatrix(launch) ? op.Macs!(kernel) / workers.Count : 0;
            var blocks = isWorker && op.WorkingBlocks is { } working ? working(kernel, launch, workspace) : launch.Blocks;
            var bytes = isWorker ? (op.HbmBytes + (others > 0 ? workspace : 0)) / workers.Count : (double)workspace / others;
            var loads = IsMatrix(launch) && op.Loads is { } loaded ? loaded(launch) / workers.Count : 0;
            kernel = op.Turns?.Invoke(launch) is { } turns ? kernel.LaidOut!(turns) : kernel;
            yield return new(kernel, blocks, launch.Threads / 64, launch.LdsBytes, macs, bytes, loads);
        }
    }
}
