namespace Octet.Cli.Inspect;

/// <summary>Ops and configurations no shape of the model's layers uses: planned only, so that the LDS of their kernels is known.</summary>
internal static class ColdSteps
{
    public static readonly Step[] All =
    [
        // Rows that are not on 16 bytes.
        Step.Gemm(64, 100, 250), Step.Gemm(64, 100, 250, bfloat16: true), Step.MoeGateUp(16, 8, 250, 250), Step.MoeDown(16, 8, 250, 250),
        Step.Gemm(2048, 2048, 512, bfloat16: true),
        AttentionSteps.Decode(4, 8, 1, 1024, headDim: 64), AttentionSteps.Decode(4, 8, 1, 1024, headDim: 64, bfloat16: true),
        AttentionSteps.Decode(4, 8, 1, 1024, bfloat16: true), AttentionSteps.Prefill(64, 64, 8, 1, headDim: 64),
        AttentionSteps.Prefill(64, 64, 8, 1, headDim: 64, bfloat16: true), AttentionSteps.Prefill(64, 64, 8, 1, bfloat16: true),
        new(
            "sampling",
            plan =>
            {
                var args = new SamplingArgs
                {
                    Logits = plan.New(DType.Float32, 4, 1000),
                    Temperatures = plan.New(DType.Float32, 4),
                    TopK = plan.New(DType.Int32, 4),
                    TopP = plan.New(DType.Float32, 4),
                    Seeds = plan.New(DType.Int64, 4),
                    Counters = plan.New(DType.Int64, 4),
                    Ids = plan.New(DType.Int32, 4),
                };
                var workspace = Ops.SamplingWorkspace(plan.Device, args);
                Ops.Sampling(plan.Stream, args with { Workspace = plan.Workspace(workspace) });
                return workspace;
            },
            OpWork.Moving(0)),
        new(
            "quantize_weight",
            plan =>
            {
                Ops.QuantizeWeight(plan.Stream, new() { X = plan.New(DType.BFloat16, 256, 256), Output = plan.Weight(256, 256) });
                Ops.QuantizeWeight(plan.Stream, new() { X = plan.New(DType.Float32, 256, 256), Output = plan.Weight(256, 256) });
                return 0;
            },
            OpWork.Moving(0)),
    ];
}
