using System.Diagnostics;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    // Peers that are about to come are worth a look at every turn of the scheduler; after so long the processor is left to others.
    private const int EagerMilliseconds = 2;

    // The memory of every cpu device is the host's.
    public override void EnablePeer(Backend peer)
    {
        if (peer is not CpuBackend)
        {
            throw Unreachable(peer);
        }
    }

    public override void GroupSync(DeviceStream stream, in GroupSyncArgs args)
    {
        var rank = args.Rank;
        int* epoch = Pointer<int>(args.Epoch), status = Pointer<int>(args.Status);
        if (*status != (int)GroupStatus.Running)
        {
            return;
        }

        var next = unchecked(*epoch + 1);
        if (next == GroupSignals.PoisonValue)
        {
            next = 0;
        }

        // The work before ran when it was enqueued, on this thread or joined by it: a store that releases covers it.
        for (var peer = 0; peer < args.Signals.Count; peer++)
        {
            if (peer != rank)
            {
                Volatile.Write(ref *Counter(args.Signals[peer], rank), next);
            }
        }

        var missing = WaitForPeers(in args, next, out var isPoisoned);
        if (!isPoisoned && missing == 0)
        {
            *epoch = next;
            return;
        }

        *status = isPoisoned ? (int)GroupStatus.Poisoned : (int)GroupStatus.TimedOut | (missing << 8);
        for (var peer = 0; peer < args.Signals.Count; peer++)
        {
            if (peer != rank)
            {
                Volatile.Write(ref *Counter(args.Signals[peer], peer), GroupSignals.PoisonValue);
            }
        }
    }

    public override void Gather(DeviceStream stream, in GatherArgs args)
    {
        foreach (var array in args.Arrays)
        {
            var (output, size) = (array.Output, array.Output.DType.SizeInBytes());
            var (rowBytes, outputStride) = (output.Shape[1] * size, output.Strides[0] * size);
            for (var rank = 0; rank < array.Sources.Count; rank++)
            {
                var (source, sourceStride) = (array.Sources[rank], array.Sources[rank].Strides[0] * size);
                if (source.Address == output.Address)
                {
                    continue;
                }

                byte* from = Pointer<byte>(source), to = Pointer<byte>(output);
                var (row, end) = (args.Starts[rank], args.Starts[rank + 1]);
                var rows = sourceStride == rowBytes && outputStride == rowBytes ? Math.Max(end - row, 1) : 1;
                for (; row < end; row += rows)
                {
                    Buffer.MemoryCopy(from + row * sourceStride, to + row * outputStride, rows * rowBytes, rows * rowBytes);
                }
            }
        }
    }

    // A bit for each peer that has not come; 0: all have.
    private static int WaitForPeers(in GroupSyncArgs args, int epoch, out bool isPoisoned)
    {
        var start = Stopwatch.GetTimestamp();
        var spinner = new SpinWait();
        while (true)
        {
            var missing = 0;
            isPoisoned = false;
            for (var peer = 0; peer < args.Signals.Count; peer++)
            {
                var seen = Volatile.Read(ref *Counter(args.Signals[args.Rank], peer));
                isPoisoned |= seen == GroupSignals.PoisonValue;
                if (peer != args.Rank && unchecked(seen - epoch) < 0)
                {
                    missing |= 1 << peer;
                }
            }

            var waited = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            if (isPoisoned || missing == 0 || waited > args.TimeoutMs)
            {
                return missing;
            }

            if (waited < EagerMilliseconds)
            {
                spinner.SpinOnce(sleep1Threshold: -1);
            }
            else
            {
                Thread.Sleep(1);
            }
        }
    }

    private static int* Counter(in TensorView signals, int rank) => Pointer<int>(signals) + rank * GroupSignals.Stride;
}
