namespace Octet.Cases;

internal static class RopeCases
{
    public static IEnumerable<Case> All => [];
}
