namespace Octet.Cli.Inspect;

/// <summary>What an op asks of the links: bytes over the busiest one, in one direction.</summary>
/// <param name="Signals">Waits for all peers.</param>
/// <param name="Requests">Waits until what is asked of a peer begins to come.</param>
/// <param name="Bytes">That must come or go.</param>
internal readonly record struct LinkUse(int Signals, int Requests, double Bytes);

/// <summary>An op that was enqueued on a planned device.</summary>
/// <param name="Name">What it is in the model: "norm", "gemm qkv".</param>
/// <param name="Shape">All its work depends on; two of one name and shape are alike.</param>
/// <param name="Work">What it has to do.</param>
/// <param name="Workspace">Bytes that one of its launches leaves to another.</param>
/// <param name="Launches">What its launcher launched.</param>
/// <param name="Links">What it asks of the links.</param>
internal sealed record RecordedOp(
    string Name, string Shape, OpWork Work, long Workspace, IReadOnlyList<PlannedLaunch> Launches, LinkUse Links);
