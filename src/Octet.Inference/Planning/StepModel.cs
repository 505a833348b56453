namespace Octet.Inference.Planning;

/// <summary>One part of a prediction.</summary>
/// <param name="Phase"><c>decode step</c>, or <c>prefill</c> of one whole prompt.</param>
/// <param name="Name">What takes the time.</param>
/// <param name="Milliseconds">How long.</param>
/// <param name="Provenance"><c>published</c>, <c>measured here</c> or <c>modelled</c>.</param>
public sealed record PlanTerm(string Phase, string Name, double Milliseconds, string Provenance);

/// <summary>How long one engine step of a group takes: <c>floor + weights + KV + matrices + attention + all-reduce + tokens</c>, of which floor and tokens do not shrink with the group.</summary>
internal sealed class StepModel
{
    private readonly ModelShape _model;
    private readonly Hardware _hardware;
    private readonly int _tp;
    private readonly double _floorMs;
    private readonly double _msPerByte;
    private readonly double _matrixMsPerToken;
    private readonly double _attentionMsPerPair;
    private readonly double _decodeMsPerToken;
    private readonly double _prefillMsPerToken;
    // What depends on the number of tokens alone, filled as steps of that many come up: a simulation asks for the same few again and again.
    private readonly Dictionary<int, double> _byTokens = [];

    public StepModel(ModelShape model, Hardware hardware, EngineCalibration engine, int tp)
    {
        (_model, _hardware, Engine, _tp) = (model, hardware, engine, tp);
        double layerMs = model.Config.LayerCount / 1e3;
        _floorMs = engine.StepFloor.Value * layerMs;
        _msPerByte = engine.MemoryFactor.Value / (hardware.MemoryGBPerSecond * 1e6);
        _matrixMsPerToken = model.FlopsPerToken / tp / (hardware.Fp8Tflops * 1e9) * engine.ComputeFactor.Value;
        _attentionMsPerPair = model.AttentionFlopsPerPair / tp / (hardware.AttentionTflops * 1e9);
        _decodeMsPerToken = engine.DecodeToken.Value * layerMs;
        _prefillMsPerToken = engine.PrefillTokenRank.Value * layerMs * tp;
    }

    /// <summary>The engine whose steps these are.</summary>
    public EngineCalibration Engine { get; }

    /// <summary>Milliseconds of a step that decodes <paramref name="decoding"/> sequences of <paramref name="kvTokens"/> tokens together and prefills <paramref name="prefill"/> tokens that attend to <paramref name="pairs"/> (token, context token) pairs.</summary>
    public double Milliseconds(int decoding, double kvTokens, int prefill, double pairs)
    {
        int tokens = decoding + prefill;
        if (!_byTokens.TryGetValue(tokens, out double ms))
        {
            ms = _floorMs + WeightsMs(tokens) + tokens * _matrixMsPerToken + AllReduceMs(tokens);
            _byTokens.Add(tokens, ms);
        }
        return ms + KvMs(kvTokens) + pairs * _attentionMsPerPair + decoding * _decodeMsPerToken + prefill * _prefillMsPerToken;
    }

    /// <summary>The parts of a decode step of <paramref name="decoding"/> sequences.</summary>
    public IReadOnlyList<PlanTerm> DecodeTerms(double decoding, double kvTokens) =>
        Terms("decode step", decoding, kvTokens, 0, decoding * _decodeMsPerToken, Engine.DecodeToken);

    /// <summary>The parts of the prefill of one prompt, chunk by chunk, alone.</summary>
    public IReadOnlyList<PlanTerm> PrefillTerms(int input)
    {
        int chunks = (input + Engine.ChunkTokens - 1) / Engine.ChunkTokens;
        return [.. Terms("prefill", (double)input / chunks, 0, (double)input / chunks * input / 2, (double)input / chunks * _prefillMsPerToken, Engine.PrefillTokenRank)
            .Select(term => term with { Milliseconds = term.Milliseconds * chunks })];
    }

    private PlanTerm[] Terms(string phase, double tokens, double kvTokens, double pairs, double tokenMs, EngineConstant tokenSource) =>
    [
        new(phase, "step floor", _floorMs, Engine.StepFloor.Provenance),
        new(phase, "weight reads", WeightsMs(tokens), Engine.MemoryFactor.Provenance),
        new(phase, "KV reads", KvMs(kvTokens), Engine.MemoryFactor.Provenance),
        new(phase, "matrices", tokens * _matrixMsPerToken, Engine.ComputeFactor.Provenance),
        new(phase, "prefill attention", pairs * _attentionMsPerPair, "modelled"),
        new(phase, "all-reduce", AllReduceMs(tokens), _hardware.IsMesh ? "published" : "modelled"),
        new(phase, "per-token work on every rank", tokenMs, tokenSource.Provenance),
    ];

    private double WeightsMs(double tokens) => _model.StepWeightBytes(_tp, tokens) * _msPerByte;

    private double KvMs(double kvTokens) => kvTokens * _model.KvBytesPerToken(_tp) * _msPerByte;

    // Two a layer: after the output projection and after the experts.
    private double AllReduceMs(double tokens) => 2 * _model.Config.LayerCount * _hardware.AllReduceMs(_tp, tokens * _model.HiddenBytes);
}
