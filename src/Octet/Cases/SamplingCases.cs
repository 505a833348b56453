namespace Octet.Cases;

internal static class SamplingCases
{
    public static IEnumerable<Case> All => [];
}
