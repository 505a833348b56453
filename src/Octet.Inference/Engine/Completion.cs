namespace Octet.Inference.Engine;

/// <summary>A whole continuation.</summary>
/// <param name="Text">The text.</param>
/// <param name="Ids">Its tokens; the end token of <see cref="FinishReason.Stop"/> is not among them.</param>
/// <param name="FinishReason">Why it ended.</param>
public sealed record Completion(string Text, IReadOnlyList<int> Ids, FinishReason FinishReason);
