using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>
/// How the token of each row of logits of a step is drawn. Settings lie in the step's upload; adjustments of single logits and masks, which
/// few texts have, in a buffer of their own that grows as it must and is copied only in steps that have some.
/// </summary>
internal sealed class SamplingInput : IDisposable
{
    private const int LeastAdjustments = 1024;
    private const int LeastMasks = 1;

    private readonly Device _device;
    private readonly Workspace _workspace;
    private readonly int _words;
    private readonly UploadArray<float> _temperatures;
    private readonly UploadArray<int> _topK;
    private readonly UploadArray<float> _topP;
    private readonly UploadArray<float> _minP;
    private readonly UploadArray<long> _seeds;
    private readonly UploadArray<long> _counters;
    private readonly UploadArray<int> _starts;
    private readonly UploadArray<int> _maskRows;
    private readonly UploadArray<int> _logprobCounts;
    private readonly List<int> _adjusted = [];
    private readonly List<float> _adjustedPenalties = [];
    private readonly List<float> _adjustedBiases = [];
    private readonly List<int> _masked = [];
    private int[] _continuation = new int[16];
    private Sparse _sparse;

    /// <param name="device">Where the step runs.</param>
    /// <param name="workspace">Told when the buffer moves.</param>
    /// <param name="arrays">The step's upload, with room of <see cref="Sizes"/>.</param>
    /// <param name="maxOutputs">Most rows of logits.</param>
    /// <param name="vocabulary">Tokens there are.</param>
    public SamplingInput(Device device, Workspace workspace, UploadBuffer arrays, int maxOutputs, int vocabulary)
    {
        (_device, _workspace, _words) = (device, workspace, (vocabulary + 31) / 32);
        _temperatures = arrays.Add<float>(maxOutputs);
        _topK = arrays.Add<int>(maxOutputs);
        _topP = arrays.Add<float>(maxOutputs);
        _minP = arrays.Add<float>(maxOutputs);
        _seeds = arrays.Add<long>(maxOutputs);
        _counters = arrays.Add<long>(maxOutputs);
        _starts = arrays.Add<int>(maxOutputs + 1);
        _maskRows = arrays.Add<int>(maxOutputs);
        _logprobCounts = arrays.Add<int>(maxOutputs);
        _sparse = new Sparse(device, LeastAdjustments, LeastMasks, _words);
    }

    /// <summary>Rows so far.</summary>
    public int Count { get; private set; }

    /// <summary>Whether a row asks for log probabilities.</summary>
    public bool HasLogprobs { get; private set; }

    /// <summary>Bytes of its arrays in the step's upload.</summary>
    public static long[] Sizes(int maxOutputs) =>
        [4L * maxOutputs, 4L * maxOutputs, 4L * maxOutputs, 4L * maxOutputs, 8L * maxOutputs, 8L * maxOutputs, 4L * (maxOutputs + 1), 4L * maxOutputs, 4L * maxOutputs];

    /// <summary>Begins anew.</summary>
    public void Clear()
    {
        (Count, HasLogprobs) = (0, false);
        _adjusted.Clear();
        _adjustedPenalties.Clear();
        _adjustedBiases.Clear();
        _masked.Clear();
    }

    /// <summary>Adds a row of logits.</summary>
    /// <param name="sequence">Whose; null: the token drawn there is of no use to anyone.</param>
    /// <param name="position">The tokens before it: the text's, and those proposed to follow them.</param>
    public void Add(Sequence? sequence, int position)
    {
        // What is drawn amid the text is known already.
        sequence = sequence is not null && position >= sequence.Tokens.Count ? sequence : null;
        var sampling = sequence?.Sampling ?? SamplingParams.Greedy;
        _temperatures.Host[Count] = sampling.Temperature;
        _topK.Host[Count] = sampling.TopK;
        _topP.Host[Count] = sampling.TopP;
        _minP.Host[Count] = sampling.MinP;
        _seeds.Host[Count] = sampling.Seed;
        _counters.Host[Count] = position;
        _logprobCounts.Host[Count] = sampling.Logprobs;
        _maskRows.Host[Count] = -1;
        HasLogprobs |= sampling.Logprobs >= 0;
        if (sequence is not null && sampling.AdjustsLogits)
        {
            sequence.Adjustments ??= new TokenAdjustments(sampling);
            sequence.Adjustments.Write(sequence, position, _adjusted, _adjustedPenalties, _adjustedBiases);
        }

        if (sequence is not null && sampling.AllowedTokens is { } allowed)
        {
            AddMask(sequence, position, allowed);
        }

        _starts.Host[++Count] = _adjusted.Count;
    }

