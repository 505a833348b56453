using System.Runtime.Intrinsics;

namespace Octet.Backends;

// What the machine can do at most, on the very threads that run the ops: benchmarks state it beside every figure.
internal sealed unsafe partial class CpuBackend
{
    private const long ReadPiece = 256 << 10;
    private const int MultiplyAddTurns = 20_000;

    /// <summary>Reads memory once, on all threads, and does nothing with it but prove that it was read.</summary>
    public void ReadAll(nint address, long sizeInBytes) => threads.For(
        (sizeInBytes + ReadPiece - 1) / ReadPiece, long.MaxValue, new ReadTask { Address = (byte*)address, Size = sizeInBytes });

    /// <summary>Multiply-adds on singles in registers, on all threads; returns how many operations that were (two each).</summary>
    /// <param name="pieces">Pieces of work; each is about 0.1 ms.</param>
    public double MultiplyAddAll(int pieces)
    {
        threads.For(pieces, long.MaxValue, new MultiplyAddTask { Turns = MultiplyAddTurns });
        return pieces * MultiplyAddPieceFlops;
    }

    /// <summary>Operations of one piece.</summary>
    public double MultiplyAddPieceFlops => threads.AnyKernels.MultiplyAddFlops(MultiplyAddTurns);

    private struct ReadTask : ICpuTask
    {
        public byte* Address;
        public long Size;

        public readonly void Run(long index, CpuWorker worker)
        {
            var (begin, end) = (index * ReadPiece, Math.Min((index + 1) * ReadPiece, Size));
            Vector256<long> a = default, b = default, c = default, d = default;
            for (var p = begin; p + 128 <= end; p += 128)
            {
                a ^= Vector256.Load((long*)(Address + p));
                b ^= Vector256.Load((long*)(Address + p + 32));
                c ^= Vector256.Load((long*)(Address + p + 64));
                d ^= Vector256.Load((long*)(Address + p + 96));
            }

            *(long*)worker.Scratch(2) = Vector256.Sum(a ^ b ^ c ^ d);
        }
    }

    private struct MultiplyAddTask : ICpuTask
    {
        public int Turns;

        public readonly void Run(long index, CpuWorker worker) => *worker.Scratch(1) = worker.Kernels.MultiplyAdds(Turns);
    }
}
