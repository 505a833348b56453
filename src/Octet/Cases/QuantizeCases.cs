namespace Octet.Cases;

internal static class QuantizeCases
{
    public static IEnumerable<Case> All => [];
}
