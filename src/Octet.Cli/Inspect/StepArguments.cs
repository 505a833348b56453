using System.CommandLine;
using Octet.Inference.Parallel;
using Octet.Inference.Planning;

namespace Octet.Cli.Inspect;

/// <summary>The options of octet inspect --step: which step of the target model, on how many ranks.</summary>
internal sealed class StepArguments
{
    private const int DefaultContext = 4096;

    private const string Expected = "a whole number of at least 1";

    private readonly Option<string?> _step = new Option<string?>("--step")
    {
        Description = "Instead of the tables: one step of Qwen3-235B-A22B in FP8, launch by launch; "
            + "decode: a token for each sequence, prefill: whole prompts",
    }.AcceptOnlyFromAmong("decode", "prefill");

    private readonly Option<int?> _tensor = NumberOption.Create<int>(
        "--tp", "With --step: ranks that divide the model; default: 1", ParallelSizes.Sizes, ParallelSizes.IsSize);

    private readonly Option<int?> _expert = NumberOption.Create<int>(
        "--ep", "With --step: parts the experts are divided into, a divisor of --tp; default: --tp", ParallelSizes.Sizes,
        ParallelSizes.IsSize);

    private readonly Option<int?> _batch = NumberOption.Create<int>("--batch", "With --step: sequences; default: 1", Expected, x => x >= 1);

    private readonly Option<int?> _context = NumberOption.Create<int>(
        "--context", $"With --step: tokens of each sequence, the new one included, or of each prompt; default: {DefaultContext}", Expected,
        x => x >= 1);

    /// <summary>The options.</summary>
    public IReadOnlyList<Option> All => [_step, _tensor, _expert, _batch, _context];

    /// <summary>Models the step that is asked for; null: none is.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="others">Options that do not go with --step.</param>
    /// <param name="costs">Reads the kernels.</param>
    /// <exception cref="ArgumentException">Options that do not go together, or a step that cannot be.</exception>
    public StepCost? Find(ParseResult parsed, IReadOnlyList<Option> others, Func<KernelCosts> costs)
    {
        if (parsed.GetValue(_step) is not { } step)
        {
            return All.Skip(1).FirstOrDefault(option => parsed.GetResult(option) is not null) is { } alone
                ? throw new ArgumentException($"{alone.Name} says of which step: --step decode or --step prefill is needed") : null;
        }

        if (others.FirstOrDefault(option => parsed.GetResult(option) is not null) is { } other)
        {
            throw new ArgumentException($"{other.Name} does not go with --step, which takes --target, --json and --no-sim");
        }

        var (tp, batch) = (parsed.GetValue(_tensor) ?? 1, parsed.GetValue(_batch) ?? 1);
        var context = parsed.GetValue(_context) ?? DefaultContext;
        var load = step == "decode" ? new StepLoad(batch, context, 0, 0) : new StepLoad(0, 0, batch, context);
        var (model, ep) = (ModelShape.Find(ModelShape.Target), parsed.GetValue(_expert) ?? tp);
        StepCosts.Check(model, tp, ep, load);
        return new StepCosts(costs()).Of(model, tp, ep, load);
    }
}
