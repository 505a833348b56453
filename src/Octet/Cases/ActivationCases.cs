namespace Octet.Cases;

internal static class ActivationCases
{
    public static IEnumerable<Case> All => [];
}
