namespace Octet;

/// <summary>What became of a group of ranks: the low byte of <see cref="GroupSyncArgs.Status"/>.</summary>
public enum GroupStatus
{
    /// <summary>Every rank has come so far.</summary>
    Running = 0,

    /// <summary>A peer or the host stopped the group.</summary>
    Poisoned = 1,

    /// <summary>A rank did not come by the deadline; bit 8 + r of the status is set for each rank r that had not.</summary>
    TimedOut = 2,
}

/// <summary>Arguments of <see cref="Ops.GroupSync"/>.</summary>
public struct GroupSyncArgs
{
    /// <summary>For each rank its counters, of <see cref="GroupSignals.Create"/> on its device: [8, 16] i32. The ranks' devices reach one another.</summary>
    public required IReadOnlyList<TensorView> Signals;

    /// <summary>[1] i32 on the stream's device, zeros at first: the syncs so far.</summary>
    public required TensorView Epoch;

    /// <summary>[1] i32 on the stream's device, zeros at first: a <see cref="GroupStatus"/>, which stays once it is not Running.</summary>
    public required TensorView Status;

    /// <summary>Which of the ranks the stream's device is.</summary>
    public required int Rank;

    /// <summary>How long peers may take, in milliseconds, 1 to 3,600,000.</summary>
    public required int TimeoutMs;
}

/// <summary>One array of <see cref="GatherArgs"/>.</summary>
public struct GatherArray
{
    /// <summary>For each rank its array, on its device: [rows or more, columns], of which its own rows are read. That of this rank may be the output.</summary>
    public required IReadOnlyList<TensorView> Sources;

    /// <summary>[rows or more, columns] of the sources' type on the stream's device; touches no peer's source.</summary>
    public required TensorView Output;
}

/// <summary>Arguments of <see cref="Ops.Gather"/>.</summary>
public struct GatherArgs
{
    /// <summary>One to four arrays.</summary>
    public required IReadOnlyList<GatherArray> Arrays;

    /// <summary>[ranks + 1], ascending from 0: rank r owns the rows Starts[r] to Starts[r + 1] - 1 of every array.</summary>
    public required IReadOnlyList<long> Starts;

    /// <summary>Which of the ranks the stream's device is.</summary>
    public required int Rank;
}

public static partial class Ops
{
    private const int MaxGatherArrays = 4;
    private const int MaxTimeoutMs = 3_600_000;

    /// <summary>
    /// Tells every peer that all work before it on the stream is done, and waits until every peer has said so. What the peers wrote before
    /// their sync is seen by the work behind this one, and what they read before it may be overwritten. Every rank enqueues it from a thread
    /// of its own: on devices that run work at once the call itself waits.
    /// </summary>
    /// <remarks>
    /// A group stops where a rank does not come in time, or where <see cref="GroupSignals.Poison"/> is called: the sync writes its status,
    /// poisons its peers and ends, and so does every later one, at once. Counters only grow, so a recorded sync can be replayed.
    /// </remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed, or cannot wait for others (Unsupported).</exception>
    public static void GroupSync(DeviceStream stream, in GroupSyncArgs args)
    {
        var contract = new Contract("group_sync", stream);
        Check(contract, in args);
        stream.Device.Backend.GroupSync(stream, in args);
    }

    /// <summary>
    /// output[i] = sources[r][i] for the rows i that rank r owns, of every r: copies what peers own into this rank's arrays. Behind a
    /// <see cref="GroupSync"/> that all ranks passed after they wrote; the sources may be written again behind the next one.
    /// </summary>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed, or cannot reach others (Unsupported).</exception>
    public static void Gather(DeviceStream stream, in GatherArgs args)
    {
        var contract = new Contract("gather", stream);
        Check(contract, in args);
        stream.Device.Backend.Gather(stream, in args);
    }

    private static void Check(in Contract contract, in GroupSyncArgs args)
    {
        contract.Require(args.Signals is not null, "signals is null");
        contract.Rank(args.Rank, args.Signals!.Count);
        for (var rank = 0; rank < args.Signals.Count; rank++)
        {
            var signals = args.Signals[rank];
            contract.OnRank("signals", signals, rank, args.Rank, DType.Int32);
            contract.Require(
                signals.IsContiguous && signals.ElementCount == GroupSignals.MaxRanks * GroupSignals.Stride,
                $"signals {signals} of rank {rank} must be [{GroupSignals.MaxRanks}, {GroupSignals.Stride}], contiguous");
        }

        contract.Vector("epoch", args.Epoch, DType.Int32, 1);
        contract.Vector("status", args.Status, DType.Int32, 1);
        contract.Require(args.TimeoutMs is >= 1 and <= MaxTimeoutMs, $"timeout_ms = {args.TimeoutMs} must be 1..{MaxTimeoutMs}");
    }

    private static void Check(in Contract contract, in GatherArgs args)
    {
        contract.Require(args.Starts is not null, "starts is null");
        contract.Require(args.Starts!.Count >= 2 && args.Starts[0] == 0, $"starts must be ranks + 1 numbers from 0, has {args.Starts.Count}");
        var ranks = args.Starts.Count - 1;
        contract.Rank(args.Rank, ranks);
        for (var rank = 0; rank < ranks; rank++)
        {
            contract.Require(
                args.Starts[rank + 1] >= args.Starts[rank], $"starts[{rank + 1}] = {args.Starts[rank + 1]} must be at least {args.Starts[rank]}");
        }

        contract.Require(args.Arrays is not null, "arrays is null");
        contract.Require(args.Arrays!.Count is >= 1 and <= MaxGatherArrays, $"{args.Arrays.Count} arrays, must be 1..{MaxGatherArrays}");
        foreach (var array in args.Arrays)
        {
            contract.Require(!array.Output.IsNull, "output is null");
            var (type, rows) = (array.Output.DType, args.Starts[ranks]);
            contract.Matrix("output", array.Output, type);
            contract.Require(array.Output.Shape[0] >= rows, $"output {array.Output} must have the {rows} rows of starts");
            contract.Tokens("output", rows, array.Output.Shape[1]);
            contract.Require(array.Sources is not null, "sources is null");
            contract.Require(array.Sources!.Count == ranks, $"{array.Sources.Count} sources, must be {ranks}");
            for (var rank = 0; rank < ranks; rank++)
            {
                var source = array.Sources[rank];
                contract.OnRank("sources", source, rank, args.Rank, type);
                contract.Require(
                    source.Rank == 2 && source.Shape[0] >= rows && source.Shape[1] == array.Output.Shape[1]
                    && source.Strides[0] == array.Sources[0].Strides[0] && source.Strides[0] is >= 0 and <= Contract.MaxStride
                    && (source.Shape[1] <= 1 || (source.Strides[1] == 1 && source.Strides[0] >= source.Shape[1])),
                    $"source {source} of rank {rank} must be [{rows}, {array.Output.Shape[1]}], columns contiguous, rows as far apart as those of rank 0");
            }
        }
    }
}
