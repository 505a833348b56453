namespace Octet.Inference.Engine;

/// <summary>
/// Blocks on the move: those of preempted texts to pinned host memory and back, and copies on the device where texts part. What a text had
/// computed thus keeps its bits.
/// </summary>
internal sealed class KvSwap(Device device, PagedKvCache cache) : IDisposable
{
    private readonly Dictionary<Sequence, PinnedBuffer> _waiting = [];
    private readonly List<PinnedBuffer> _returning = [];

    /// <summary>Enqueues what a step wants moved before it.</summary>
    public void Move(StepPlan plan)
    {
        foreach (var (sequence, blocks) in plan.SwapsOut)
        {
            var buffer = new PinnedBuffer(device, blocks.Length * cache.BytesPerBlock);
            _waiting.Add(sequence, buffer);
            ForEachRun(blocks, (part, offset) => device.Stream.CopyAsync(buffer, part, offset));
        }

        foreach (var (sequence, blocks) in plan.SwapsIn)
        {
            _waiting.Remove(sequence, out var buffer);
            _returning.Add(buffer!);
            ForEachRun(blocks, (part, offset) => device.Stream.CopyAsync(part, buffer!, offset));
        }

        if (plan.Copies.Count > 0)
        {
            using var pairs = Tensor.From<long>(device, [.. plan.Copies.SelectMany(copy => new long[] { copy.Source, copy.Destination })], plan.Copies.Count, 2);
            foreach (var layer in cache.Layers)
            {
                Ops.KvCopy(device.Stream, new() { Pairs = pairs, Cache = layer });
            }

            device.Stream.Synchronize();
        }
    }

    /// <summary>Frees what a step that is done has brought back.</summary>
    public void Settle()
    {
        _returning.ForEach(buffer => buffer.Dispose());
        _returning.Clear();
    }

    /// <summary>Copies what waits of a text, if anything does, for another one that begins as it.</summary>
    public void Fork(Sequence parent, Sequence child)
    {
        if (_waiting.TryGetValue(parent, out var buffer))
        {
            var copy = new PinnedBuffer(device, buffer.SizeInBytes);
            _waiting.Add(child, copy);
            unsafe
            {
                Buffer.MemoryCopy((void*)buffer.Address, (void*)copy.Address, copy.SizeInBytes, buffer.SizeInBytes);
            }
        }
    }

    /// <summary>Frees what waits of a text that has ended.</summary>
    public void Forget(Sequence sequence)
    {
        if (_waiting.Remove(sequence, out var buffer))
        {
            buffer.Dispose();
        }
    }

    public void Dispose()
    {
        Settle();
        foreach (var buffer in _waiting.Values)
        {
            buffer.Dispose();
        }
    }

    // K and V of all layers, in runs of neighbouring blocks: each with its place in a buffer that holds them one after another.
    private void ForEachRun(int[] blocks, Action<TensorView, long> copy)
    {
        long offset = 0;
        foreach (var layer in cache.Layers)
        {
            foreach (var tensor in (TensorView[])[layer.K, layer.V])
            {
                for (var i = 0; i < blocks.Length;)
                {
                    var run = 1;
                    while (i + run < blocks.Length && blocks[i + run] == blocks[i] + run)
                    {
                        run++;
                    }

                    var part = tensor.Slice(0, blocks[i], run);
                    copy(part, offset);
                    offset += part.SizeInBytes;
                    i += run;
                }
            }
        }
    }
}
