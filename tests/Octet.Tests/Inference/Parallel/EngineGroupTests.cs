using Octet.Inference.Engine;
using Octet.Inference.Models;
using Octet.Inference.Parallel;
using OneEngine = Octet.Inference.Engine.Engine;

namespace Octet.Tests.Inference.Parallel;

/// <summary>Several engines without a model: who is told what where a group fails, is full, or is stopped.</summary>
public sealed class EngineGroupTests : IDisposable
{
    private const int Vocabulary = 8;

    private readonly Device _device = Device.Open("cpu");
    private readonly List<IDisposable> _groups = [];
    private readonly ManualResetEventSlim _go = new();
    private long _ids;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _groups.ForEach(group => group.Dispose());
        _go.Dispose();
        _device.Dispose();
    }

    [Fact]
    public async Task A_group_that_is_lost_ends_its_texts_and_takes_no_more_and_the_others_go_on()
    {
        var lost = new OctetException(OctetStatus.DeviceError, "hip:0 is lost");
        Runner[] runners = [new() { Waits = _go, Failure = lost, Loss = lost }, new() { Waits = _go }];
        var (group, engines) = Create(runners);
        var texts = Enumerable.Range(0, 8).Select(i => Text(i, i, i)).ToArray();
        Array.ForEach(texts, text => group.Submit(text));
        _go.Set();
        for (var i = 0; i < texts.Length; i++)
        {
            // The outstanding tokens are equal after each second.
            var first = texts[i].First;
            if (i % 2 == 0)
            {
                Assert.Same(lost, await Assert.ThrowsAsync<OctetException>(() => first));
            }
            else
            {
                Assert.Equal(3, (await first).Span[0]);
            }
        }

        Assert.Same(lost, engines[0].Lost);
        Assert.Null(engines[1].Lost);
        for (var i = 0; i < 20; i++)
        {
            var text = Text(i, i);
            group.Submit(text);
            Assert.Equal(2, (await text.First).Span[0]);
            Assert.Same(engines[1], text.Engine);
            text.End();
        }

        Assert.Equal(0, runners[0].Steps);
    }

    [Fact]
    public async Task Where_all_groups_are_lost_a_request_is_refused_with_the_reason()
    {
        var lost = new OctetException(OctetStatus.DeviceError, "hip:0 is lost");
        var (group, _) = Create(new Runner { Failure = lost, Loss = lost });
        var text = Text(1);
        group.Submit(text);
        Assert.Same(lost, await Assert.ThrowsAsync<OctetException>(() => text.First));
        Assert.Same(lost, Assert.Throws<OctetException>(() => group.Submit(Text(1))));
    }

    [Fact]
    public async Task A_step_that_fails_on_devices_that_work_ends_its_texts_and_the_group_goes_on()
    {
        var runner = new Runner { Failure = new InvalidOperationException("once") };
        var (group, engines) = Create(runner);
        var text = Text(1);
        group.Submit(text);
        Assert.Equal("once", (await Assert.ThrowsAsync<InvalidOperationException>(() => text.First)).Message);
        runner.Failure = null;
        var next = Text(1, 2);
        group.Submit(next);
        Assert.Equal(2, (await next.First).Span[0]);
        Assert.Null(engines[0].Lost);
    }

    [Fact]
    public void As_many_requests_are_taken_as_run_on_all_groups_and_may_wait()
    {
        var (group, engines) = Create(new Runner { Waits = _go }, new Runner { Waits = _go });
        var requests = Enumerable.Range(0, 7).Select(i => new BoundedRequest(Sequence(i))).ToArray();
        Array.ForEach(requests, request => group.Submit(request));
        var error = Assert.Throws<QueueFullException>(() => group.Submit(new BoundedRequest(Sequence(1))));
        Assert.StartsWith("the queue is full: 2 requests may be generated together (MaxSequences) on each of 2 groups and 3 may wait (MaxQueue)", error.Message, StringComparison.Ordinal);
        Assert.Equal([4, 3], engines.Select(engine => engine.Open));
        requests[3].End();
        group.Submit(new BoundedRequest(Sequence(1)));
        _go.Set();
    }

    [Fact]
    public async Task What_a_group_has_to_do_is_what_its_texts_may_yet_compute()
    {
        var runner = new Runner();
        var (group, engines) = Create(runner, new Runner());
        var text = Text(1, 2, 3);
        group.Submit(text);
        await text.First;
        text.End();
        for (var i = 0; i < 10; i++)
        {
            // All begin alike and each ends before the next one comes, so that one group does it all.
            var evaluation = new EvaluationRequest(new Sequence(++_ids, [1, 2, 3, 4, 5], 5) { IsEvaluation = true }, (_, _) => { });
            group.Submit(evaluation);
            await evaluation.Done;
            Assert.Same(engines[0], evaluation.Engine);
            while (engines[0].Outstanding > 0)
            {
                await Task.Delay(1, Cancellation); // the engine lets go of what ended before its next step
            }
        }

        Assert.Equal((11, 0L), (runner.Steps, engines[1].Outstanding));
    }

    [Fact]
    public async Task Texts_of_all_groups_end_with_the_model()
    {
        var (group, _) = Create(new Runner { Waits = _go }, new Runner { Waits = _go });
        var texts = Enumerable.Range(0, 6).Select(i => Text(i)).ToArray();
        Array.ForEach(texts, text => group.Submit(text));
        _groups.Clear();
        var disposed = Task.Run(group.Dispose, Cancellation);
        _go.Set();
        await disposed;
        foreach (var text in texts)
        {
            var error = await Record.ExceptionAsync(() => text.First);
            Assert.True(error is null or ObjectDisposedException, $"{error}");
            Assert.True(text.HasEnded);
        }

        Assert.Throws<ObjectDisposedException>(() => group.Submit(Text(1)));
    }

    private (EngineGroup Group, OneEngine[] Engines) Create(params Runner[] runners)
    {
        var engines = Array.ConvertAll(runners, runner => new OneEngine(
            _device, new Scheduler(new() { TokenBudget = 16, MaxSequences = 2 }, new BlockManager(64, 4)), runner, Vocabulary));
        var group = new EngineGroup(engines, new RequestRouter(runners.Length, 64, 4, 100), maxSequences: 2, maxQueue: 3);
        _groups.Add(group);
        return (group, engines);
    }

    private SteppedRequest Text(params int[] prompt) => new(Sequence(prompt), Vocabulary);

    private Sequence Sequence(params int[] prompt) => new(++_ids, prompt, 20) { IsStepped = true };

    /// <summary>Computes nothing: the logits of a text are its length.</summary>
    private sealed class Runner : IStepRunner
    {
        private StepPlan _plan = new();

        /// <summary>What each step waits for; null: nothing.</summary>
        public ManualResetEventSlim? Waits { get; init; }

        /// <summary>What each step ends with; null: well.</summary>
        public Exception? Failure { get; set; }

        /// <summary>Why no other step can be run.</summary>
        public OctetException? Loss { get; init; }

        /// <summary>Steps that ended well.</summary>
        public int Steps { get; private set; }

        public void Run(StepPlan plan)
        {
            Waits?.Wait(Cancellation);
            if (Failure is { } failure)
            {
                throw failure;
            }

            _plan = plan;
            Steps++;
        }

        public ReadOnlySpan<int> Drawn(int row) => [];

        public TokenLogprobs Logprobs(int row, int draw, int alternatives) => throw new NotSupportedException();

        public void ReadLogits(int row, Span<float> logits) => logits.Fill(_plan.Rows[row].Sequence.Length);

        public void ReadAllLogits(int row, float[] logits, Action<int, ReadOnlySpan<float>> rows) => rows(_plan.Rows[row].Start, logits);

        public void Fork(Sequence parent, Sequence child)
        {
        }

        public void Forget(Sequence sequence)
        {
        }

        public OctetException? FindLoss() => Loss;
    }

    /// <summary>One that counts among those that may run and wait.</summary>
    private sealed class BoundedRequest(Sequence sequence) : Request(sequence)
    {
        public override bool IsBounded => true;

        protected override void Complete(Exception? error)
        {
        }
    }
}
