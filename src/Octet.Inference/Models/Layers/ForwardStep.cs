using Octet.Inference.Engine;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// The step in progress, as layers see it: its input, its activations, the model's tables and scratch memory. Ops are enqueued on the
/// device's stream; nothing is read back here.
/// </summary>
internal sealed class ForwardStep : IDisposable
{
    private readonly TensorSet _memory;

    /// <param name="device">Where the model is.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="maxTokens">Most tokens of a step.</param>
    /// <param name="maxRows">Most rows of logits.</param>
    /// <param name="maxContext">The longest context.</param>
    public ForwardStep(Device device, ModelConfig config, Workspace workspace, int maxTokens, int maxRows, int maxContext)
    {
        (Device, Stream, Workspace) = (device, device.Stream, workspace);
        _memory = new TensorSet(device);
        try
        {
            CosSin = _memory.Add(Tensor.From<float>(device, RotaryEmbedding.CosSin(config, maxContext), maxContext, config.RotaryDim));
            Buffers = new StepBuffers(_memory, config, maxTokens, maxRows);
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

    /// <summary>Turns to a step.</summary>
    public void Begin(StepInput input)
    {
        Input = input;
        Buffers.Tokens = input.Tokens;
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

    public void Dispose() => _memory.Dispose();
}
