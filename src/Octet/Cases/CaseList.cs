namespace Octet.Cases;

/// <summary>Every case, op by op.</summary>
internal static class CaseList
{
    public static IReadOnlyList<Case> All { get; } =
    [
        .. QuantizeCases.All, .. EmbeddingCases.All, .. NormCases.All, .. GemmCases.All, .. ActivationCases.All,
        .. MoeRouteCases.All, .. MoeCases.All, .. RopeCases.All, .. KvCases.All, .. AttentionPrefillCases.All, .. AttentionDecodeCases.All,
        .. SamplingCases.All,
    ];
}
