using System.Diagnostics;

namespace Octet.Inference.Parallel;

/// <summary>
/// One host thread for each rank of a group. What one does all do at the same time, and the caller waits for all of them. A rank that fails
/// stops its group for good, and so does one that is not done when the deadline behind another one's end has passed.
/// </summary>
internal sealed class RankThreads : IDisposable
{
    // What ranks that were told to stop may take to leave their waits.
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(500);

    private readonly string[] _names;
    private readonly TimeSpan _deadline;
    private readonly Action _stop;
    private readonly Action _left;
    private readonly Thread[] _threads;
    private readonly SemaphoreSlim[] _begin;
    private readonly SemaphoreSlim _done = new(0);
    private readonly Exception?[] _errors;
    private readonly bool[] _isBusy;
    private Action<int> _work = static _ => { };
    private int _alive;
    private volatile bool _isClosing;

    /// <param name="names">What each rank is called in messages.</param>
    /// <param name="deadline">How long a rank may stay away when another one is done.</param>
    /// <param name="stop">Makes the ranks leave their waits for one another; from any thread. Throws nothing.</param>
    /// <param name="left">Lets go of what the ranks work on, when none of them does any more. Throws nothing.</param>
    public RankThreads(string[] names, TimeSpan deadline, Action stop, Action left)
    {
        (_names, _deadline, _stop, _left, _alive) = (names, deadline, stop, left, names.Length);
        _errors = new Exception?[names.Length];
        _isBusy = new bool[names.Length];
        _begin = [.. names.Select(_ => new SemaphoreSlim(0))];
        _threads = [.. names.Select((_, rank) => new Thread(() => Serve(rank)) { IsBackground = true, Name = $"Octet rank {rank}" })];
        Array.ForEach(_threads, thread => thread.Start());
    }

    /// <summary>How long the first may take to be done; infinite where ranks that wait for one another give up by themselves.</summary>
    public TimeSpan Longest { get; init; } = Timeout.InfiniteTimeSpan;

    /// <summary>Why the group has stopped; null: it has not.</summary>
    public OctetException? Failure { get; private set; }

    /// <summary>Has every rank do something, and waits until all have.</summary>
    /// <param name="work">Told of its rank.</param>
    /// <exception cref="OctetException">The group has stopped, now or before: <see cref="OctetStatus.GroupStopped"/>.</exception>
    public void Do(Action<int> work)
    {
        if (Failure is not null)
        {
            throw Failure;
        }

        _work = work;
        for (var rank = 0; rank < _begin.Length; rank++)
        {
            Volatile.Write(ref _isBusy[rank], true);
            _begin[rank].Release();
        }

        var wait = Longest;
        long first = 0;
        for (var done = 0; done < _begin.Length; done++)
        {
            var isInTime = _done.Wait(wait);
            if (!isInTime || Array.Exists(_errors, error => error is not null))
            {
                throw Failure = Stop(nobodyCame: !isInTime && done == 0);
            }

            first = done == 0 ? Stopwatch.GetTimestamp() : first;
            wait = Left(_deadline, first);
        }
    }

    /// <summary>
    /// Ends the threads. What they work on is let go of before this returns, or, where a rank is still away, when it comes back: nobody is
    /// waited for longer than a rank may take to leave its waits.
    /// </summary>
    public void Dispose()
    {
        _isClosing = true;
        Array.ForEach(_begin, begin => begin.Release());
        var start = Stopwatch.GetTimestamp();
        Array.ForEach(_threads, thread => thread.Join(Left(Grace, start)));
    }

    private static TimeSpan Left(TimeSpan whole, long start)
    {
        var left = whole - Stopwatch.GetElapsedTime(start);
        return left > TimeSpan.Zero ? left : TimeSpan.Zero;
    }

    private void Serve(int rank)
    {
        while (true)
        {
            _begin[rank].Wait();
            if (_isClosing)
            {
                break;
            }

            try
            {
                _work(rank);
            }
            catch (Exception error) // told by the caller, who names the rank
            {
                Volatile.Write(ref _errors[rank], error);
            }

            Volatile.Write(ref _isBusy[rank], false);
            _done.Release();
        }

        if (Interlocked.Decrement(ref _alive) == 0)
        {
            _left();
            _done.Dispose();
            Array.ForEach(_begin, begin => begin.Dispose());
        }
    }

    // A device that hangs may not take what it is told, so that this is not waited for either.
    private OctetException Stop(bool nobodyCame)
    {
        var start = Stopwatch.GetTimestamp();
        var stopping = Task.Run(_stop);
        while (Array.Exists(_isBusy, isBusy => isBusy) && Stopwatch.GetElapsedTime(start) < Grace)
        {
            _done.Wait(Left(Grace, start));
        }

        stopping.Wait(Left(Grace, start));
        const string Consequence = "the group has stopped: what ran may be asked again, of a model that is loaded anew";

        // What came first is an error of a rank's own; peers that were stopped or waited in vain only say so.
        var errors = _errors.Select((error, rank) => (Error: error, Rank: rank)).Where(each => each.Error is not null).ToArray();
        if (errors.FirstOrDefault(each => each.Error is not OctetException { Status: OctetStatus.GroupStopped }) is { Error: { } own, Rank: var failed })
        {
            return new OctetException(OctetStatus.GroupStopped, $"rank {failed} ({_names[failed]}) failed: {own.Message}; {Consequence}", own);
        }

        if (nobodyCame)
        {
            return new OctetException(OctetStatus.GroupStopped, $"no rank was done within {Longest.TotalSeconds} s; {Consequence}");
        }

        var away = Enumerable.Range(0, _isBusy.Length).Where(rank => Volatile.Read(ref _isBusy[rank])).ToArray();
        if (away.Length > 0)
        {
            return new OctetException(
                OctetStatus.GroupStopped,
                $"{string.Join(", ", away.Select(rank => $"rank {rank} ({_names[rank]})"))} did not come within {_deadline.TotalSeconds} s; {Consequence}");
        }

        var waited = errors.Length > 0 ? errors[0].Error!.Message : $"a rank took {_deadline.TotalSeconds} s longer than another one";
        return new OctetException(OctetStatus.GroupStopped, $"{waited}; {Consequence}");
    }
}
