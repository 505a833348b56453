namespace Octet.Tests;

/// <summary>What the ops refuse before any backend sees it, with the values.</summary>
public sealed class OpContractTests
{
    private const int Tokens = 2, QHeads = 4, KvHeads = 2, HeadDim = 64;

    [Theory]
    [InlineData(24, 0, 0, "rotary_dim a multiple of 16 up to head_dim = 64")]
    [InlineData(0, 0, 0, "rotary_dim a multiple of 16 up to head_dim = 64")]
    [InlineData(80, 0, 0, "rotary_dim a multiple of 16 up to head_dim = 64")]
    [InlineData(64, 128, 0, "must have 256 elements")]
    [InlineData(64, 64, 128, "must have 256 elements")]
    [InlineData(64, 256, 64, "must have 128 elements")]
    [InlineData(64, 0, 32, "must have 64 elements")]
    public void Rope_refuses_tables_and_norms_that_do_not_fit_the_heads(int rotaryDim, int qNorm, int kNorm, string text)
    {
        using var device = Device.Open("cpu");
        var error = Assert.Throws<ArgumentException>(() => Ops.Rope(device.Stream, RopeArgs(device, rotaryDim, qNorm, kNorm)));
        Assert.StartsWith("rope: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(text, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(64, 64, false)]
    [InlineData(256, 128, true)]
    [InlineData(256, 0, true)]
    [InlineData(0, 128, true)]
    [InlineData(0, 0, false)]
    public void Rope_takes_norms_of_each_head_or_of_all_by_their_lengths(int qNorm, int kNorm, bool together)
    {
        using var device = Device.Open("cpu");
        var args = RopeArgs(device, 32, qNorm, kNorm);
        Assert.Equal(together, args.NormsProjection);
        Ops.Rope(device.Stream, args);
    }

    [Theory]
    [InlineData(MoeScoring.Sigmoid, 7, "score_bias", "must have 8 elements")]
    [InlineData((MoeScoring)2, 8, "scoring = 2", "Softmax or Sigmoid")]
    public void Moe_route_refuses_biases_of_other_lengths_and_unknown_scores(MoeScoring scoring, int biases, string name, string text)
    {
        using var device = Device.Open("cpu");
        var error = Assert.Throws<ArgumentException>(() => Ops.MoeRoute(device.Stream, new()
        {
            Logits = Zeros(device, DType.Float32, Tokens, 8),
            Ids = Zeros(device, DType.Int32, Tokens, 2),
            Weights = Zeros(device, DType.Float32, Tokens, 2),
            Renormalize = true,
            Scoring = scoring,
            ScoreBias = Zeros(device, DType.Float32, biases),
        }));
        Assert.Contains(name, error.Message, StringComparison.Ordinal);
        Assert.Contains(text, error.Message, StringComparison.Ordinal);
    }

    // Lengths of norms; 0: none.
    private static RopeArgs RopeArgs(Device device, int rotaryDim, int qNorm, int kNorm) => new()
    {
        Q = Zeros(device, DType.BFloat16, Tokens, QHeads, HeadDim),
        K = Zeros(device, DType.BFloat16, Tokens, KvHeads, HeadDim),
        V = Zeros(device, DType.BFloat16, Tokens, KvHeads, HeadDim),
        QNorm = qNorm == 0 ? default : Zeros(device, DType.BFloat16, qNorm),
        KNorm = kNorm == 0 ? default : Zeros(device, DType.BFloat16, kNorm),
        Eps = 1e-6f,
        CosSin = Zeros(device, DType.Float32, 10, rotaryDim),
        Positions = Zeros(device, DType.Int32, Tokens),
        Slots = Zeros(device, DType.Int64, Tokens),
        QOutput = Zeros(device, DType.BFloat16, Tokens, QHeads, HeadDim),
        Cache = new()
        {
            K = Zeros(device, DType.BFloat16, 1, KvHeads, 16, HeadDim),
            V = Zeros(device, DType.BFloat16, 1, KvHeads, HeadDim, 16),
        },
    };

    private static TensorView Zeros(Device device, DType type, params long[] shape)
    {
        var tensor = Tensor.Create(device, type, shape);
        device.Stream.Fill(tensor, 0);
        return tensor;
    }
}
