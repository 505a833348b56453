namespace Octet.Cases;

internal static class KvCases
{
    public static IEnumerable<Case> All => [];
}
