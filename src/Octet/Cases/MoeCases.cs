namespace Octet.Cases;

internal static class MoeCases
{
    public static IEnumerable<Case> All => [];
}
