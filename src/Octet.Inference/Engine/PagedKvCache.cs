using Octet.Inference.Models;

namespace Octet.Inference.Engine;

/// <summary>The KV caches of all layers, cut into blocks of tokens.</summary>
internal sealed class PagedKvCache : IDisposable
{
    private readonly TensorSet _memory;

    /// <param name="device">Where it lies.</param>
    /// <param name="layout">What is kept of a token.</param>
    /// <param name="encoding">FP8 or BF16.</param>
    /// <param name="blockSize">Tokens of a block.</param>
    /// <param name="blocks">Blocks in all.</param>
    /// <param name="scales">Of each layer, in OCP encoding; null: 1. A BF16 cache has none.</param>
    public PagedKvCache(Device device, KvLayout layout, KvEncoding encoding, int blockSize, int blocks, IReadOnlyList<KvScales?> scales)
    {
        _memory = new TensorSet(device);
        BlockSize = blockSize;
        Blocks = blocks;
        var type = encoding == KvEncoding.BFloat16 ? DType.BFloat16 : device.Float8;
        try
        {
            // Twice as large for FNUZ: the same bytes on every device.
            TensorView Upload(float[]? values) => encoding == KvEncoding.BFloat16
                ? default
                : _memory.Add(Tensor.From<float>(device, Array.ConvertAll(values ?? [1f], x => device.Float8 == DType.Float8E4M3Fnuz ? 2 * x : x), values?.Length ?? 1));
            var one = Upload(null);
            Layers = new KvCache[layout.Layers];
            for (var layer = 0; layer < Layers.Length; layer++)
            {
                // Zeros, since attention reads V in runs of 16 bytes, which may reach past a context into what nobody has written yet.
                Layers[layer] = new KvCache
                {
                    K = _memory.Add(Tensor.Zeros(device, type, blocks, layout.Heads, blockSize, layout.HeadDim)),
                    V = _memory.Add(Tensor.Zeros(device, type, blocks, layout.Heads, layout.HeadDim, blockSize)),
                    KScales = scales[layer] is { } own ? Upload(own.K) : one,
                    VScales = scales[layer] is { } its ? Upload(its.V) : one,
                };
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The cache of each layer.</summary>
    public KvCache[] Layers { get; } = [];

    /// <summary>Tokens of a block.</summary>
    public int BlockSize { get; }

    /// <summary>Blocks in all.</summary>
    public int Blocks { get; }

    /// <summary>Bytes of one block's K and V in all layers.</summary>
    public long BytesPerBlock => Layers.Sum(layer => layer.K.SizeInBytes + layer.V.SizeInBytes) / Blocks;

    public void Dispose() => _memory.Dispose();
}
