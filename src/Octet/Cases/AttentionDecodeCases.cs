namespace Octet.Cases;

internal static class AttentionDecodeCases
{
    public static IEnumerable<Case> All => [];
}
