using Octet.Cases;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>
/// Texts are held to a sampler written here: it takes the logits of a session token by token, and applies the formulas of penalties, biases,
/// masks and draws in f64.
/// </summary>
public sealed class SamplingTests
{
    private const int Vocabulary = 1024;

    private static readonly Dictionary<string, GenerationOptions> s_options = new()
    {
        ["repetition penalty"] = new() { Temperature = 0, RepetitionPenalty = 1.4f },
        ["repetition penalty under 1"] = new() { Temperature = 1, RepetitionPenalty = 0.8f },
        ["presence and frequency penalty"] = new() { Temperature = 0, PresencePenalty = 0.7f, FrequencyPenalty = 0.4f },
        ["negative frequency penalty"] = new() { Temperature = 0.5f, FrequencyPenalty = -0.5f },
        ["biases"] = new() { Temperature = 0, LogitBias = new Dictionary<int, float> { [295] = -100, [299] = 3, [12] = float.NegativeInfinity, [308] = -2.5f } },
        ["min-p"] = new() { Temperature = 1.3f, MinP = 0.2f },
        ["mask"] = new() { Temperature = 0, AllowedTokens = EveryThird },
        ["end tokens before their time"] = new() { Temperature = 0, MinTokens = 12, StopTokenIds = [.. Enumerable.Range(200, 300)] },
        ["all together"] = new()
        {
            Temperature = 0.9f, TopK = 50, TopP = 0.95f, MinP = 0.02f, RepetitionPenalty = 1.1f, PresencePenalty = 0.2f, FrequencyPenalty = 0.1f,
            LogitBias = new Dictionary<int, float> { [299] = 1 }, AllowedTokens = EveryThird, MinTokens = 8, StopTokenIds = [.. Enumerable.Range(256, 90)],
        },
    };

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public static TheoryData<string> Names => [.. s_options.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Texts_are_those_of_the_formulas(string name)
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        for (var seed = 0; seed < 3; seed++)
        {
            var options = s_options[name] with { MaxTokens = 40, Seed = seed, IgnoreEndOfText = true, TopK = s_options[name].TopK ?? 0, TopP = s_options[name].TopP ?? 1 };
            int[] prompt = [.. model.Tokenizer.Encode("ROMEO:\nI will, and the"), 300 + seed];
            var expected = await Expected(model, prompt, options);
            var plain = await Expected(model, prompt, new() { MaxTokens = 40, Temperature = options.Temperature, Seed = seed, TopK = options.TopK, TopP = options.TopP });
            Assert.NotEqual(plain, expected);
            Assert.Equal(expected, (await model.CompleteAsync(prompt, options, Cancellation)).Ids);
        }
    }

    [Fact]
    public async Task On_the_simulator_graphs_replay_what_grows_and_texts_without_it_keep_their_tokens()
    {
        using var device = Device.Open("sim");
        var runs = new List<int[][]>();
        foreach (var (graphs, proposals) in ((bool, int)[])[(false, 0), (true, 0), (true, 2)])
        {
            using var model = Load(device, proposals, graphs);
            runs.Add(await Task.WhenAll(
                Ids(model, [40, 41, 42], s_options["all together"] with { MaxTokens = 12, Seed = 5, Logprobs = 3 }),
                Ids(model, [40, 41], s_options["presence and frequency penalty"] with { MaxTokens = 12, LogitBias = Enumerable.Range(0, 900).ToDictionary(i => i, i => i % 7 * 0.5f) }),
                Ids(model, [43], new() { MaxTokens = 12, Temperature = 1, Seed = 2, IgnoreEndOfText = true })));
        }

        Assert.Equal(runs[0], runs[1]);
        Assert.Equal(runs[0], runs[2]);
        using var alone = Load(device);
        Assert.Equal(runs[0][2], await Ids(alone, [43], new() { MaxTokens = 12, Temperature = 1, Seed = 2, IgnoreEndOfText = true }));
    }

