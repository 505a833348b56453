using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void MoeDown(DeviceStream stream, in MoeDownArgs args)
    {
        var slots = args.Output.Shape[0];
        var kernel = new MoeDownKernel
        {
            Down = Experts(args.X, args.Down),
            Tiles = Tiles(args.ExpertOffsets, slots),
            Output = View<ushort>(args.Output),
            MaxTiles = ExpertTiles.Bound(slots, args.ExpertOffsets.ElementCount - 1),
            Hidden = args.Down.N,
            ColumnTiles = (args.Down.N + Tile.Columns - 1) / Tile.Columns,
            OutputStride = args.Output.Strides[0],
        };
        _moeDown.Launch(Stream(stream), kernel.MaxTiles * kernel.ColumnTiles, _shape.TileThreads, kernel);
    }

    /// <inheritdoc/>
    public override long MoeDownWorkspace(in MoeDownArgs args) => 0;
}

/// <summary>output = x down^T of each slot: a group for 16 slots of one expert by 64 columns.</summary>
internal struct MoeDownKernel
{
    public ExpertProduct Down;
    public ExpertTiles Tiles;
    public ArrayView<ushort> Output; // [slots, hidden] BF16
    public long MaxTiles, Hidden, ColumnTiles, OutputStride;

    public static void Run<TTile>(MoeDownKernel args) where TTile : struct, ITile
    {
        var rows = SharedMemory.Allocate<long>(Tile.Rows);
        var a = SharedMemory.Allocate<float>(Tile.AElements);
        var b = SharedMemory.Allocate<float>(Tile.BElements);
        var result = SharedMemory.Allocate<float>(Tile.Results);
        for (long work = Grid.IdxX; work < args.MaxTiles * args.ColumnTiles; work += Grid.DimX)
        {
            var (tile, column) = (args.Tiles.Find(work / args.ColumnTiles), work % args.ColumnTiles * Tile.Columns);
            for (var r = Group.IdxX; r < Tile.Rows; r += Group.DimX)
            {
                rows[r] = r < tile.Count ? tile.First + r : -1;
            }

            GroupWork.Sync();
            if (tile.Count > 0)
            {
                TTile.Multiply<Float8Element, byte>(
                    args.Down.Of(tile.Expert), rows, tile.Count, column, args.Hidden - column, a, b, result);
            }

            GroupWork.Sync();
            for (var i = Group.IdxX; i < tile.Count * Tile.Columns; i += Group.DimX)
            {
                var c = column + (i % Tile.Columns);
                if (c < args.Hidden)
                {
                    args.Output[((tile.First + (i / Tile.Columns)) * args.OutputStride) + c] = BFloat16Element.Narrow(result[i], 1f);
                }
            }

            GroupWork.Sync();
        }
    }
}
