using System.Runtime.InteropServices;
using Octet.Backends;
using Octet.Inference.Models.Layers;

namespace Octet.Cli.Inspect;

/// <summary>
/// A planned device that writes down every op of a step with what it has to do: one rank of a group, whose peers lie on the same device.
/// </summary>
/// <param name="plan">The planned device; taken over.</param>
/// <param name="shape">The rank.</param>
/// <param name="load">What the steps compute: the device alone knows how long texts are.</param>
internal sealed class RecordingBackend(Device plan, RankShape shape, StepLoad load) : Backend
{
    private readonly NativeBackend _plan = (NativeBackend)plan.Backend;
    private readonly List<RecordedOp> _ops = [];

    public override DeviceProperties Properties => _plan.Properties;

    public override long LiveBytes => _plan.LiveBytes;

    /// <summary>The ops since the last call, in order.</summary>
    public IReadOnlyList<RecordedOp> Take()
    {
        var ops = _ops.ToArray();
        _ops.Clear();
        return ops;
    }

    public override BufferHandle Allocate(long sizeInBytes, MemoryKind kind) => _plan.Allocate(sizeInBytes, kind);

    public override SafeHandle CreateStream(nint? native) => _plan.CreateStream(native);

    public override void Synchronize(DeviceStream stream) => _plan.Synchronize(stream);

    public override void Wait(DeviceStream stream, DeviceEvent deviceEvent) => _plan.Wait(stream, deviceEvent);

    public override void Copy(DeviceStream stream, nint destination, nint source, long sizeInBytes, CopyKind kind) =>
        _plan.Copy(stream, destination, source, sizeInBytes, kind);

    public override void Fill(DeviceStream stream, nint destination, byte value, long sizeInBytes)
    {
        _plan.Fill(stream, destination, value, sizeInBytes);
        Note("fill", $"{sizeInBytes} bytes", OpWork.Moving(sizeInBytes));
    }

    public override SafeHandle CreateEvent() => _plan.CreateEvent();

    public override void Record(DeviceEvent deviceEvent, DeviceStream stream) => _plan.Record(deviceEvent, stream);

    public override void Synchronize(DeviceEvent deviceEvent) => _plan.Synchronize(deviceEvent);

    public override float Elapsed(DeviceEvent start, DeviceEvent finish) => _plan.Elapsed(start, finish);

    public override void BeginCapture(DeviceStream stream) => _plan.BeginCapture(stream);

    public override SafeHandle EndCapture(DeviceStream stream) => _plan.EndCapture(stream);

    public override void Launch(DeviceGraph graph, DeviceStream stream) => _plan.Launch(graph, stream);

    public override void Quantize(DeviceStream stream, in QuantizeArgs args)
    {
        _plan.Quantize(stream, in args);
        var (rows, columns) = (args.X.Shape[0], args.X.Shape[1]);
        Note("quantize", $"{rows} x {columns}", OpWork.Quantize(rows, columns));
    }