    [Fact]
    public async Task Penalties_and_masks_advance_with_each_proposed_token()
    {
        using var device = Device.Open("cpu");
        using var plain = Load(device);
        using var speculating = Load(device, proposals: 3);

        // What repeats itself is what proposals are accepted of.
        int[] prompt = [.. Enumerable.Repeat((int[])[40, 41, 42, 43, 44, 45, 46, 48], 6).SelectMany(x => x)];
        foreach (var (name, options) in s_options)
        {
            foreach (var frequency in (float?[])[options.FrequencyPenalty, -1.5f])
            {
                var text = options with { MaxTokens = 60, Seed = 11, FrequencyPenalty = frequency, IgnoreEndOfText = true };
                var (expected, ids) = (await Ids(plain, prompt, text), await Ids(speculating, prompt, text));
                Assert.True(expected.SequenceEqual(ids), $"{name}, frequency penalty {frequency}");
            }
        }

        // A grammar in which a token must be larger than the one before, which proposals seldom are.
        var climbing = new GenerationOptions { MaxTokens = 60, Temperature = 0, AllowedTokens = Ascending, IgnoreEndOfText = true };
        var steps = await Ids(plain, prompt, climbing);
        Assert.Equal(steps, await Ids(speculating, prompt, climbing));
        Assert.All(steps.Zip(steps.Skip(1)), pair => Assert.True(pair.Second > pair.First || pair.First == Vocabulary - 1));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    public async Task A_mask_that_throws_or_allows_nothing_ends_its_text_alone(int proposals)
    {
        using var device = Device.Open("cpu");
        using var model = Load(device, proposals);
        var other = new GenerationOptions { MaxTokens = 60, Temperature = 1, Seed = 1, IgnoreEndOfText = true };
        var expected = await Ids(model, [40, 41, 42], other);
        var running = Ids(model, [40, 41, 42], other);
        AllowedTokens broken = (continuation, mask) => mask.Fill(continuation.Length < 5 ? uint.MaxValue : throw new FormatException("no such rule"));
        AllowedTokens empty = (continuation, mask) => mask.Fill(continuation.Length < 5 ? uint.MaxValue : 0);
        var seen = 0;
        var error = await Assert.ThrowsAsync<FormatException>(async () =>
        {
            await foreach (var _ in model.GenerateAsync([40, 40, 40, 40], new() { Temperature = 0, AllowedTokens = broken, IgnoreEndOfText = true }, Cancellation))
            {
                seen++;
            }
        });
        Assert.Equal((5, "no such rule"), (seen, error.Message));
        var nothing = await Assert.ThrowsAsync<InvalidOperationException>(
            () => model.CompleteAsync([40, 40, 40, 40], new() { Temperature = 0, AllowedTokens = empty, IgnoreEndOfText = true }, Cancellation));
        Assert.Equal("AllowedTokens allows no token to follow the 5 of the continuation", nothing.Message);
        Assert.Equal(expected, await running);
    }

    [Fact]
    public async Task Log_probabilities_are_the_models_own_one_entry_for_each_token()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        int[] prompt = [.. model.Tokenizer.Encode("JULIET:\nWhat")];
        foreach (var options in s_options.Values)
        {
            var completion = await model.CompleteAsync(prompt, options with { MaxTokens = 12, Seed = 3, Logprobs = 20, IgnoreEndOfText = true }, Cancellation);
            Assert.Equal(completion.Ids.Count, completion.Logprobs.Count);
            using var session = model.OpenSession();
            int[] next = prompt;
            foreach (var (id, logprobs) in completion.Ids.Zip(completion.Logprobs))
            {
                var exact = LogSoftmax(await session.AppendAsync(next, Cancellation));
                var order = Enumerable.Range(0, Vocabulary).OrderByDescending(i => exact[i]).Take(20).ToArray();
                Assert.Equal(exact[id], logprobs.Logprob, 1e-4);
                Assert.Equal(order, logprobs.MostLikely.Select(likely => likely.Id));
                Assert.All(logprobs.MostLikely, likely => Assert.Equal(exact[likely.Id], likely.Logprob, 1e-4));
                next = [id];
            }
        }

        var plain = await model.CompleteAsync(prompt, new() { MaxTokens = 3 }, Cancellation);
        Assert.Empty(plain.Logprobs);
        Assert.Empty((await model.CompleteAsync(prompt, new() { MaxTokens = 3, Logprobs = 0 }, Cancellation)).Logprobs[0].MostLikely);
    }

