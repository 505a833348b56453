using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void AttentionPrefill(DeviceStream stream, in AttentionPrefillArgs args)
    {
        if (args.Cache.K.DType == DType.BFloat16)
        {
            AttentionPrefill(stream, in args, _prefillBFloat16);
        }
        else
        {
            AttentionPrefill(stream, in args, _prefillFloat8);
        }
    }

    /// <inheritdoc/>
    public override long AttentionPrefillWorkspace(in AttentionPrefillArgs args) => 0;

    private void AttentionPrefill<T>(DeviceStream stream, in AttentionPrefillArgs args, IlgpuKernel<AttentionPrefillKernel<T>> kernel)
        where T : unmanaged
    {
        var panel = Panel<T>(args.Q, args.Cache, args.BlockTable, args.Sinks, args.Output, args.MaxContext, args.Scale, args.Window);
        var queries = Math.Min(args.MaxQueries, args.Q.Shape[0]);
        var panels = (queries + panel.PanelQueries - 1) / panel.PanelQueries;
        var sequences = args.ContextLengths.ElementCount;
        kernel.Launch(Stream(stream), sequences * panels * args.Cache.KvHeads, _shape.Threads, new AttentionPrefillKernel<T>
        {
            Panel = panel,
            QueryStarts = View<int>(args.QueryStarts),
            ContextLengths = View<int>(args.ContextLengths),
            Sequences = sequences,
            Panels = panels,
            Rows = args.Q.Shape[0],
            MaxQueries = args.MaxQueries,
        });
    }

    private AttentionPanel<T> Panel<T>(
        TensorView q, KvCache cache, TensorView blockTable, TensorView sinks, TensorView output, long maxContext, float scale, int window)
        where T : unmanaged => new()
        {
            Cache = Cache<T>(cache),
            Q = View<ushort>(q),
            BlockTable = View<int>(blockTable),
            Output = View<ushort>(output),
            Sinks = View<float>(sinks),
            QStride = q.Strides[0],
            OutputStride = StrideOf(output),
            BlockTableStride = blockTable.Strides[0],
            BlockTableColumns = blockTable.Shape[1],
            MaxContext = maxContext,
            Group = (int)(q.Shape[1] / cache.KvHeads),
            Window = window,
            Scale = scale,
        };
}

/// <summary>Causal attention of chunks of prompts: a group for each panel of queries and KV head, over the whole context they see.</summary>
internal struct AttentionPrefillKernel<T> where T : unmanaged
{
    public AttentionPanel<T> Panel;
    public ArrayView<int> QueryStarts;    // [sequences + 1]
    public ArrayView<int> ContextLengths; // [sequences]
    public long Sequences, Panels, Rows, MaxQueries;

    public static void Run<TElement>(AttentionPrefillKernel<T> args) where TElement : struct, IElement<T>
    {
        var state = PanelState.Allocate();
        var (kvHeads, dim) = (args.Panel.Cache.KvHeads, args.Panel.Cache.HeadDim);
        for (long work = Grid.IdxX; work < args.Sequences * args.Panels * kvHeads; work += Grid.DimX)
        {
            var (sequence, panel) = (work / kvHeads / args.Panels, work / kvHeads % args.Panels);
            var start = Within(args.QueryStarts[sequence], 0, args.Rows);
            var length = Within(args.QueryStarts[sequence + 1], start, args.Rows) - start;
            length = length < args.MaxQueries ? length : args.MaxQueries;
            var first = panel * args.Panel.PanelQueries;
            var which = new PanelQueries
            {
                Sequence = sequence,
                FirstRow = start + first,
                Position = args.ContextLengths[sequence] - length + first,
                Count = (int)Within(length - first, 0, args.Panel.PanelQueries),
                KvHead = (int)(work % kvHeads),
            };
            if (which.Count > 0)
            {
                AttentionPanel<T>.Attend<TElement>(args.Panel, which, 0, args.Panel.MaxContext, state);
            }

            for (var i = Group.IdxX; i < which.Count * args.Panel.Group * dim; i += Group.DimX)
            {
                var (r, d) = (i / dim, i % dim);
                var head = args.Panel.Head(which, r);
                var value = args.Panel.Finish(
                    head, state.Maxima[r], state.Totals[r], state.Sums[(r * AttentionPanel<T>.MaxHeadDim) + d]);
                var at = ((which.FirstRow + (r / args.Panel.Group)) * args.Panel.OutputStride) + (head * dim) + d;
                args.Panel.Output[at] = BFloat16Element.Narrow(value, 1f);
            }

            GroupWork.Sync();
        }
    }

    private static long Within(long value, long low, long high) => value < low ? low : value > high ? high : value;
}