    public override void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args) => throw NoOpOfAStep();

    public override void Repack(DeviceStream stream, in RepackArgs args) => throw NoOpOfAStep();

    public override void Embedding(DeviceStream stream, in EmbeddingArgs args)
    {
        _plan.Embedding(stream, in args);
        Note("embedding", $"{args.Output.Shape[0]} x {args.Output.Shape[1]}", OpWork.Moving(2.0 * args.Output.SizeInBytes));
    }

    public override void Norm(DeviceStream stream, in NormArgs args)
    {
        _plan.Norm(stream, in args);
        var (tokens, hidden) = (args.Tokens, args.X.Shape[^1]);
        var segments = args.X.Rank == 3 ? args.X.Shape[0] : 0;
        var (source, summand) = args.Nodes is { } nodes ? ($"{nodes.Count} nodes", 2.0 * tokens)
            : segments > 0 ? ($"{segments} partial sums", 4.0 * segments * tokens)
            : !args.PairSlots.IsNull ? ("slots", 2 * Choices(shape.Experts).Pairs(tokens))
            : ("rows", 2.0 * tokens);
        var (plain, quantized) = (!args.Output.IsNull, args.Quantized is not null);
        Note(
            "norm", $"{tokens} x {hidden} of {source} to {(plain ? quantized ? "bf16 and fp8" : "bf16" : "fp8")}",
            OpWork.Norm(tokens, hidden, summand, !args.Residual.IsNull, plain, quantized, segments),
            links: args.Nodes is null ? default : new(0, 0, 2.0 * tokens * hidden));
    }

    public override void Gemm(DeviceStream stream, in GemmArgs args)
    {
        _plan.Gemm(stream, in args);
        var (m, n, k, bfloat16) = (args.A.Shape[0], args.B.N, args.A.Shape[1], args.AScales.IsNull);
        var segments = args.Output.Rank == 3 ? args.Output.Shape[0] : 0;
        var role = RoleOf(in args);

        // The leader draws, so all others write their columns over a link; the step waits for them.
        var links = role == "head" && shape.Ranks > 1 ? new LinkUse(0, 0, 4.0 * m * n) : default;
        Note(
            $"gemm {role}", $"{m} x {n} x {k}{PartialSums(segments)}", OpWork.Gemm(m, n, k, bfloat16, segments),
            _plan.GemmWorkspace(in args), links);
    }

    public override void Activation(DeviceStream stream, in ActivationArgs args)
    {
        _plan.Activation(stream, in args);
        Note("activation", $"{args.Gate.Shape[0]} x {args.Gate.Shape[1]}", OpWork.Moving(5.0 * args.Gate.ElementCount));
    }

    public override void MoeRoute(DeviceStream stream, in MoeRouteArgs args)
    {
        _plan.MoeRoute(stream, in args);
        var (tokens, experts, topK) = (args.Ids.Shape[0], args.Logits.Shape[^1], (int)args.Ids.Shape[1]);
        var segments = args.Logits.Rank == 3 ? args.Logits.Shape[0] : 0;
        Note(
            "moe_route", $"{tokens} x {experts}{PartialSums(segments)}{(args.ExpertOffsets.IsNull ? "" : ", sorted")}",
            OpWork.MoeRoute(tokens, experts, topK, segments), _plan.MoeRouteWorkspace(in args));
    }

    public override void MoeSort(DeviceStream stream, in MoeSortArgs args)
    {
        _plan.MoeSort(stream, in args);
        var (tokens, topK) = (args.Ids.Shape[0], (int)args.Ids.Shape[1]);
        Note("moe_sort", $"{tokens} tokens", OpWork.MoeSort(tokens, topK), _plan.MoeSortWorkspace(in args));
    }

    public override void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args)
    {
        _plan.MoeGateUp(stream, in args);
        var (tokens, hidden, local, width) = (args.X.Values.Shape[0], args.X.Values.Shape[1], (int)args.Gate.Experts, args.Gate.N);
        Note(
            "moe_gate_up", $"{tokens} tokens, {local} experts of {width} x {hidden}",
            OpWork.MoeGateUp(tokens, Choices(local), hidden, width), _plan.MoeGateUpWorkspace(in args));
    }

    public override void MoeDown(DeviceStream stream, in MoeDownArgs args)
    {
        _plan.MoeDown(stream, in args);
        var (tokens, width) = (args.X.Values.Shape[0] / args.TopK, args.X.Values.Shape[1]);
        var (local, hidden) = ((int)args.Down.Experts, args.Down.N);
        Note(
            "moe_down", $"{tokens} tokens, {local} experts of {hidden} x {width}", OpWork.MoeDown(tokens, Choices(local), hidden, width),
            _plan.MoeDownWorkspace(in args));
    }

    public override void MoeCombine(DeviceStream stream, in MoeCombineArgs args)
    {
        _plan.MoeCombine(stream, in args);
        var (tokens, hidden) = (args.Output.Shape[0], args.Output.Shape[1]);
        Note("moe_combine", $"{tokens} x {hidden}", OpWork.MoeCombine(tokens, Choices(shape.Experts), hidden));
    }

    public override void Rope(DeviceStream stream, in RopeArgs args)
    {
        _plan.Rope(stream, in args);
        var (tokens, queries, keys, headDim) = (args.Q.Shape[0], (int)args.Q.Shape[1], (int)args.K.Shape[1], (int)args.Q.Shape[2]);
        Note("rope", $"{tokens} tokens, {queries} and {keys} heads of {headDim}", OpWork.Rope(tokens, queries, keys, headDim));
    }

    public override void KvWrite(DeviceStream stream, in KvWriteArgs args) => throw NoOpOfAStep();

    public override void KvCopy(DeviceStream stream, in KvCopyArgs args) => throw NoOpOfAStep();

    public override void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args)
    {
        _plan.AttentionPrefill(stream, in args);
        var (sequences, sizes) = (args.ContextLengths.ElementCount, SizesOf(args.Q, args.Cache));
        Note(
            "attention_prefill", $"{sequences} x {args.MaxQueries} of {load.PromptTokens}, {sizes.QueryHeads} and {sizes.KvHeads} heads",
            OpWork.AttentionPrefill(sizes, sequences, args.MaxQueries, load.PromptTokens), _plan.AttentionPrefillWorkspace(in args));
    }

    public override void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args)
    {
        _plan.AttentionDecode(stream, in args);
        var launches = PlannedLaunch.Take(_plan);
        var (sequences, sizes) = (args.ContextLengths.ElementCount, SizesOf(args.Q, args.Cache));
        Note(
            "attention_decode", $"{sequences} of {load.Context}, {sizes.QueryHeads} and {sizes.KvHeads} heads",
            OpWork.AttentionDecode(sizes, sequences, load.Context, args.MaxContext),
            sizes.PartBytes(launches[0], sequences, load.Context, args.MaxContext), launches: launches);
    }

    public override void Sampling(DeviceStream stream, in SamplingArgs args)
    {
        _plan.Sampling(stream, in args);
        var logits = args.Logits;
        Note("sampling", $"{logits.Shape[0]} x {logits.Shape[1]}", OpWork.Moving(logits.SizeInBytes), _plan.SamplingWorkspace(in args));
    }

    public override void GroupSync(DeviceStream stream, in GroupSyncArgs args)
    {
        _plan.GroupSync(stream, in args);
        Note("group_sync", $"{args.Signals.Count} ranks", OpWork.Moving(0), links: new(1, 0, 0));
    }

    public override void Gather(DeviceStream stream, in GatherArgs args)
    {
        _plan.Gather(stream, in args);
        var starts = args.Starts;
        var rows = Enumerable.Range(0, starts.Count - 1).Max(rank => starts[rank + 1] - starts[rank]);
        var rowBytes = args.Arrays.Sum(array => array.Output.Shape[1] * array.Output.DType.SizeInBytes());
        var bytes = (double)rows * rowBytes;
        Note("gather", $"{rows} x {rowBytes} bytes of each", OpWork.Moving(bytes * (starts.Count - 2)), links: new(0, 1, bytes));
    }

    public override int GemmSegments(in GemmArgs args) => _plan.GemmSegments(in args);

    public override long GemmWorkspace(in GemmArgs args) => _plan.GemmWorkspace(in args);

    public override long MoeRouteWorkspace(in MoeRouteArgs args) => _plan.MoeRouteWorkspace(in args);

    public override long MoeSortWorkspace(in MoeSortArgs args) => _plan.MoeSortWorkspace(in args);

    public override long MoeGateUpWorkspace(in MoeGateUpArgs args) => _plan.MoeGateUpWorkspace(in args);

    public override long MoeDownWorkspace(in MoeDownArgs args) => _plan.MoeDownWorkspace(in args);

    public override long AttentionPrefillWorkspace(in AttentionPrefillArgs args) => _plan.AttentionPrefillWorkspace(in args);

    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args) => _plan.AttentionDecodeWorkspace(in args);

    public override long SamplingWorkspace(in SamplingArgs args) => _plan.SamplingWorkspace(in args);

    protected override void Dispose(bool disposing) => plan.Dispose();

    private static AttentionSizes SizesOf(in TensorView q, in KvCache cache) =>
        new((int)q.Shape[1], (int)cache.KvHeads, (int)cache.HeadDim, cache.K.DType == DType.BFloat16);

    private static string PartialSums(long segments) => segments > 0 ? $", {segments} partial sums" : "";

    private static InvalidOperationException NoOpOfAStep() => new("no step enqueues this op");

    private ExpertChoices Choices(int local) => new(shape.Config.ExpertCount, local, shape.Config.ExpertsPerToken);

    // By what it multiplies: a sum over leaves is the output projection's or a dense MLP's.
    private string RoleOf(in GemmArgs args)
    {
        var (n, k) = (args.B.N, args.A.Shape[1]);
        if (args.AScales.IsNull)
        {
            return n == shape.Vocabulary.Count ? "head" : "router";
        }

        return args.Leaves > 0 ? k == (long)shape.QueryHeads * shape.Config.HeadDim ? "o" : "down"
            : n == (shape.QueryHeads + 2L * shape.KeyValueHeads) * shape.Config.HeadDim ? "qkv" : "mlp";
    }

    private void Note(
        string name, string sizes, OpWork work, long workspace = 0, LinkUse links = default, List<PlannedLaunch>? launches = null) =>
        _ops.Add(new(name, sizes, work, workspace, launches ?? PlannedLaunch.Take(_plan), links));
}