    [Fact]
    public void Log_probabilities_of_a_prompt_are_those_of_its_logits()
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        int[] ids = [.. model.Tokenizer.Encode("KING HENRY VI:\nPeace, peace, for shame")];
        var logits = TinyModel.Logits(model, ids);
        var logprobs = model.LogProbabilities(ids, 4, Cancellation);
        Assert.Equal(ids.Length, logprobs.Count);
        Assert.Null(logprobs[0]);
        for (var i = 1; i < ids.Length; i++)
        {
            var exact = LogSoftmax(logits.AsMemory((i - 1) * Vocabulary, Vocabulary));
            Assert.Equal(exact[ids[i]], logprobs[i]!.Logprob, 1e-5);
            Assert.Equal(Enumerable.Range(0, Vocabulary).OrderByDescending(id => exact[id]).Take(4), logprobs[i]!.MostLikely.Select(likely => likely.Id));
        }
    }

    [Theory]
    [InlineData("MinP")]
    [InlineData("RepetitionPenalty")]
    [InlineData("PresencePenalty")]
    [InlineData("FrequencyPenalty")]
    [InlineData("LogitBias")]
    [InlineData("StopTokenIds")]
    [InlineData("StopStrings")]
    [InlineData("MinTokens")]
    [InlineData("Logprobs")]
    [InlineData("Choices")]
    public void An_option_out_of_range_is_refused_with_its_name_and_value(string name)
    {
        using var device = Device.Open("cpu");
        using var model = Load(device);
        GenerationOptions[] wrong = name switch
        {
            "MinP" => [new() { MinP = -0.1f }, new() { MinP = 1.1f }, new() { MinP = float.NaN }],
            "RepetitionPenalty" => [new() { RepetitionPenalty = 0 }, new() { RepetitionPenalty = -1 }, new() { RepetitionPenalty = float.PositiveInfinity }],
            "PresencePenalty" => [new() { PresencePenalty = 2.1f }, new() { PresencePenalty = float.NaN }],
            "FrequencyPenalty" => [new() { FrequencyPenalty = -3 }],
            "LogitBias" => [new() { LogitBias = new Dictionary<int, float> { [-1] = 0 } }, new() { LogitBias = new Dictionary<int, float> { [5] = float.NaN } }],
            "StopTokenIds" => [new() { StopTokenIds = [1024] }],
            "StopStrings" => [new() { StopStrings = ["a", ""] }],
            "MinTokens" => [new() { MinTokens = -1 }, new() { MaxTokens = 5, MinTokens = 6 }],
            "Logprobs" => [new() { Logprobs = 21 }, new() { Logprobs = -1 }],
            _ => [new() { Choices = 0 }, new() { Choices = 1000 }],
        };
        Assert.All(wrong, options => Assert.StartsWith(name, Assert.Throws<ArgumentException>(() => { model.GenerateAsync([40], options, Cancellation); }).Message, StringComparison.Ordinal));
    }

    // Tokens that are a multiple of three, behind every fifth token of the continuation all.
    private static void EveryThird(ReadOnlySpan<int> continuation, Span<uint> mask)
    {
        for (var id = 0; id < Vocabulary; id++)
        {
            mask[id / 32] |= id % 3 == 0 || continuation.Length % 5 == 4 ? 1u << id : 0;
        }
    }

    // Tokens above the last one; above the highest all.
    private static void Ascending(ReadOnlySpan<int> continuation, Span<uint> mask)
    {
        for (var id = continuation.IsEmpty ? 0 : (continuation[^1] + 1) % Vocabulary; id < Vocabulary; id++)
        {
            mask[id / 32] |= 1u << id;
        }
    }

    private static async Task<int[]> Expected(LanguageModel model, int[] prompt, GenerationOptions options)
    {
        using var session = model.OpenSession();
        var (generated, next) = (new List<int>(), prompt);
        while (generated.Count < options.MaxTokens)
        {
            var logits = await session.AppendAsync(next, Cancellation);
            var token = Draw([.. logits.ToArray().Select(x => (double)x)], prompt, generated, options);
            if (options.StopTokenIds.Contains(token))
            {
                break;
            }

            generated.Add(token);
            next = [token];
        }

        return [.. generated];
    }

    private static int Draw(double[] x, int[] prompt, List<int> generated, GenerationOptions options)
    {
        foreach (var id in prompt.Concat(generated).Distinct())
        {
            x[id] = x[id] > 0 ? x[id] / (options.RepetitionPenalty ?? 1) : x[id] * (options.RepetitionPenalty ?? 1);
        }

        foreach (var group in generated.GroupBy(id => id))
        {
            x[group.Key] -= (options.PresencePenalty ?? 0) + group.Count() * (options.FrequencyPenalty ?? 0);
        }

        var mask = new uint[Vocabulary / 32];
        mask.AsSpan().Fill(options.AllowedTokens is null ? uint.MaxValue : 0);
        options.AllowedTokens?.Invoke(generated.ToArray(), mask);
        for (var id = 0; id < Vocabulary; id++)
        {
            var excluded = (mask[id / 32] >> (id % 32) & 1) == 0 || (generated.Count < options.MinTokens && options.StopTokenIds.Contains(id));
            x[id] = excluded ? double.NegativeInfinity : x[id] + (options.LogitBias?.GetValueOrDefault(id) ?? 0);
        }

        var largest = x.Max();
        if (options.Temperature is null or 0)
        {
            return Array.IndexOf(x, largest);
        }

        var p = Array.ConvertAll(x, logit => Math.Exp((logit - largest) / options.Temperature.Value));
        var order = Enumerable.Range(0, Vocabulary).OrderByDescending(i => p[i]).Take(options.TopK is > 0 and var k ? k : Vocabulary).ToList();
        var (sum, total) = (0.0, order.Sum(i => p[i]));
        order = [.. order.TakeWhile(i => (sum += p[i]) - p[i] < (options.TopP ?? 1) * total).Where(i => p[i] >= (options.MinP ?? 0))];
        return order.MaxBy(i =>
        {
            var u = ((SamplingCases.Philox(options.Seed!.Value, prompt.Length + generated.Count, (uint)i) >> 8) + 0.5) / (1 << 24);
            return Math.Log(p[i]) - Math.Log(-Math.Log(u));
        });
    }

    private static double[] LogSoftmax(ReadOnlyMemory<float> logits)
    {
        double[] x = [.. logits.ToArray().Select(logit => (double)logit)];
        var sum = Math.Log(x.Sum(Math.Exp));
        return Array.ConvertAll(x, logit => logit - sum);
    }

    private static async Task<int[]> Ids(LanguageModel model, int[] prompt, GenerationOptions options) =>
        [.. (await model.CompleteAsync(prompt, options, Cancellation)).Ids];

    private static LanguageModel Load(Device device, int proposals = 0, bool graphs = true) => LanguageModel.Load(
        TinyModel.Directory, device, new() { KvCacheTokens = 2048, KvBlockSize = 16, MaxSequences = 8, Speculate = proposals, UseGraphs = graphs });
}
