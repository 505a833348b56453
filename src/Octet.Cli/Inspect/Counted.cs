namespace Octet.Cli.Inspect;

/// <summary>What the simulator counted of a kernel, as ratios.</summary>
/// <param name="Transactions">Bytes of the 64-byte transactions its accesses need / bytes it accesses: 1 is ideal.</param>
/// <param name="LdsPasses">Passes of its LDS accesses / those without bank conflicts: 1 is ideal.</param>
internal readonly record struct Counted(double Transactions, double LdsPasses)
{
    public static readonly Counted Ideal = new(1, 1);
}
