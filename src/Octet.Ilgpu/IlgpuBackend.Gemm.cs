using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Gemm(DeviceStream stream, in GemmArgs args)
    {
        if (args.B.Values.DType == DType.BFloat16)
        {
            Gemm(stream, in args, _gemmBFloat16);
        }
        else
        {
            Gemm(stream, in args, _gemmFloat8);
        }
    }

    /// <inheritdoc/>
    public override long GemmWorkspace(in GemmArgs args) => 0;

    private void Gemm<T>(DeviceStream stream, in GemmArgs args, IlgpuKernel<GemmKernel<T>> kernel) where T : unmanaged
    {
        var isSingle = args.Output.DType == DType.Float32;
        var (m, n) = (args.A.Shape[0], args.B.N);
        var columnTiles = (n + Tile.Columns - 1) / Tile.Columns;
        kernel.Launch(Stream(stream), (m + Tile.Rows - 1) / Tile.Rows * columnTiles, _shape.TileThreads, new GemmKernel<T>
        {
            Product = Product<T>(args.A, args.AScales, args.B),
            Bias = View<ushort>(args.Bias),
            Singles = isSingle ? View<float>(args.Output) : ArrayView<float>.Empty,
            Output = isSingle ? ArrayView<ushort>.Empty : View<ushort>(args.Output),
            M = m,
            N = n,
            ColumnTiles = columnTiles,
            OutputStride = args.Output.Strides[0],
            Leaves = Math.Max(args.Leaves, 1),
        });
    }

    private Product<T> Product<T>(TensorView a, TensorView aScales, Weight b) where T : unmanaged => new()
    {
        A = View<T>(a),
        AScales = View<float>(aScales),
        B = View<T>(b.Values),
        BScales = View<float>(b.Scales),
        AStride = a.Strides[0],
        AScaleStride = StrideOf(aScales),
        BStride = b.Values.Strides[^2],
        BScaleStride = b.Scales.IsNull ? 0 : b.Scales.Strides[^2],
        K = b.K,
        ScaleRowOffset = b.Scales.IsNull ? 0 : b.ScaleRowOffset,
        ScaleColumnOffset = b.Scales.IsNull ? 0 : b.ScaleColumnOffset,
    };

    private ExpertProduct Experts(QuantizedTensor x, Weight weight) => new()
    {
        First = Product<byte>(x.Values, x.Scales, weight),
        Stride = weight.Values.Rank == 3 ? weight.Values.Strides[0] : 0,
        ScaleStride = weight.Scales is { Rank: 3 } ? weight.Scales.Strides[0] : 0,
    };
}

/// <summary>
/// output = A B^T (+ bias): a group for each tile of 16 rows by 64 columns, the tiles of a row side by side. Leaves of k are summed one after
/// the other; the nodes of their tree that wait for a neighbour lie in shared memory, at most one on each level.
/// </summary>
internal struct GemmKernel<T> where T : unmanaged
{
    public Product<T> Product;
    public ArrayView<ushort> Bias;   // [n] BF16; empty: none
    public ArrayView<float> Singles; // [m, n]; empty with BF16
    public ArrayView<ushort> Output; // [m, n] BF16; empty with f32
    public long M, N, ColumnTiles, OutputStride;
    public int Leaves;               // 1, 2, 4 or 8; several: rounded to BF16

    private const int WaitingLevels = 3; // of eight leaves

    public static void Run<TTile, TElement>(GemmKernel<T> args)
        where TTile : struct, ITile
        where TElement : struct, IElement<T>
    {
        var rows = SharedMemory.Allocate<long>(Tile.Rows);
        var a = SharedMemory.Allocate<float>(Tile.AElements);
        var b = SharedMemory.Allocate<float>(Tile.BElements);
        var result = SharedMemory.Allocate<float>(Tile.Results);
        var waiting = SharedMemory.Allocate<ushort>(WaitingLevels * Tile.Results);
        var tiles = (args.M + Tile.Rows - 1) / Tile.Rows * args.ColumnTiles;
        for (long tile = Grid.IdxX; tile < tiles; tile += Grid.DimX)
        {
            var (first, column) = (tile / args.ColumnTiles * Tile.Rows, tile % args.ColumnTiles * Tile.Columns);
            var count = args.M - first < Tile.Rows ? (int)(args.M - first) : Tile.Rows;
            for (var r = Group.IdxX; r < Tile.Rows; r += Group.DimX)
            {
                rows[r] = r < count ? first + r : -1;
            }

            var length = args.Product.K / args.Leaves;
            for (var leaf = 0; leaf < args.Leaves; leaf++)
            {
                GroupWork.Sync();
                TTile.Multiply<TElement, T>(args.Product.Columns(leaf * length, length), rows, count, column, args.N - column, a, b, result);
                GroupWork.Sync();
                for (var i = Group.IdxX; i < count * Tile.Columns; i += Group.DimX)
                {
                    var (r, c) = (first + (i / Tile.Columns), column + (i % Tile.Columns));
                    if (c < args.N)
                    {
                        var value = leaf == 0 && args.Bias.Length > 0 ? result[i] + BFloat16Element.Widen(args.Bias[c]) : result[i];
                        Add(args, leaf, value, waiting, i, (r * args.OutputStride) + c);
                    }
                }
            }

            GroupWork.Sync();
        }
    }

    // A leaf's sum on its way up the tree; the last one's arrives at the root. i: of the tile, at: of the output.
    private static void Add(GemmKernel<T> args, int leaf, float value, ArrayView<ushort> waiting, int i, long at)
    {
        if (args.Singles.Length > 0)
        {
            args.Singles[at] = value;
            return;
        }

        var node = BFloat16Element.Narrow(value, 1f);
        var place = i;
        for (var rest = leaf; (rest & 1) != 0; rest >>= 1)
        {
            node = BFloat16Element.Narrow(BFloat16Element.Widen(waiting[place]) + BFloat16Element.Widen(node), 1f);
            place += Tile.Results;
        }

        if (leaf + 1 < args.Leaves)
        {
            waiting[place] = node;
        }
        else
        {
            args.Output[at] = node;
        }
    }
}
