using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Inference.Parallel;

namespace Octet.Cli.Inspect;

/// <summary>What a step computes.</summary>
/// <param name="DecodeRows">Sequences that are continued by a token; 0: none.</param>
/// <param name="Context">Tokens of each, the new one included.</param>
/// <param name="Prompts">Prompts that are read; 0: none.</param>
/// <param name="PromptTokens">Tokens of each.</param>
internal readonly record struct StepLoad(int DecodeRows, int Context, int Prompts, int PromptTokens)
{
    /// <summary>"decode" or "prefill"; a step that has both is called by its continuations.</summary>
    public string Kind => DecodeRows > 0 ? "decode" : "prefill";

    /// <summary>Tokens in all.</summary>
    public long Tokens => DecodeRows + (long)Prompts * PromptTokens;

    /// <summary>Tokens in the cache behind the step.</summary>
    public long KvTokens => (long)DecodeRows * Context + (long)Prompts * PromptTokens;
}

/// <summary>
/// One step of a model as the engine enqueues it, on the rank that draws: the engine's own layers, run over a checkpoint of shapes alone on
/// a planned device. Nothing is computed; the ops are written down.
/// </summary>
internal static class EngineStep
{
    private const int BlockSize = 64;

    private static readonly TimeSpan s_timeout = TimeSpan.FromMinutes(1);

    /// <summary>The ops of a step, in order; of decode as it is recorded for its bucket of rows and context.</summary>
    /// <param name="target">"gfx942" or "gfx950".</param>
    /// <param name="config">The model.</param>
    /// <param name="tp">Ranks, over which it can be divided.</param>
    /// <param name="ep">Parts of the experts.</param>
    /// <param name="load">What the step computes.</param>
    /// <param name="dividesTokens">False: every rank does all tokens, however many.</param>
    /// <exception cref="OctetException">An op cannot be that large.</exception>
    public static IReadOnlyList<RecordedOp> Record(
        string target, ModelConfig config, int tp, int ep, StepLoad load, bool dividesTokens = true)
    {
        RankShape[] shapes = [.. Enumerable.Range(0, tp).Select(rank => new RankShape(config, new Sharding(rank, tp, ep)))];
        var backend = new RecordingBackend(Device.Open($"plan:{target}"), shapes[0], load);
        using var device = Device.Over(backend);
        using var tensors = new ShapeTensors();
        using var model = ModelRegistry.Get(config.Architecture).Create(new LayerSource(tensors, config, shapes[0].Sharding));
        using var weights = new TensorSet(device);
        model.Load(new WeightLoader(device, weights, new() { MayMap = false }));

        var (rows, bound) = BucketOf(load, config.MaxContext);
        var bounds = BoundsOf(load, rows, bound);
        using var workspace = new Workspace(device);
        using var cache = new PagedKvCache(device, model.Kv, KvEncoding.Float8, BlockSize, BlocksOf(bounds.MaxContext), model.KvScales);
        model.Prepare(device, cache, workspace, bounds, s_timeout);
        using var peers = Connect(device, model, shapes, bounds, dividesTokens);
        using var input = new StepInput(device, workspace, bounds, shapes[0]);
        input.Fill(PlanOf(load), rows, bound);
        using var output = new SamplingOutput(device, input.Outputs) { Rows = input.Outputs };
        _ = backend.Take();

        model.Run(input);
        var args = input.Sampling(model.Head(input), output);
        Ops.Sampling(device.Stream, args with { Workspace = workspace.Take(backend.SamplingWorkspace(in args)) });
        return backend.Take();
    }

    // Rows of continuations and the bound of their context: padded where the step is recorded as a graph.
    private static (int Rows, int Context) BucketOf(StepLoad load, int maxContext) =>
        load.Prompts == 0 && load.DecodeRows <= DecodeGraphs.LargestBucket
        ? (DecodeGraphs.RowBucket(load.DecodeRows), DecodeGraphs.ContextBucket(load.Context, maxContext))
        : (load.DecodeRows, load.DecodeRows == 0 ? 0 : load.Context);

    private static StepBounds BoundsOf(StepLoad load, int rows, int context)
    {
        var all = rows + StepInput.RowAlignment + load.Prompts;
        return new(checked((int)load.Tokens + all), all, all, Math.Max(context, load.PromptTokens), BlockSize);
    }

    private static int BlocksOf(int tokens) => (tokens + BlockSize - 1) / BlockSize;

    // The peers' part in what the ranks share: addresses alone.
    private static Parts Connect(Device device, IModel model, RankShape[] shapes, StepBounds bounds, bool dividesTokens)
    {
        var parts = new Parts();
        if (model.Exchange is { } own)
        {
            own.MayDivideTokens = dividesTokens;
            List<Exchange> ranks = [own];
            foreach (var shape in shapes.Skip(1))
            {
                var buffers = new StepBuffers(parts.Add(new TensorSet(device)), shape, bounds.MaxTokens, bounds.MaxOutputs);
                ranks.Add(parts.Add(new Exchange(device, shape, buffers, s_timeout)));
            }

            Exchange.Connect(ranks);
        }

        return parts;
    }

    // Which tokens they are matters to nobody, so that one text stands for all of a kind.
    private static StepPlan PlanOf(StepLoad load)
    {
        var plan = new StepPlan { DecodeRows = load.DecodeRows };
        Add(load.DecodeRows, load.Context, load.Context - 1);
        Add(load.Prompts, load.PromptTokens, 0);
        return plan;

        void Add(int rows, int tokens, int start)
        {
            var text = new Sequence(0, new int[tokens], tokens + 1);
            text.Blocks.AddRange(Enumerable.Range(0, BlocksOf(tokens)));
            for (var row = 0; row < rows; row++)
            {
                plan.Add(new(text, start, tokens - start, 1));
            }
        }
    }

    private sealed class Parts : IDisposable
    {
        private readonly Stack<IDisposable> _parts = new();

        public T Add<T>(T part) where T : IDisposable
        {
            _parts.Push(part);
            return part;
        }

        public void Dispose()
        {
            while (_parts.TryPop(out var part))
            {
                part.Dispose();
            }
        }
    }
}
