namespace Octet.Inference.Engine;

/// <summary>Chooses the next token of each sequence of a step, on the device.</summary>
internal sealed class Sampler : IDisposable
{
    private readonly Device _device;
    private readonly Workspace _workspace;
    private readonly UploadBuffer _arrays;
    private readonly UploadArray<float> _temperatures;
    private readonly UploadArray<int> _topK;
    private readonly UploadArray<float> _topP;
    private readonly UploadArray<long> _seeds;
    private readonly UploadArray<long> _counters;
    private readonly Tensor _ids;
    private Tensor _idsView;

    public Sampler(Device device, Workspace workspace, int maxRows)
    {
        (_device, _workspace) = (device, workspace);
        _arrays = new UploadBuffer(device, 4L * maxRows, 4L * maxRows, 4L * maxRows, 8L * maxRows, 8L * maxRows);
        try
        {
            _temperatures = _arrays.Add<float>(maxRows);
            _topK = _arrays.Add<int>(maxRows);
            _topP = _arrays.Add<float>(maxRows);
            _seeds = _arrays.Add<long>(maxRows);
            _counters = _arrays.Add<long>(maxRows);
            _ids = _idsView = Tensor.Create(device, DType.Int32, maxRows);
        }
        catch
        {
            _arrays.Dispose();
            throw;
        }
    }

    /// <summary>Says how row <paramref name="row"/> of the next step's logits is drawn: the request's settings, its seed and the token's position.</summary>
    public void Set(int row, Request request)
    {
        _temperatures.Host[row] = request.Temperature;
        _topK.Host[row] = request.TopK;
        _topP.Host[row] = request.TopP;
        _seeds.Host[row] = request.Seed;
        _counters.Host[row] = request.Sequence!.Tokens.Count;
    }

    /// <summary>Says that a row is padding: its token is of no use to anyone.</summary>
    public void SetPadding(int row)
    {
        _temperatures.Host[row] = 0;
        _topK.Host[row] = 0;
        _topP.Host[row] = 1;
    }

    /// <summary>Enqueues the copy of the settings to the device.</summary>
    public void Upload() => _arrays.Upload();

    /// <summary>Enqueues drawing one token for each row of the logits [rows, vocabulary].</summary>
    public void Sample(Tensor logits)
    {
        var rows = (int)logits.Shape[0];
        var args = new SamplingArgs
        {
            Logits = logits,
            Temperatures = _temperatures.First(rows),
            TopK = _topK.First(rows),
            TopP = _topP.First(rows),
            Seeds = _seeds.First(rows),
            Counters = _counters.First(rows),
            Ids = Ids(rows),
        };
        Ops.Sampling(_device.Stream, args with { Workspace = _workspace.Take(Ops.SamplingWorkspace(_device, args)) });
    }

    /// <summary>Waits for the drawn tokens of the first rows.</summary>
    public void Read(Span<int> tokens) => _device.Stream.Read(Ids(tokens.Length), tokens);

    public void Dispose()
    {
        _arrays.Dispose();
        _ids.Dispose();
    }

    private Tensor Ids(int rows) => _idsView = _idsView.Shape[0] == rows ? _idsView : _ids.Slice(0, 0, rows);
}
