namespace Octet.Cases;

internal static class AttentionPrefillCases
{
    public static IEnumerable<Case> All => [];
}
