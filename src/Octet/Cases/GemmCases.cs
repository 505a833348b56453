namespace Octet.Cases;

internal static class GemmCases
{
    public static IEnumerable<Case> All => [];
}
