using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Tests.Inference.Models;

/// <summary>Runs the layers of a loaded model by hand, on a cache of its own.</summary>
internal sealed class LayerProbe : IDisposable
{
    private const int BlockSize = 16, MostTokens = 512;

    private readonly Device _device;
    private readonly Decoder _decoder;
    private readonly PagedKvCache _cache;
    private readonly Workspace _workspace;
    private readonly StepInput _input;

    public LayerProbe(LanguageModel model)
    {
        (_device, _decoder) = (model.Device, (Decoder)model.Model);
        _cache = new PagedKvCache(_device, _decoder.Kv, KvEncoding.Float8, BlockSize, MostTokens / BlockSize, _decoder.KvScales);
        _workspace = new Workspace(_device);
        _input = new StepInput(_device, _workspace, new StepBounds(MostTokens, 4, 4, MostTokens, BlockSize), RankShape.Whole(model.Config));
    }

    /// <summary>One layer on a given residual stream: [tokens, hidden] in and out.</summary>
    public BFloat16[] RunLayer(int layer, BFloat16[] residual)
    {
        var step = Begin(new int[residual.Length / (int)_decoder.Prepared.Buffers.Residual.Shape[1]]);
        _device.Stream.Write<BFloat16>(step.Buffers.Residual, residual);
        var output = _decoder.Layers[layer].Run(step, _cache.Layers[layer], default);
        _decoder.FinalNorm.Run(step, output, plain: true, quantized: false);
        return step.Buffers.Residual.ToArray<BFloat16>();
    }

    /// <summary>The experts each layer chooses for a text: [tokens, top_k].</summary>
    public int[][] Route(int[] ids)
    {
        var step = Begin(ids);
        var routed = new int[_decoder.Layers.Count][];
        var before = _decoder.EmbeddingAndHead.Embed(step);
        for (var layer = 0; layer < routed.Length; layer++)
        {
            before = _decoder.Layers[layer].Run(step, _cache.Layers[layer], before);
            routed[layer] = step.Buffers.ExpertIds.ToArray<int>();
        }

        return routed;
    }

    public void Dispose()
    {
        _input.Dispose();
        _workspace.Dispose();
        _cache.Dispose();
    }

    private ForwardStep Begin(int[] ids)
    {
        var sequence = new Sequence(0, ids, ids.Length);
        sequence.Blocks.AddRange(Enumerable.Range(0, (ids.Length + BlockSize - 1) / BlockSize));
        var plan = new StepPlan();
        plan.Add(new ScheduledRow(sequence, 0, ids.Length, 0));
        _input.Fill(plan, 0, 1);
        _input.Upload();
        _decoder.Prepared.Begin(_input);
        return _decoder.Prepared;
    }
}
