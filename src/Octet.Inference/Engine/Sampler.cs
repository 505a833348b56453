namespace Octet.Inference.Engine;

/// <summary>Chooses the next token of each sequence of a step, on the device.</summary>
internal sealed class Sampler : IDisposable
{
    private readonly Device _device;
    private readonly Tensor _temperatures;
    private readonly Tensor _topK;
    private readonly Tensor _topP;
    private readonly Tensor _seeds;
    private readonly Tensor _counters;
    private readonly Tensor _ids;
    private Tensor? _workspace;

    public Sampler(Device device, int maxRows)
    {
        _device = device;
        _temperatures = Tensor.Create(device, DType.Float32, maxRows);
        _topK = Tensor.Create(device, DType.Int32, maxRows);
        _topP = Tensor.Create(device, DType.Float32, maxRows);
        _seeds = Tensor.Create(device, DType.Int64, maxRows);
        _counters = Tensor.Create(device, DType.Int64, maxRows);
        _ids = Tensor.Create(device, DType.Int32, maxRows);
    }

    /// <summary>One token for each row of the logits; the draw depends on the request's seed and the token's position only.</summary>
    public int[] Sample(Tensor logits, IReadOnlyList<Request> requests)
    {
        var rows = requests.Count;
        Tensor Set<T>(Tensor tensor, Func<Request, T> value) where T : unmanaged
        {
            var used = tensor.Slice(0, 0, rows);
            _device.Stream.Write<T>(used, [.. requests.Select(value)]);
            return used;
        }

        var ids = _ids.Slice(0, 0, rows);
        var args = new SamplingArgs
        {
            Logits = logits,
            Temperatures = Set(_temperatures, r => r.Temperature),
            TopK = Set(_topK, r => r.TopK),
            TopP = Set(_topP, r => r.TopP),
            Seeds = Set(_seeds, r => r.Seed),
            Counters = Set(_counters, r => (long)r.Sequence!.Tokens.Count),
            Ids = ids,
        };
        var needed = Ops.SamplingWorkspace(_device, args);
        if (needed > (_workspace?.SizeInBytes ?? 0))
        {
            _workspace?.Dispose();
            _workspace = Tensor.Create(_device, DType.Byte, needed);
        }

        Ops.Sampling(_device.Stream, args with { Workspace = _workspace });
        return ids.ToArray<int>();
    }

    public void Dispose()
    {
        _temperatures.Dispose();
        _topK.Dispose();
        _topP.Dispose();
        _seeds.Dispose();
        _counters.Dispose();
        _ids.Dispose();
        _workspace?.Dispose();
    }
}
