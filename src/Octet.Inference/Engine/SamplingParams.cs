namespace Octet.Inference.Engine;

/// <summary>How the tokens of one text are drawn: the request's options with the checkpoint's defaults, resolved and checked once.</summary>
/// <param name="Temperature">0: arg max.</param>
/// <param name="TopK">0: all.</param>
/// <param name="TopP">1: all.</param>
/// <param name="Seed">Of the draws: a token is a function of its logits, the seed and its position.</param>
internal readonly record struct SamplingParams(float Temperature, int TopK, float TopP, long Seed);
