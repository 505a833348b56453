using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeGateUp(DeviceStream stream, in MoeGateUpArgs args)
    {
        var slots = args.Output.Values.Shape[0];
        var kernel = new MoeGateUpKernel
        {
            Gate = Experts(args.X, args.Gate),
            Up = Experts(args.X, args.Up),
            Tiles = Tiles(args.ExpertOffsets, slots),
            SlotPairs = View<int>(args.SlotPairs),
            Codes = View<byte>(args.Output.Values),
            Scales = View<float>(args.Output.Scales),
            MaxTiles = ExpertTiles.Bound(slots, args.ExpertOffsets.ElementCount - 1),
            Intermediate = args.Gate.N,
            ColumnBlocks = Blocks(args.Gate.N),
            CodeStride = args.Output.Values.Strides[0],
            ScaleStride = args.Output.Scales.Strides[0],
            TopK = args.TopK,
        };
        _moeGateUp.Launch(Stream(stream), kernel.MaxTiles * kernel.ColumnBlocks, _shape.TileThreads, kernel);
    }

    /// <inheritdoc/>
    public override long MoeGateUpWorkspace(in MoeGateUpArgs args) => 0;

    private ExpertTiles Tiles(TensorView expertOffsets, long slots) =>
        new() { Offsets = View<int>(expertOffsets), Experts = (int)expertOffsets.ElementCount - 1, Slots = slots };
}

/// <summary>
/// y = silu(x gate^T) * (x up^T) of each slot, as FP8 blocks: a group for 16 slots of one expert by 128 columns, so that the scale
/// of a block is known before its codes are written.
/// </summary>
internal struct MoeGateUpKernel
{
    public ExpertProduct Gate, Up;
    public ExpertTiles Tiles;
    public ArrayView<int> SlotPairs; // [slots]
    public ArrayView<byte> Codes;    // [slots, intermediate] FP8
    public ArrayView<float> Scales;  // [slots, ColumnBlocks]
    public long MaxTiles, Intermediate, ColumnBlocks, CodeStride, ScaleStride;
    public int TopK;

    public static void Run<TTile>(MoeGateUpKernel args) where TTile : struct, ITile
    {
        var rows = SharedMemory.Allocate<long>(Tile.Rows);
        var scales = SharedMemory.Allocate<float>(Tile.Rows);
        var a = SharedMemory.Allocate<float>(Tile.AElements);
        var b = SharedMemory.Allocate<float>(Tile.BElements);
        var values = SharedMemory.Allocate<float>(2 * Tile.Results); // the two halves of a block
        var ups = SharedMemory.Allocate<float>(Tile.Results);
        for (long work = Grid.IdxX; work < args.MaxTiles * args.ColumnBlocks; work += Grid.DimX)
        {
            var (tile, block) = (args.Tiles.Find(work / args.ColumnBlocks), work % args.ColumnBlocks);
            var first = block * Octet.Float8.Block;
            var count = args.Intermediate - first < Octet.Float8.Block ? (int)(args.Intermediate - first) : Octet.Float8.Block;
            for (var r = Group.IdxX; r < Tile.Rows; r += Group.DimX)
            {
                // A slot without a pair stays as it is.
                var pair = r < tile.Count ? args.SlotPairs[tile.First + r] : -1;
                rows[r] = pair >= 0 && pair < args.Tiles.Slots ? pair / args.TopK : -1;
            }

            for (var half = 0; half < count && tile.Count > 0; half += Tile.Columns)
            {
                var gates = values.SubView(half * Tile.Rows, Tile.Results);
                GroupWork.Sync();
                TTile.Multiply<Float8Element, byte>(
                    args.Gate.Of(tile.Expert), rows, tile.Count, first + half, count - half, a, b, gates);
                TTile.Multiply<Float8Element, byte>(
                    args.Up.Of(tile.Expert), rows, tile.Count, first + half, count - half, a, b, ups);
                GroupWork.Sync();
                for (var i = Group.IdxX; i < Tile.Results; i += Group.DimX)
                {
                    gates[i] = GroupWork.GatedSilu(gates[i], ups[i]);
                }
            }

            GroupWork.Sync();
            for (var r = Group.IdxX; r < tile.Count; r += Group.DimX)
            {
                var amax = 0f;
                for (var c = 0; c < count; c++)
                {
                    amax = GroupWork.Amax(amax, values[At(r, c)]);
                }

                scales[r] = Float8Element.Scale(amax);
                if (rows[r] >= 0)
                {
                    args.Scales[((tile.First + r) * args.ScaleStride) + block] = scales[r];
                }
            }

            GroupWork.Sync();
            for (var i = Group.IdxX; i < tile.Count * Octet.Float8.Block; i += Group.DimX)
            {
                var (r, c) = (i / Octet.Float8.Block, i % Octet.Float8.Block);
                if (c < count && rows[r] >= 0)
                {
                    args.Codes[((tile.First + r) * args.CodeStride) + first + c] = Float8Element.Narrow(values[At(r, c)], scales[r]);
                }
            }

            GroupWork.Sync();
        }
    }

    private static int At(int row, int column) =>
        (column / Tile.Columns * Tile.Results) + (row * Tile.Columns) + (column % Tile.Columns);
}
