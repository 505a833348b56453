namespace Octet.Cases;

internal static class NormCases
{
    public static IEnumerable<Case> All => [];
}
