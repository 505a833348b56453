using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void AttentionDecode(DeviceStream stream, in AttentionDecodeArgs args)
    {
        if (args.Cache.K.DType == DType.BFloat16)
        {
            AttentionDecode(stream, in args, _decodeBFloat16, _joinBFloat16);
        }
        else
        {
            AttentionDecode(stream, in args, _decodeFloat8, _joinFloat8);
        }
    }

    /// <inheritdoc/>
    public override long AttentionDecodeWorkspace(in AttentionDecodeArgs args) =>
        args.Q.Shape[0] * args.Q.Shape[1] * Splits(args.MaxContext) * (args.Cache.HeadDim + 2) * sizeof(float);

    private void AttentionDecode<T>(
        DeviceStream stream, in AttentionDecodeArgs args, IlgpuKernel<AttentionDecodeKernel<T>> decode,
        IlgpuKernel<AttentionDecodeKernel<T>> join)
        where T : unmanaged
    {
        var panel = Panel<T>(args.Q, args.Cache, args.BlockTable, args.Sinks, args.Output, args.MaxContext, args.Scale, args.Window);
        var kernel = new AttentionDecodeKernel<T>
        {
            Panel = panel,
            ContextLengths = View<int>(args.ContextLengths),
            Partials = args.Workspace.IsNull ? default : View<byte>(args.Workspace).Cast<float>(),
            Sequences = args.ContextLengths.ElementCount,
            Panels = (args.QueryLength + panel.PanelQueries - 1) / panel.PanelQueries,
            Codes = View<byte>(args.Quantized?.Values ?? default),
            Scales = View<float>(args.Quantized?.Scales ?? default),
            CodeStride = args.Quantized?.Values.Strides[0] ?? 0,
            ScaleStride = args.Quantized?.Scales.Strides[0] ?? 0,
            ColumnBlocks = Blocks(args.Q.Shape[1] * args.Cache.HeadDim),
            Splits = Splits(args.MaxContext),
            Rows = args.Q.Shape[0],
            QHeads = (int)args.Q.Shape[1],
            QueryLength = args.QueryLength,
        };
        decode.Launch(
            Stream(stream), kernel.Sequences * kernel.Panels * args.Cache.KvHeads * kernel.Splits, _shape.Threads, kernel);
        join.Launch(Stream(stream), kernel.Rows * kernel.ColumnBlocks, _shape.Threads, kernel);
    }

    private static long Splits(long context) =>
        (context + AttentionDecodeKernel<byte>.SplitTokens - 1) / AttentionDecodeKernel<byte>.SplitTokens;
}

/// <summary>
/// Attention of 1 to 4 queries of each sequence: a group for each panel, KV head and split of the context, then a group for each 128
/// columns of a row (one or two heads) that joins the splits in order. A split's length is fixed, so a row's bits do not depend on
/// the batch.
/// </summary>
internal struct AttentionDecodeKernel<T> where T : unmanaged
{
    public const long SplitTokens = 512;

    public AttentionPanel<T> Panel;
    public ArrayView<int> ContextLengths; // [sequences]
    public ArrayView<float> Partials;     // [rows, q_heads, splits, 2 + head_dim]: maximum, total, sums
    public ArrayView<byte> Codes;         // [rows, q_heads * head_dim] FP8; empty: not wanted
    public ArrayView<float> Scales;       // [rows, ColumnBlocks]
    public long Sequences, Panels, Splits, Rows, ColumnBlocks, CodeStride, ScaleStride;
    public int QHeads, QueryLength;

