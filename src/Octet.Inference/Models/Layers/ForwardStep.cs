using Octet.Inference.Engine;

namespace Octet.Inference.Models.Layers;

/// <summary>
/// The step in progress, as layers see it: its input, its activations, the model's tables and scratch memory. Ops are enqueued on the
/// device's stream; nothing is read back here.
/// </summary>
internal sealed class ForwardStep : IDisposable
{
    private readonly StepBuffers _all;
    private StepBuffers _buffers;
    private (StepBuffers? Buffers, int DecodeTokens) _split;

    /// <param name="device">Where the model is.</param>
    /// <param name="config">Its shape.</param>
    /// <param name="workspace">Scratch memory of the ops.</param>
    /// <param name="maxTokens">Most tokens of a step.</param>
    /// <param name="maxRows">Most rows of logits.</param>
    /// <param name="maxContext">The longest context.</param>
    public ForwardStep(Device device, ModelConfig config, Workspace workspace, int maxTokens, int maxRows, int maxContext)
    {
        (Device, Stream, Workspace) = (device, device.Stream, workspace);
        CosSin = Tensor.From<float>(device, RotaryEmbedding.CosSin(config, maxContext), maxContext, config.RotaryDim);
        try
        {
            _all = _buffers = new StepBuffers(device, config, maxTokens, maxRows);
        }
        catch
        {
            CosSin.Dispose();
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
    public Tensor CosSin { get; }

    /// <summary>What the step works on.</summary>
    public StepInput Input { get; private set; } = null!;

    /// <summary>The rows of its tokens.</summary>
    public StepBuffers Buffers => _buffers;

    /// <summary>The rows of all tokens there may be.</summary>
    public StepBuffers All => _all;

    /// <summary>The tokens of continuations, in attention; null: none.</summary>
    public AttentionRows? Continued { get; private set; }

    /// <summary>The tokens of prompts, in attention; null: none.</summary>
    public AttentionRows? Prompts { get; private set; }

    /// <summary>Turns to a step.</summary>
    public void Begin(StepInput input)
    {
        // Steps of decode have the same number of tokens for long: their views are made once.
        Input = input;
        _buffers = _buffers != _all && _buffers.Residual.Shape[0] == input.Tokens ? _buffers : _all.First(input.Tokens);
        if (_split == (_buffers, input.DecodeTokens))
        {
            return;
        }

        var prompts = input.Tokens - input.DecodeTokens;
        Continued = input.DecodeTokens > 0 ? _buffers.AttentionOf(0, input.DecodeTokens) : null;
        Prompts = prompts > 0 ? _buffers.AttentionOf(input.DecodeTokens, prompts) : null;
        _split = (_buffers, input.DecodeTokens);
    }

    /// <summary>Enqueues a product.</summary>
    public void Gemm(in GemmArgs args) => Ops.Gemm(Stream, args with { Workspace = Workspace.Take(Device.Backend.GemmWorkspace(in args)) });

    /// <summary>
    /// Enqueues a product for an op that can add partial sums itself: where it leaves such they are left to that op, else the output is
    /// written. Gives whichever it is.
    /// </summary>
    public Tensor GemmForNext(in GemmArgs args)
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

    public void Dispose()
    {
        _all.Dispose();
        CosSin.Dispose();
    }
}
