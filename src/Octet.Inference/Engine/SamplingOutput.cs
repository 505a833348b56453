namespace Octet.Inference.Engine;

/// <summary>What <c>sampling</c> gives for each row of logits of a step, on the device and, once read, on the host.</summary>
internal sealed class SamplingOutput : IDisposable
{
    /// <summary>The most likely tokens that can be asked for.</summary>
    public const int MaxAlternatives = 20;

    private readonly Tensor _ids;
    private readonly Tensor _drawn;
    private readonly Tensor _topIds;
    private readonly Tensor _topLogprobs;
    private readonly int[] _hostIds;
    private readonly float[] _hostDrawn;
    private readonly int[] _hostTopIds;
    private readonly float[] _hostTopLogprobs;
    private (Tensor Ids, Tensor Drawn, Tensor TopIds, Tensor TopLogprobs) _views;

    /// <param name="device">Where the step runs.</param>
    /// <param name="maxOutputs">Most rows of logits.</param>
    public SamplingOutput(Device device, int maxOutputs)
    {
        var tensors = new Stack<Tensor>();
        Tensor Create(DType type, params ReadOnlySpan<long> shape)
        {
            tensors.Push(Tensor.Create(device, type, shape));
            return tensors.Peek();
        }

        try
        {
            _ids = Create(DType.Int32, maxOutputs);
            _drawn = Create(DType.Float32, maxOutputs);
            _topIds = Create(DType.Int32, maxOutputs, MaxAlternatives);
            _topLogprobs = Create(DType.Float32, maxOutputs, MaxAlternatives);
        }
        catch
        {
            while (tensors.TryPop(out var tensor))
            {
                tensor.Dispose();
            }

            throw;
        }

        _hostIds = new int[maxOutputs];
        _hostDrawn = new float[maxOutputs];
        _hostTopIds = new int[maxOutputs * MaxAlternatives];
        _hostTopLogprobs = new float[maxOutputs * MaxAlternatives];
        _views = (_ids, _drawn, _topIds, _topLogprobs);
    }

    /// <summary>[rows] i32.</summary>
    public Tensor Ids => _views.Ids;

    /// <summary>Tokens drawn, once they are read.</summary>
    public ReadOnlySpan<int> Drawn => _hostIds;

    /// <summary>The number of rows from now on.</summary>
    public void Use(int rows)
    {
        if (_views.Ids.Shape[0] != rows)
        {
            _views = (_ids.Slice(0, 0, rows), _drawn.Slice(0, 0, rows), _topIds.Slice(0, 0, rows), _topLogprobs.Slice(0, 0, rows));
        }
    }

    /// <summary>Where the logarithms go.</summary>
    public LogprobOutputs Logprobs(Tensor counts) =>
        new() { Counts = counts, Drawn = _views.Drawn, Ids = _views.TopIds, Values = _views.TopLogprobs };

    /// <summary>Waits for the step and reads the tokens drawn; and the logarithms where a row asked for them.</summary>
    public void Read(DeviceStream stream, bool logprobs)
    {
        var rows = (int)_views.Ids.Shape[0];
        stream.Read(_views.Ids, _hostIds.AsSpan(0, rows));
        if (logprobs)
        {
            stream.Read(_views.Drawn, _hostDrawn.AsSpan(0, rows));
            stream.Read(_views.TopIds, _hostTopIds.AsSpan(0, rows * MaxAlternatives));
            stream.Read(_views.TopLogprobs, _hostTopLogprobs.AsSpan(0, rows * MaxAlternatives));
        }
    }

    /// <summary>The logarithms of a row that asked for so many alternatives.</summary>
    public TokenLogprobs LogprobsOf(int row, int alternatives)
    {
        var ids = _hostTopIds.AsSpan(row * MaxAlternatives, alternatives);
        var values = _hostTopLogprobs.AsSpan(row * MaxAlternatives, alternatives);
        var mostLikely = new TokenLogprob[alternatives - ids.Count(-1)];
        for (var i = 0; i < mostLikely.Length; i++)
        {
            mostLikely[i] = new TokenLogprob(ids[i], values[i]);
        }

        return new TokenLogprobs(_hostDrawn[row], mostLikely);
    }

    public void Dispose()
    {
        _ids.Dispose();
        _drawn.Dispose();
        _topIds.Dispose();
        _topLogprobs.Dispose();
    }
}