    public static void Run<TElement>(AttentionDecodeKernel<T> args) where TElement : struct, IElement<T>
    {
        var state = PanelState.Allocate();
        var (kvHeads, dim) = (args.Panel.Cache.KvHeads, args.Panel.Cache.HeadDim);
        for (long work = Grid.IdxX; work < args.Sequences * args.Panels * kvHeads * args.Splits; work += Grid.DimX)
        {
            var (pair, split) = (work / args.Splits, work % args.Splits);
            var (sequence, first) = (pair / kvHeads / args.Panels, pair / kvHeads % args.Panels * args.Panel.PanelQueries);
            var left = args.QueryLength - first;
            var which = new PanelQueries
            {
                Sequence = sequence,
                FirstRow = (sequence * args.QueryLength) + first,
                Position = args.ContextLengths[sequence] - args.QueryLength + first,
                Count = (int)(left < args.Panel.PanelQueries ? left : args.Panel.PanelQueries),
                KvHead = (int)(pair % kvHeads),
            };
            var begin = split * SplitTokens;
            if (begin >= args.Panel.End(which.Position + which.Count - 1))
            {
                continue; // nobody reads its partial results
            }

            AttentionPanel<T>.Attend<TElement>(args.Panel, which, begin, begin + SplitTokens, state);
            for (var i = Group.IdxX; i < which.Count * args.Panel.Group * dim; i += Group.DimX)
            {
                var (r, d) = (i / dim, i % dim);
                var partial = args.Partial(which.FirstRow + (r / args.Panel.Group), args.Panel.Head(which, r), split);
                args.Partials[partial + 2 + d] = state.Sums[(r * AttentionPanel<T>.MaxHeadDim) + d];
                if (d == 0)
                {
                    args.Partials[partial] = state.Maxima[r];
                    args.Partials[partial + 1] = state.Totals[r];
                }
            }

            GroupWork.Sync();
        }
    }

    public static void Join(AttentionDecodeKernel<T> args)
    {
        var values = SharedMemory.Allocate<float>(Octet.Float8.Block);
        var scratch = SharedMemory.Allocate<float>(IlgpuShape.MaxThreads);
        var dim = args.Panel.Cache.HeadDim;
        for (long work = Grid.IdxX; work < args.Rows * args.ColumnBlocks; work += Grid.DimX)
        {
            var (row, block) = (work / args.ColumnBlocks, work % args.ColumnBlocks);
            var first = block * Octet.Float8.Block;
            var left = ((long)args.QHeads * dim) - first;
            var count = left < Octet.Float8.Block ? (int)left : Octet.Float8.Block;
            var amax = 0f;
            for (var i = Group.IdxX; i < count; i += Group.DimX)
            {
                // A thread reads back only what it wrote itself.
                values[i] = args.Joined(row, (first + i) / dim, (int)((first + i) % dim));
                amax = GroupWork.Amax(amax, values[i]);
                if (args.Panel.Output.Length > 0)
                {
                    args.Panel.Output[(row * args.Panel.OutputStride) + first + i] = BFloat16Element.Narrow(values[i], 1f);
                }
            }

            if (args.Codes.Length > 0)
            {
                var scale = Float8Element.Scale(GroupWork.Largest(amax, scratch));
                for (var i = Group.IdxX; i < count; i += Group.DimX)
                {
                    args.Codes[(row * args.CodeStride) + first + i] = Float8Element.Narrow(values[i], scale);
                }

                if (Group.IdxX == 0)
                {
                    args.Scales[(row * args.ScaleStride) + block] = scale;
                }
            }
        }
    }

    /// <summary>One element of a head: its splits in order.</summary>
    private readonly float Joined(long row, long head, int d)
    {
        var position = ContextLengths[row / QueryLength] - QueryLength + (row % QueryLength);
        var end = Panel.End(position);
        var (maximum, total, sum) = (Bits.NegativeInfinity, 0f, 0f);
        for (var split = Panel.First(position) / SplitTokens; split * SplitTokens < end; split++)
        {
            var partial = Partial(row, head, split);
            var (ownMaximum, ownTotal) = (Partials[partial], Partials[partial + 1]);
            if (ownMaximum == Bits.NegativeInfinity && ownTotal == 0f)
            {
                continue; // the row sees nothing of this split
            }

            var largest = ownMaximum > maximum ? ownMaximum : maximum;
            var keep = maximum == Bits.NegativeInfinity ? 0f : XMath.Exp(maximum - largest);
            var add = XMath.Exp(ownMaximum - largest);
            total = (total * keep) + (ownTotal * add);
            sum = (sum * keep) + (Partials[partial + 2 + d] * add);
            maximum = largest;
        }

        return Panel.Finish(head, maximum, total, sum);
    }

    private readonly long Partial(long row, long head, long split) =>
        ((((row * QHeads) + head) * Splits) + split) * (2 + Panel.Cache.HeadDim);
}
