namespace Octet.Cases;

/// <summary>When a case runs.</summary>
internal enum CaseTier
{
    /// <summary>Always; at most about two seconds on the simulator.</summary>
    Ci,

    /// <summary>With <c>octet check --full</c>.</summary>
    Full,
}

/// <summary>
/// One parity case: an op on given shapes with seeded inputs, held to a reference of a few obvious lines in f64. The same
/// objects are run by the tests on every backend, by <c>octet check</c> and by the benchmarks.
/// </summary>
/// <param name="Op">The op's name in the C ABI: "moe_gate_up".</param>
/// <param name="Name">The purpose and the shape: "tail m17 n129 k200".</param>
/// <param name="Prepare">Makes inputs and outputs on the context's device.</param>
internal sealed record Case(string Op, string Name, Func<CaseContext, CaseBody> Prepare)
{
    /// <summary>When the case runs.</summary>
    public CaseTier Tier { get; init; } = CaseTier.Ci;

    /// <summary>Floating-point operations of one run; 0 where bytes alone count.</summary>
    public double Flops { get; init; }

    /// <summary>Bytes one run must read and write at least.</summary>
    public double Bytes { get; init; }

    /// <summary>Op and name.</summary>
    public override string ToString() => $"{Op}: {Name}";
}

/// <summary>A prepared case.</summary>
/// <param name="Launch">Enqueues the op on the context's stream; can be called any number of times.</param>
/// <param name="Verify">Compares the outputs with the reference, through the context.</param>
internal sealed record CaseBody(Action Launch, Action Verify);

/// <summary>How a case went on a device.</summary>
/// <param name="Op">The op.</param>
/// <param name="Name">The case.</param>
/// <param name="Device">The device's full name.</param>
/// <param name="Error">The measure nearest to its tolerance.</param>
/// <param name="Tolerance">That tolerance.</param>
/// <param name="Passed">Whether every comparison held.</param>
/// <param name="Failure">What failed, with values; null if passed or skipped.</param>
/// <param name="SkippedReason">Why it did not run; null if it ran.</param>
internal sealed record CaseResult(
    string Op, string Name, string Device, double Error, double Tolerance, bool Passed, string? Failure, string? SkippedReason)
{
    /// <summary>
    /// Runs a case: once, once more on refilled outputs, from a recorded graph where the device has graphs (the bits must be the
    /// same), then guards and reference.
    /// </summary>
    public static CaseResult Run(Case test, Device device)
    {
        using var context = new CaseContext(device, test);
        try
        {
            var body = test.Prepare(context);
            context.Begin();
            body.Launch();
            context.EndFirstRun();
            Repeat(body, device);
            context.EndSecondRun();
            body.Verify();
            return context.Result(null);
        }
        catch (Exception error) when (error is OctetException or ArgumentException)
        {
            return context.Result(error.Message);
        }
    }

    private static void Repeat(CaseBody body, Device device)
    {
        if (!device.Properties.SupportsGraphs)
        {
            body.Launch();
            return;
        }

        device.Stream.BeginCapture();
        try
        {
            body.Launch();
        }
        catch
        {
            device.Stream.EndCapture().Dispose();
            throw;
        }

        using var graph = device.Stream.EndCapture();
        graph.Launch(device.Stream);
        device.Stream.Synchronize();
    }
}
