using ILGPU;
using ILGPU.Algorithms;
using ILGPU.Algorithms.HistogramOperations;
using ILGPU.Algorithms.RadixSortOperations;
using ILGPU.Algorithms.ScanReduceOperations;
using ILGPU.Runtime;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeSort(DeviceStream stream, in MoeSortArgs args)
    {
        var (pairs, experts) = ((int)args.Ids.ElementCount, (int)args.ExpertOffsets.ElementCount - 1);
        var queue = Stream(stream);
        var offsets = View<int>(args.ExpertOffsets);
        var (sortScratch, scanScratch) = SortScratch(pairs, experts);
        var workspace = _memory.Bytes(args.Workspace.Address, args.Workspace.SizeInBytes).Cast<int>();
        var keys = workspace.SubView(0, pairs);
        var values = workspace.SubView(pairs, pairs);
        var counts = workspace.SubView(2L * pairs, experts + 1);
        var kernel = new MoeSortKernel
        {
            Ids = View<int>(args.Ids),
            Keys = keys,
            Pairs = values,
            Counts = counts,
            SlotPairs = View<int>(args.SlotPairs),
            PairSlots = View<int>(args.PairSlots),
            FirstExpert = args.FirstExpert,
            Experts = experts,
        };
        _moeSortBegin.Launch(queue, (Math.Max(pairs, experts + 1) + MoeSortKernel.Piece - 1) / MoeSortKernel.Piece, _shape.Threads, kernel);
        Guarded(() =>
        {
            var scratch = workspace.SubView((2L * pairs) + experts + 1);
            if (pairs > 0)
            {
                _sortPairs(queue, keys, values, scratch.SubView(0, sortScratch));
                _countKeys(queue, keys, counts);
            }

            _scanCounts(queue, counts, offsets, scratch.SubView(sortScratch, scanScratch));
        });
        _moeSortEnd.Launch(queue, (pairs + MoeSortKernel.Piece - 1) / MoeSortKernel.Piece, _shape.Threads, kernel);
    }

    /// <inheritdoc/>
    public override long MoeSortWorkspace(in MoeSortArgs args)
    {
        var (pairs, experts) = ((int)args.Ids.ElementCount, (int)args.ExpertOffsets.ElementCount - 1);
        var (sort, scan) = SortScratch(pairs, experts);
        return ((2L * pairs) + experts + 1 + sort + scan) * sizeof(int);
    }

    private (int Sort, int Scan) SortScratch(int pairs, int experts)
    {
        var sort = pairs == 0 ? 0 : (int)_accelerator.ComputeRadixSortPairsTempStorageSize<int, int, ExpertKey>(pairs);
        return (sort, (int)(long)_accelerator.ComputeScanTempStorageSize<int>(experts + 1));
    }
}

/// <summary>
/// Before and after ILGPU's algorithms: each pair's key is its local expert, or one beyond the last if that lives elsewhere. The
/// radix sort is stable, so a pair's place behind it is its slot, and the counts of the keys summed up to each are the offsets.
/// </summary>
internal struct MoeSortKernel
{
    /// <summary>Elements a group takes at a time.</summary>
    public const long Piece = 512;

    public ArrayView<int> Ids;       // [pairs]
    public ArrayView<int> Keys;      // [pairs]
    public ArrayView<int> Pairs;     // [pairs]
    public ArrayView<int> Counts;    // [experts + 1]
    public ArrayView<int> SlotPairs; // [pairs]
    public ArrayView<int> PairSlots; // [pairs]
    public int FirstExpert, Experts;

    public static void Begin(MoeSortKernel args)
    {
        var count = args.Ids.Length > args.Counts.Length ? args.Ids.Length : args.Counts.Length;
        for (var first = Grid.IdxX * Piece; first < count; first += Grid.DimX * Piece)
        {
            for (var i = first + Group.IdxX; i < first + Piece; i += Group.DimX)
            {
                if (i < args.Ids.Length)
                {
                    // As unsigned: an id below the first expert lies elsewhere too.
                    var local = (uint)args.Ids[i] - (uint)args.FirstExpert;
                    args.Keys[i] = local < (uint)args.Experts ? (int)local : args.Experts;
                    args.Pairs[i] = (int)i;
                }

                if (i < args.Counts.Length)
                {
                    args.Counts[i] = 0;
                }
            }
        }
    }

    public static void End(MoeSortKernel args)
    {
        for (var first = Grid.IdxX * Piece; first < args.Pairs.Length; first += Grid.DimX * Piece)
        {
            for (var slot = first + Group.IdxX; slot < first + Piece && slot < args.Pairs.Length; slot += Group.DimX)
            {
                var (pair, isLocal) = (args.Pairs[slot], args.Keys[slot] < args.Experts);
                args.SlotPairs[slot] = isLocal ? pair : -1;
                args.PairSlots[pair] = isLocal ? (int)slot : -1;
            }
        }
    }
}

/// <summary>Sort keys up to 512 in 12 bits: the sort wants a whole number of its passes.</summary>
internal struct ExpertKey : IRadixSortOperation<int>
{
    public readonly int NumBits => 12;

    public readonly int DefaultValue => (1 << 12) - 1;

    public readonly int ExtractRadixBits(int value, int shift, int bitMask) => (value >> shift) & bitMask;
}

/// <summary>A histogram's step of one.</summary>
internal struct CountIncrement : IIncrementOperation<int>
{
    public readonly void Increment(ref int target, out bool incrementOverflow)
    {
        incrementOverflow = false;
        Atomic.Add(ref target, 1);
    }
}

/// <summary>The key itself is the bin.</summary>
internal struct ExpertBin : IComputeMultiBinOperation<int, int, CountIncrement>
{
    public readonly void ComputeHistogramBins(
        int value, ArrayView<int> histogram, in CountIncrement incrementOperation, out bool incrementOverflow) =>
        incrementOperation.Increment(ref histogram[value], out incrementOverflow);
}