    /// <summary>Enqueues the copy of adjustments and masks, where there are any.</summary>
    public void Upload()
    {
        var masks = _masked.Count / _words;
        if (_adjusted.Count > _sparse.Adjustments || masks > _sparse.Masks)
        {
            _device.Stream.Synchronize();
            _sparse.Dispose();
            _sparse = new Sparse(_device, Math.Max(2 * _adjusted.Count, LeastAdjustments), Math.Max(2 * masks, LeastMasks), _words);
            _workspace.NoteMove();
        }

        if (_adjusted.Count + masks > 0)
        {
            CollectionsMarshal.AsSpan(_adjusted).CopyTo(_sparse.Tokens.Host);
            CollectionsMarshal.AsSpan(_adjustedPenalties).CopyTo(_sparse.Penalties.Host);
            CollectionsMarshal.AsSpan(_adjustedBiases).CopyTo(_sparse.Biases.Host);
            CollectionsMarshal.AsSpan(_masked).CopyTo(_sparse.MaskWords.Host);
            _sparse.Arrays.Upload(_sparse.MaskWords, _masked.Count);
        }
    }

    /// <summary>The op's arguments.</summary>
    public SamplingArgs Args(TensorView logits, SamplingOutput output) => new()
    {
        Logits = logits,
        Temperatures = _temperatures.First(Count),
        TopK = _topK.First(Count),
        TopP = _topP.First(Count),
        MinP = _minP.First(Count),
        Seeds = _seeds.First(Count),
        Counters = _counters.First(Count),
        Ids = output.Ids,
        Adjustments = new LogitAdjustments
        {
            Starts = _starts.First(Count + 1),
            Tokens = _sparse.Tokens.All,
            Penalties = _sparse.Penalties.All,
            Biases = _sparse.Biases.All,
        },
        Masks = new TokenMasks { Rows = _maskRows.First(Count), Words = _sparse.MaskTable },
        Logprobs = output.Logprobs(_logprobCounts.First(Count)),
    };

    public void Dispose() => _sparse.Dispose();

    // What goes wrong in it is its text's alone: the step goes on.
    private void AddMask(Sequence sequence, int position, AllowedTokens allowed)
    {
        var begin = _masked.Count;
        var known = sequence.Tokens.Count;
        if (position > known && _maskRows.Host[Count - 1] is var before and >= 0 && !IsSet(before, sequence.Proposals[position - known - 1]))
        {
            // What is proposed is not allowed, so it will not be drawn and nothing follows it.
            _maskRows.Host[Count] = before;
            return;
        }

        CollectionsMarshal.SetCount(_masked, begin + _words);
        var mask = CollectionsMarshal.AsSpan(_masked)[begin..];
        mask.Clear();
        _maskRows.Host[Count] = begin / _words;
        sequence.MaskError = position == known ? null : sequence.MaskError;
        try
        {
            allowed(Continuation(sequence, position), MemoryMarshal.Cast<int, uint>(mask));
            if (!mask.ContainsAnyExcept(0))
            {
                throw new InvalidOperationException($"AllowedTokens allows no token to follow the {position - sequence.PromptLength} of the continuation");
            }
        }
        catch (Exception error)
        {
            // Nothing is drawn then, which ends the text if it comes to that.
            mask.Clear();
            sequence.MaskError ??= error;
        }
    }

    private bool IsSet(int mask, int token) => (_masked[mask * _words + token / 32] >> token & 1) != 0;

    private ReadOnlySpan<int> Continuation(Sequence sequence, int position)
    {
        var known = CollectionsMarshal.AsSpan(sequence.Tokens)[sequence.PromptLength..];
        var length = position - sequence.PromptLength;
        if (length == known.Length)
        {
            return known;
        }

        if (_continuation.Length < length)
        {
            _continuation = new int[2 * length];
        }

        known.CopyTo(_continuation);
        CollectionsMarshal.AsSpan(sequence.Proposals)[..(length - known.Length)].CopyTo(_continuation.AsSpan(known.Length));
        return _continuation.AsSpan(0, length);
    }

    private sealed class Sparse : IDisposable
    {
        public Sparse(Device device, int adjustments, int masks, int words)
        {
            (Adjustments, Masks) = (adjustments, masks);
            Arrays = new UploadBuffer(device, 4L * adjustments, 4L * adjustments, 4L * adjustments, 4L * masks * words);
            Tokens = Arrays.Add<int>(adjustments);
            Penalties = Arrays.Add<float>(adjustments);
            Biases = Arrays.Add<float>(adjustments);
            MaskWords = Arrays.Add<int>(checked(masks * words));
            MaskTable = MaskWords.All.View(masks, words);
        }

        public int Adjustments { get; }

        public int Masks { get; }

        public UploadBuffer Arrays { get; }

        public UploadArray<int> Tokens { get; }

        public UploadArray<float> Penalties { get; }

        public UploadArray<float> Biases { get; }

        public UploadArray<int> MaskWords { get; }

        /// <summary>[masks, words].</summary>
        public TensorView MaskTable { get; }

        public void Dispose() => Arrays.Dispose();
    }
}
