using Octet.Inference.Engine;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// The step in progress, as layers see it: its input, its activations, the model's tables and scratch memory. Ops are enqueued on the
/// device's stream; nothing is read back here.
/// </summary>
internal sealed class ForwardStep : IDisposable
{
    private readonly TensorSet _memory;

    /// <param name="device">Where the model is.</param>
    /// <param name="shape">The rank.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="bounds">The largest step.</param>
    /// <param name="rankTimeout">How long the rank waits for a peer.</param>
    public ForwardStep(Device device, RankShape shape, Workspace workspace, StepBounds bounds, TimeSpan rankTimeout)
    {
        (Device, Stream, Workspace) = (device, device.Stream, workspace);
        _memory = new TensorSet(device);
        try
        {
            CosSin = _memory.Add(Tensor.From<float>(device, RotaryEmbedding.CosSin(shape.Config, bounds.MaxContext), bounds.MaxContext, shape.Config.RotaryDim));
            Buffers = new StepBuffers(_memory, shape, bounds.MaxTokens, bounds.MaxOutputs);
            Exchange = shape.Ranks == 1 ? null : new Exchange(device, shape, Buffers, rankTimeout);
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    /// <summary>Where the model is.</summary>
    public Device Device { get; }

    /// <summary>Where ops are enqueued.</summary>
    public DeviceStream Stream { get; }

    /// <summary>Scratch memory of the ops.</summary>
    public Workspace Workspace { get; }

    /// <summary>[max_context, rotary_dim] f32.</summary>
    public TensorView CosSin { get; }

    /// <summary>What the step works on.</summary>
    public StepInput Input { get; private set; } = null!;

    /// <summary>The rows of its tokens.</summary>
    public StepBuffers Buffers { get; }

    /// <summary>What the rank shares with its peers; null: it has none.</summary>
    public Exchange? Exchange { get; }

    /// <summary>Turns to a step.</summary>
    public void Begin(StepInput input)
    {
        Input = input;
        Buffers.Tokens = input.Tokens;
        Exchange?.Begin(input.Tokens);
    }

    /// <summary>Enqueues a product.</summary>
    public void Gemm(in GemmArgs args) => Ops.Gemm(Stream, args with { Workspace = Workspace.Take(Device.Backend.GemmWorkspace(in args)) });

    /// <summary>
    /// Enqueues a product for an op that can add partial sums itself: where it leaves such they are left to that op, else the output is
    /// written. Gives whichever it is.
    /// </summary>
    public TensorView GemmForNext(in GemmArgs args)
    {
        var segments = Device.Backend.GemmSegments(in args);
        if (segments == 0)
        {
            Gemm(args);
            return args.Output;
        }

        var sums = Workspace.PartialSums(segments, args.A.Shape[0], args.B.N);
        Gemm(args with { Output = sums });
        return sums;
    }

    /// <summary>The rows of the tokens that this rank norms and routes.</summary>
    public TensorView Own(in TensorView rows) => Exchange is null ? rows : rows.Slice(0, Exchange.Own.First, Exchange.Own.Count);

    /// <summary>The rows of the tokens that this rank norms and routes.</summary>
    public QuantizedTensor Own(in QuantizedTensor rows) => new(Own(rows.Values), Own(rows.Scales));

    /// <summary>Takes from the peers what they have made of the other tokens.</summary>
    public void Take(SharedRows rows) => Exchange?.Take(rows);

    /// <summary>Waits for the peers' parts of a sum of which this rank's is enqueued.</summary>
    public SublayerOutput Share(SharedSum sum)
    {
        var nodes = Exchange!.Share(sum);
        return new(nodes[0]) { Nodes = nodes.Count == 1 ? null : nodes };
    }

    public void Dispose()
    {
        Exchange?.Dispose();
        _memory.Dispose();
    }
}
