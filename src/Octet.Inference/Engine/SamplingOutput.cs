namespace Octet.Inference.Engine;

/// <summary>What <c>sampling</c> gives for each row of logits of a step, on the device and, once read, on the host.</summary>
internal sealed class SamplingOutput : IDisposable
{
    /// <summary>The most likely tokens that can be asked for.</summary>
    public const int MaxAlternatives = 20;

    private readonly TensorSet _memory;
    private readonly TensorView _ids;
    private readonly TensorView _drawn;
    private readonly TensorView _topIds;
    private readonly TensorView _topLogprobs;
    private readonly int[] _hostIds;
    private readonly float[] _hostDrawn;
    private readonly int[] _hostTopIds;
    private readonly float[] _hostTopLogprobs;

    /// <param name="device">Where the step runs.</param>
    /// <param name="maxOutputs">Most rows of logits.</param>
    public SamplingOutput(Device device, int maxOutputs)
    {
        _memory = new TensorSet(device);
        try
        {
            _ids = _memory.Create(DType.Int32, maxOutputs);
            _drawn = _memory.Create(DType.Float32, maxOutputs);
            _topIds = _memory.Create(DType.Int32, maxOutputs, MaxAlternatives);
            _topLogprobs = _memory.Create(DType.Float32, maxOutputs, MaxAlternatives);
        }
        catch
        {
            _memory.Dispose();
            throw;
        }

        _hostIds = new int[maxOutputs];
        _hostDrawn = new float[maxOutputs];
        _hostTopIds = new int[maxOutputs * MaxAlternatives];
        _hostTopLogprobs = new float[maxOutputs * MaxAlternatives];
    }

    /// <summary>The number of rows of the step at hand.</summary>
    public int Rows { get; set; }

    /// <summary>[rows] i32.</summary>
    public TensorView Ids => _ids.Slice(0, 0, Rows);

    /// <summary>Tokens drawn, once they are read.</summary>
    public ReadOnlySpan<int> Drawn => _hostIds;

    /// <summary>Where the logarithms go.</summary>
    public LogprobOutputs Logprobs(TensorView counts) => new()
    {
        Counts = counts,
        Drawn = _drawn.Slice(0, 0, Rows),
        Ids = _topIds.Slice(0, 0, Rows),
        Values = _topLogprobs.Slice(0, 0, Rows),
    };

    /// <summary>Waits for the step and reads the tokens drawn; and the logarithms where a row asked for them.</summary>
    public void Read(DeviceStream stream, bool logprobs)
    {
        stream.Read(Ids, _hostIds.AsSpan(0, Rows));
        if (logprobs)
        {
            stream.Read(_drawn.Slice(0, 0, Rows), _hostDrawn.AsSpan(0, Rows));
            stream.Read(_topIds.Slice(0, 0, Rows), _hostTopIds.AsSpan(0, Rows * MaxAlternatives));
            stream.Read(_topLogprobs.Slice(0, 0, Rows), _hostTopLogprobs.AsSpan(0, Rows * MaxAlternatives));
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

    public void Dispose() => _memory.Dispose();
}
