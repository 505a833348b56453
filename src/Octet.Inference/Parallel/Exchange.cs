using Octet.Inference.Models.Layers;

namespace Octet.Inference.Parallel;

/// <summary>The sums that go over the ranks. Each has a buffer of its own, as no two of a kind follow one another.</summary>
internal enum SharedSum
{
    /// <summary>Of rows of the embedding: all but one are zeros.</summary>
    Embedding,

    /// <summary>Of the output projection.</summary>
    Attention,

    /// <summary>Of the experts, or of the down projection.</summary>
    Mlp,
}

/// <summary>What the ranks take from one another where each has done a range of the step's tokens.</summary>
internal enum SharedRows
{
    /// <summary>The normed FP8 rows.</summary>
    Quantized,

    /// <summary>These, and the experts of their tokens with their weights.</summary>
    Routed,

    /// <summary>The normed BF16 rows.</summary>
    Plain,
}

/// <summary>
/// What a rank shares with its peers. Of a sum that goes over the ranks each has its node of the tree, in a buffer of its own; behind a sync
/// all read all nodes where they lie, in order of the ranks: of all tokens, or, where there are many, of the range that is theirs; then they
/// take what their peers made of the others. And each writes its columns of the logits to where the leader draws. Where the vendor's library
/// adds, a rank's node becomes the sum in place, of all tokens on every rank.
/// </summary>
/// <remarks>
/// When a rank writes a node again, a sync of another sum has passed since its peers read the last one: none can still be at it. The same is
/// true of rows, and of the logits: the leader has drawn before it takes part in the next step's first sum.
/// </remarks>
internal sealed class Exchange : IDisposable
{
    private readonly Device _device;
    private readonly RankShape _shape;
    private readonly StepBuffers _buffers;
    private readonly TensorSet _memory;
    private readonly Tensor _signals;
    private readonly TensorView _status;
    private readonly DeviceStream _poison;
    private readonly TensorView[][] _nodes = [[], [], []];
    private readonly TensorView[][] _ownNodes = [[], [], []];
    private readonly TensorView[][][] _rows = [[], [], []];
    private readonly GatherArgs[] _gathers = new GatherArgs[3];
    private long[]? _starts;
    private int _tokens;
    private string[] _names = [];
    private TensorView _logits;
    private GroupSyncArgs _sync;
    private Communicator? _communicator;

