using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Inference.Parallel;

/// <summary>One device of a group and all that lies there: its part of the model, the KV cache, and what its steps need.</summary>
internal sealed class Rank : IDisposable
{
    private readonly Stack<IDisposable> _owned = new();
    private readonly LanguageModelOptions _options;
    private readonly KvMemory _memory;
    private ModelRunner? _runner;

    /// <param name="loaded">Its part of the model; taken over.</param>
    /// <param name="device">Where it is.</param>
    /// <param name="shape">The rank.</param>
    /// <param name="options">How the model is run.</param>
    /// <param name="memory">What there is of it.</param>
    public Rank(LoadedModel loaded, Device device, RankShape shape, LanguageModelOptions options, KvMemory memory)
    {
        (Device, Shape, _options, _memory) = (device, shape, options, memory);
        Model = Own(loaded).Model;
    }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>Which rank it is.</summary>
    public RankShape Shape { get; }

    /// <summary>Its part of the model.</summary>
    public IModel Model { get; }

    /// <summary>What runs its steps.</summary>
    public ModelRunner Runner => _runner ?? throw new InvalidOperationException($"{nameof(Prepare)} comes first");

    /// <summary>KV blocks there is room for, now that the weights of all ranks are there.</summary>
    /// <param name="weightBytes">What this rank's took; null: what is missing of its device's memory.</param>
    public int Fit(long? weightBytes) => (_memory with { WeightBytes = Math.Max(weightBytes ?? _memory.FreeBytes - Device.FreeMemory, 0) }).Blocks();

    /// <summary>Takes the memory of the cache and of the steps.</summary>
    /// <param name="blocks">KV blocks.</param>
    /// <param name="bounds">The largest step.</param>
    public void Prepare(int blocks, StepBounds bounds)
    {
        var cache = Own(new PagedKvCache(Device, Model.Kv, _options.KvEncoding, _options.KvBlockSize, blocks, Model.KvScales));
        var workspace = Own(new Workspace(Device));
        Model.Prepare(Device, cache, workspace, bounds, _options.RankTimeout);
        var graphs = _options.UseGraphs ? Own(new DecodeGraphs(Device, workspace)) : null;
        _runner = Own(new ModelRunner(Device, Model, Own(new KvSwap(Device, cache)), graphs, workspace, bounds, Shape));
    }

    public void Dispose()
    {
        while (_owned.TryPop(out var part))
        {
            part.Dispose();
        }
    }

    private T Own<T>(T part) where T : IDisposable
    {
        _owned.Push(part);
        return part;
    }
}
