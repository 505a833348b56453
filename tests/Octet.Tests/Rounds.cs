using System.Globalization;

namespace Octet.Tests;

/// <summary>How often tests draw at random: TEST_ROUNDS times as often as usual, where that is set (eng/nightly.sh).</summary>
internal static class Rounds
{
    private static readonly int s_factor = int.Parse(Environment.GetEnvironmentVariable("TEST_ROUNDS") is { Length: > 0 } text ? text : "1", CultureInfo.InvariantCulture);

    public static int Of(int usual) => checked(usual * s_factor);
}