    /// <param name="device">The rank's device.</param>
    /// <param name="shape">The rank.</param>
    /// <param name="buffers">Its activations.</param>
    /// <param name="timeout">How long it waits for a peer.</param>
    public Exchange(Device device, RankShape shape, StepBuffers buffers, TimeSpan timeout)
    {
        (_device, _shape, _buffers) = (device, shape, buffers);
        _memory = new TensorSet(device);
        try
        {
            _signals = GroupSignals.Create(device);
            _memory.Add(_signals);
            _status = _memory.Add(Tensor.Zeros(device, DType.Int32, 1));
            _poison = device.CreateStream();
            _sync = new()
            {
                Signals = [],
                Epoch = _memory.Add(Tensor.Zeros(device, DType.Int32, 1)),
                Status = _status,
                Rank = shape.Sharding.Rank,
                TimeoutMs = (int)timeout.TotalMilliseconds,
            };
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Makes the ranks of a group, in order, known to one another.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="communicator">Adds in their place; null: they add by themselves.</param>
    public static void Connect(IReadOnlyList<Exchange> ranks, Communicator? communicator = null)
    {
        foreach (var rank in ranks)
        {
            rank.Connect(ranks, ranks[0]);
            rank._communicator = communicator;
            rank.MayDivideTokens &= communicator is null;
        }
    }

    /// <summary>The tokens of the step at hand that this rank norms and routes.</summary>
    public (long First, long Count) Own { get; private set; }

    /// <summary>Whether steps of many tokens divide them. The bits are the same; all ranks of a group must agree.</summary>
    public bool MayDivideTokens { get; set; } = true;

    /// <summary>Whether these are not all.</summary>
    public bool DividesTokens => _starts is not null;

    /// <summary>Turns to a step of so many tokens.</summary>
    public void Begin(int tokens)
    {
        // Steps of decode have the same number for long.
        if (tokens == _tokens)
        {
            return;
        }

        var rank = _shape.Sharding.Rank;
        _tokens = tokens;
        _starts = MayDivideTokens ? TokenShards.StartsOf(tokens, _shape.Ranks) : null;
        Own = _starts is null ? (0, tokens) : (_starts[rank], _starts[rank + 1] - _starts[rank]);
        for (var sum = 0; sum < _nodes.Length; sum++)
        {
            _ownNodes[sum] = Array.ConvertAll(_nodes[sum], node => node.Slice(0, Own.First, Own.Count));
        }

        for (var rows = 0; _starts is not null && rows < _rows.Length; rows++)
        {
            GatherArray Of(TensorView[] arrays)
            {
                var first = Array.ConvertAll(arrays, array => array.Slice(0, 0, tokens));
                return new() { Sources = first, Output = first[rank] };
            }

            _gathers[rows] = new() { Arrays = Array.ConvertAll(_rows[rows], Of), Starts = _starts, Rank = rank };
        }
    }

    /// <summary>
    /// Waits for the nodes of a sum: of all ranks, in order, the rows of <see cref="Own"/>; valid until the next sync but one. Where the
    /// vendor's library adds, it is the sum alone.
    /// </summary>
    public IReadOnlyList<TensorView> Share(SharedSum sum)
    {
        // A library's sum orders no other memory: before a peer writes to the leader's logits again, one sync a step is needed still.
        if (_communicator is null || sum == SharedSum.Embedding)
        {
            Sync();
        }

        if (_communicator is null)
        {
            return _ownNodes[(int)sum];
        }

        var node = _buffers.Node(sum);
        _communicator.AllReduce(_shape.Sharding.Rank, _device.Stream, in node);
        return [node];
    }

    /// <summary>Waits for the rows of the peers' tokens, where tokens are divided, and takes them.</summary>
    public void Take(SharedRows rows)
    {
        if (DividesTokens)
        {
            Sync();
            Ops.Gather(_device.Stream, in _gathers[(int)rows]);
        }
    }

    /// <summary>[rows, columns] f32: this rank's columns of the first rows of the leader's logits.</summary>
    public TensorView LogitsPart(long rows) => _logits.Slice(0, 0, rows);

    /// <summary>Tells the peers that all work so far is done, and has all that follows wait until theirs is.</summary>
    /// <exception cref="OctetException">The group has stopped; where ops run later, <see cref="ThrowIfStopped"/> says so.</exception>
    public void Sync()
    {
        Ops.GroupSync(_device.Stream, in _sync);
        if (_device.Properties.UsesHostMemory)
        {
            ThrowIf(ReadStatus());
        }
    }

    /// <summary>Behind a step: says if it was not brought to its end, because a peer did not come or the group was told to stop.</summary>
    /// <exception cref="OctetException"><see cref="OctetStatus.GroupStopped"/>.</exception>
    public void ThrowIfStopped()
    {
        _communicator?.ThrowIfFailed(_shape.Sharding.Rank);
        Span<int> status = [0];
        _device.Stream.Read(_status, status);
        ThrowIf(status[0]);
    }

    /// <summary>Has the rank leave the wait it is in, and every later one; from any thread.</summary>
    public void Stop()
    {
        try
        {
            GroupSignals.Poison(_poison, _signals, _shape.Sharding.Rank);
        }
        catch (OctetException)
        {
            // A device that is lost waits for nobody.
        }
    }

    public void Dispose()
    {
        _poison?.Dispose();
        _memory.Dispose();
    }

    private void Connect(IReadOnlyList<Exchange> ranks, Exchange leader)
    {
        foreach (var peer in ranks)
        {
            _device.EnablePeer(peer._device);
        }

        // A peer's memory is a tensor of this device to the ops, which read it where it lies.
        TensorView Here(in TensorView there) => TensorView.Borrow(_device, there.Address, there.DType, there.Shape);
        _names = [.. ranks.Select((rank, number) => $"rank {number} ({rank._device.Name})")];
        _sync.Signals = [.. ranks.Select(rank => rank._signals.AsView())];
        foreach (var sum in Enum.GetValues<SharedSum>())
        {
            _nodes[(int)sum] = [.. ranks.Select(rank => Here(rank._buffers.AllOf(sum)))];
        }

        foreach (var rows in Enum.GetValues<SharedRows>())
        {
            var all = ranks.Select(rank => Array.ConvertAll(rank._buffers.AllOf(rows), view => Here(view))).ToArray();
            _rows[(int)rows] = [.. Enumerable.Range(0, all[0].Length).Select(array => Array.ConvertAll(all, arrays => arrays[array]))];
        }

        _logits = Here(leader._buffers.Logits).Slice(1, _shape.Vocabulary.First, _shape.Vocabulary.Count);
    }

    // NOTE: on a device that uses the host's memory the address is the host's, and a look at it costs nothing. There the rest of a step that
    // has stopped would be computed for seconds; a GPU is through it before anybody notices.
    private unsafe int ReadStatus() => Volatile.Read(ref *(int*)_status.Address);

    private void ThrowIf(int status)
    {
        if ((GroupStatus)(status & 0xFF) == GroupStatus.Running)
        {
            return;
        }

        var missing = Enumerable.Range(0, _names.Length).Where(rank => (status >> (8 + rank) & 1) != 0).Select(rank => _names[rank]);
        var own = _names[_shape.Sharding.Rank];
        throw new OctetException(
            OctetStatus.GroupStopped,
            (GroupStatus)(status & 0xFF) == GroupStatus.TimedOut
                ? $"{own} waited {_sync.TimeoutMs / 1000.0} s in vain for {string.Join(", ", missing)}"
                : $"{own} was told to stop");
    }
}
