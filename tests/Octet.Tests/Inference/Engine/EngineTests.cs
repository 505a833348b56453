using System.Diagnostics.Metrics;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>Whatever else is asked of the engine, and however small the pool: a text has the tokens it has alone. Alone in their collection: they count.</summary>
[Collection(nameof(AllocationTests))]
public sealed class EngineTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("cpu", 16, 80, 40)]
    [InlineData("sim", 2, 40, 10)]
    public async Task Texts_under_pressure_have_the_tokens_they_have_alone(string name, int texts, int most, int longest)
    {
        using var device = Device.Open(name);
        var random = new Random(1);
        var requests = Enumerable.Range(0, texts).Select(i => (Prompt: Prompt(random, longest), Options: Options(random, i, most))).ToArray();
        var alone = new List<int[]>();
        foreach (var (prompt, options) in requests)
        {
            using var model = Load(device, tokens: 512, chunk: 512);
            alone.Add(await Ids(model, prompt, options));
        }

        // Blocks of 16 tokens for two or three of the texts; prompts in chunks of an odd length.
        using var crowded = Load(device, tokens: (longest + most) * 5 / 4, chunk: 19);
        int[][] together = [];
        var preemptions = await Counted("octet.preemptions", async () =>
            together = await Task.WhenAll(requests.Select(request => Ids(crowded, request.Prompt, request.Options))));
        Assert.True(preemptions > 0, "nothing was preempted");
        Assert.Equal(preemptions, crowded.Statistics.Preemptions);
        Assert.Equal(together.Sum(ids => ids.Length), crowded.Statistics.GeneratedTokens);
        for (var i = 0; i < texts; i++)
        {
            Assert.Equal(alone[i], together[i]);
        }

        if (name == "sim")
        {
            return; // minutes
        }

        // And again, now that beginnings are cached.
        together = await Task.WhenAll(requests.Select(request => Ids(crowded, request.Prompt, request.Options)));
        for (var i = 0; i < texts; i++)
        {
            Assert.Equal(alone[i], together[i]);
        }
    }

    [Theory]
    [InlineData("cpu", 200, 60)]
    [InlineData("sim", 2, 12)]
    public async Task Speculation_changes_no_token(string name, int texts, int tokens)
    {
        using var device = Device.Open(name);
        var plain = await Generate(0);
        for (var proposals = 1; proposals <= (name == "sim" ? 1 : 3); proposals++)
        {
            Assert.Equal(plain, await Generate(proposals));
        }

        async Task<int[][]> Generate(int proposals)
        {
            using var model = LanguageModel.Load(
                TinyModel.Directory, device, new() { MaxSequences = 16, KvCacheTokens = 2048, KvBlockSize = 16, Speculate = proposals });
            var random = new Random(3);
            return await Task.WhenAll(Enumerable.Range(0, texts).Select(i =>
                Ids(model, Prompt(random, 30), new() { MaxTokens = tokens, Temperature = i % 2, Seed = i, IgnoreEndOfText = true })));
        }
    }

    [Fact]
    public async Task A_text_that_repeats_itself_takes_fewer_steps_with_speculation()
    {
        using var device = Device.Open("cpu");
        int[] prompt = [.. Enumerable.Repeat((int[])[40, 41, 42, 43, 44, 45, 46, 47], 12).SelectMany(x => x)];
        var steps = new List<int>();
        foreach (var proposals in (int[])[0, 3])
        {
            using var model = LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 2048, Speculate = proposals });
            var seen = 0;
            using var listener = new MeterListener
            {
                InstrumentPublished = (instrument, listener) =>
                {
                    if (instrument.Name == "octet.step.duration")
                    {
                        listener.EnableMeasurementEvents(instrument);
                    }
                },
            };
            listener.SetMeasurementEventCallback<double>((_, _, _, _) => Interlocked.Increment(ref seen));
            listener.Start();
            Assert.Equal(200, (await Ids(model, prompt, new() { MaxTokens = 200, Temperature = 0, IgnoreEndOfText = true })).Length);
            steps.Add(seen);
        }

        Assert.True(steps[1] < steps[0] * 0.9, $"{steps[0]} steps without, {steps[1]} with speculation");
    }

    [Fact]
    public async Task A_prompt_asked_again_is_read_from_its_last_block_on()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 4096, chunk: 512);
        int[] prompt = [.. Enumerable.Range(0, 1900).Select(i => i * 7 % 1000)];
        var first = await Counted("octet.prompt_tokens", () => Ids(model, prompt, new() { MaxTokens = 1, Temperature = 0 }));
        var second = await Counted("octet.prompt_tokens", () => Ids(model, prompt, new() { MaxTokens = 1, Temperature = 0 }));

        Assert.Equal(1900, first);
        Assert.Equal(1900 % 16, second);
    }

    // The last answer was computed token by token, which a prompt's bits may differ from: it is read once more, and with it at most a block.
    [Fact]
    public async Task A_chat_of_ten_turns_reads_of_each_turn_what_is_new_the_last_answer_and_a_block()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 2048, chunk: 512);
        var random = new Random(5);
        var chat = new List<int>();
        var answer = 0;
        for (var turn = 0; turn < 10; turn++)
        {
            int[] said = [.. Enumerable.Range(0, 30).Select(_ => random.Next(1000))];
            chat.AddRange(said);
            int[] ids = [];
            var read = await Counted("octet.prompt_tokens", async () =>
                ids = await Ids(model, [.. chat], new() { MaxTokens = 25, Temperature = 0, IgnoreEndOfText = true }));
            Assert.InRange(read, said.Length, answer + said.Length + 16);
            chat.AddRange(ids);
            answer = ids.Length;
        }
    }

    [Fact]
    public async Task A_sampler_of_ones_own_gets_the_text_the_built_in_one_gives()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 1024, chunk: 64);
        int[] prompt = [40, 41, 42, 43];
        var expected = await Ids(model, prompt, new() { MaxTokens = 40, Temperature = 0, IgnoreEndOfText = true });

        using var session = model.OpenSession();
        var logits = await session.AppendAsync(prompt, Cancellation);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], TinyModel.ArgMax(logits.Span));
            logits = await session.AppendAsync(expected[i], Cancellation);
        }

        Assert.Equal([.. prompt, .. expected], session.Tokens);
    }

    [Fact]
    public async Task Forks_share_what_is_computed_and_go_their_own_ways_and_a_rewound_text_forgets()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 1024, chunk: 64);
        using var session = model.OpenSession();
        int[] prompt = [.. Enumerable.Range(40, 37)];
        await session.AppendAsync(prompt, Cancellation);
        using var fork = session.Fork();
        var one = (await session.AppendAsync(7, Cancellation)).ToArray();
        var two = (await fork.AppendAsync(8, Cancellation)).ToArray();
        Assert.Equal(one, (await Alone([.. prompt], 7)).ToArray());
        Assert.Equal(two, (await Alone([.. prompt], 8)).ToArray());

        session.Rewind(prompt.Length);
        Assert.Equal(two, (await session.AppendAsync(8, Cancellation)).ToArray());

        async Task<ReadOnlyMemory<float>> Alone(int[] first, int last)
        {
            using var other = Load(device, tokens: 1024, chunk: 64);
            using var alone = other.OpenSession();
            await alone.AppendAsync(first, Cancellation);
            return (await alone.AppendAsync(last, Cancellation)).ToArray();
        }
    }

    [Fact]
    public async Task A_session_is_refused_what_it_cannot_do_and_ends_with_its_model()
    {
        using var device = Device.Open("cpu");
        var model = Load(device, tokens: 64, chunk: 64);
        var session = model.OpenSession();
        Assert.Throws<ArgumentOutOfRangeException>(() => session.Rewind(1));
        await Assert.ThrowsAsync<ArgumentException>(async () => await session.AppendAsync(ReadOnlyMemory<int>.Empty, Cancellation));
        await Assert.ThrowsAsync<ArgumentException>(async () => await session.AppendAsync(1024, Cancellation));
        await Assert.ThrowsAsync<ArgumentException>(async () => await session.AppendAsync(new int[65], Cancellation));
        await session.AppendAsync(new int[64], Cancellation);
        model.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => { session.Rewind(1); await session.AppendAsync(1, Cancellation); });
        Assert.Equal(0, device.LiveBytes);
    }

    // Two sessions and texts in a pool for one: those that wait for their owner make room, and go on as if they never had.
    [Fact]
    public async Task Sessions_that_wait_make_room_and_go_on_unchanged()
    {
        using var device = Device.Open("cpu");
        using var large = Load(device, tokens: 2048, chunk: 64);
        using var small = Load(device, tokens: 128, chunk: 64);
        var expected = await Run(large, texts: false);
        Assert.Equal(expected, await Run(small, texts: true));

        async Task<float[][]> Run(LanguageModel model, bool texts)
        {
            using TextSession one = model.OpenSession(), two = model.OpenSession();
            await one.AppendAsync((int[])[.. Enumerable.Range(1, 70)], Cancellation);
            await two.AppendAsync((int[])[.. Enumerable.Range(200, 70)], Cancellation);
            var rows = new List<float[]>();
            for (var i = 0; i < 6; i++)
            {
                if (texts)
                {
                    await Ids(model, [.. Enumerable.Range(300, 60)], new() { MaxTokens = 30, Temperature = 0, IgnoreEndOfText = true });
                }

                rows.Add((await one.AppendAsync(i, Cancellation)).ToArray());
                rows.Add((await two.AppendAsync(i, Cancellation)).ToArray());
            }

            return [.. rows];
        }
    }

    [Fact]
    public async Task Logits_asked_for_beside_texts_are_those_of_the_text_alone()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 1024, chunk: 64);
        int[] ids = [.. Enumerable.Range(0, 150).Select(i => i * 13 % 1000)];
        var alone = TinyModel.Logits(model, ids);
        var texts = Enumerable.Range(0, 4).Select(i => Ids(model, [i + 1, 2, 3], new() { MaxTokens = 40, Temperature = 1, Seed = i, IgnoreEndOfText = true })).ToArray();
        var beside = await Task.Run(() => TinyModel.Logits(model, ids), Cancellation);
        await Task.WhenAll(texts);

        Assert.Equal(alone, beside);
    }

    [Fact]
    public async Task A_callback_that_throws_ends_its_own_request_only()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, tokens: 1024, chunk: 64);
        var text = Ids(model, [1, 2, 3], new() { MaxTokens = 40, Temperature = 0, IgnoreEndOfText = true });
        var error = Assert.Throws<FormatException>(() => model.Logits([1, 2, 3], (_, _) => throw new FormatException("mine")));
        Assert.Equal("mine", error.Message);
        Assert.Equal(40, (await text).Length);
    }

    private static LanguageModel Load(Device device, int tokens, int chunk) => LanguageModel.Load(
        TinyModel.Directory, device, new() { TokenBudget = chunk, MaxSequences = 8, KvCacheTokens = tokens, KvBlockSize = 16 });

    // Small alphabets and common beginnings: some share blocks.
    private static int[] Prompt(Random random, int longest) =>
        [.. Enumerable.Range(0, random.Next(1, longest)).Select(i => i < 20 ? 40 + i : random.Next(1000))];

    private static GenerationOptions Options(Random random, int seed, int most) =>
        new() { MaxTokens = random.Next(most * 3 / 4, most + 1), Temperature = random.Next(2), Seed = seed, IgnoreEndOfText = true };

    private static async Task<int[]> Ids(LanguageModel model, int[] prompt, GenerationOptions options)
    {
        var ids = new List<int>();
        await foreach (var token in model.GenerateAsync(prompt, options, Cancellation))
        {
            ids.Add(token.Id);
        }

        return [.. ids];
    }

    private static async Task<long> Counted(string counter, Func<Task> run)
    {
        long total = 0;
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == counter)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((_, count, _, _) => Interlocked.Add(ref total, count));
        listener.Start();
        await run();
        return total;
    }
}
