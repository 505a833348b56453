using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>
/// Texts that come and go at random, with the small model: arrivals, cancellations, choices, stop strings, salts, penalties, common
/// beginnings, tiny pools, all options of the engine. Each is the text it would be alone, or the beginning of it where it was cancelled.
/// </summary>
public sealed class RandomTextsTests
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Any_mix_of_texts_gives_each_what_it_has_alone(int seed)
    {
        using var device = Device.Open("cpu");
        using var alone = LanguageModel.Load(TinyModel.Directory, device, new() { KvCacheTokens = 1024, PrefixCache = false });
        var random = new Random(seed);
        for (var round = 0; round < Rounds.Of(4); round++)
        {
            var reserves = random.Next(4) == 0;
            using var model = LanguageModel.Load(TinyModel.Directory, device, new()
            {
                KvBlockSize = 16,
                KvCacheTokens = (reserves ? 28 : random.Next(10, 24)) * 16, // reserved, three choices of the longest must fit
                TokenBudget = random.Next(8, 80),
                MaxSequences = random.Next(3, 9),
                Speculate = random.Next(4),
                PrefixCache = random.Next(4) > 0,
                ReserveAll = reserves,
            });
            var texts = Enumerable.Range(0, 24).Select(_ => RandomText.Create(random)).ToList();
            await Task.WhenAll(texts.Select(text => text.Run(model)));
            foreach (var text in texts)
            {
                await text.Check(alone);
            }
        }
    }

    private sealed class RandomText
    {
        private readonly List<List<int>> _ids = [];
        private int[] _prompt = [];
        private GenerationOptions _options = new();
        private int _delayMs;
        private int _cancelAfter;

        public static RandomText Create(Random random)
        {
            var choices = random.Next(5) == 0 ? random.Next(2, 4) : 1;
            return new RandomText
            {
                _prompt = [.. Enumerable.Range(0, random.Next(1, 70)).Select(i => i < 40 ? 40 + i % 7 : random.Next(1000))],
                _options = new()
                {
                    MaxTokens = random.Next(1, 60),
                    Temperature = random.Next(3) == 0 ? 0 : 1,
                    RepetitionPenalty = random.Next(3) == 0 ? 1.3f : 1,
                    Seed = random.Next(),
                    Choices = choices,
                    IgnoreEndOfText = random.Next(2) == 0,
                    StopStrings = random.Next(4) == 0 ? ["the", "\n\n"] : [],
                    CacheSalt = random.Next(6) == 0 ? "salt" : null,
                },
                _delayMs = random.Next(2) * random.Next(60),
                _cancelAfter = random.Next(5) == 0 ? random.Next(0, 20) : int.MaxValue,
            };
        }

        public async Task Run(LanguageModel model)
        {
            await Task.Delay(_delayMs, Cancellation);
            _ids.AddRange(Enumerable.Range(0, _options.Choices).Select(_ => new List<int>()));
            using var source = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
            var seen = 0;
            try
            {
                await foreach (var token in model.GenerateAsync(_prompt, _options, source.Token))
                {
                    _ids[token.Choice].Add(token.Id);
                    if (seen++ == _cancelAfter)
                    {
                        await source.CancelAsync();
                    }
                }
            }
            catch (OperationCanceledException) when (seen > _cancelAfter)
            {
            }
        }

        public async Task Check(LanguageModel alone)
        {
            for (var choice = 0; choice < _options.Choices; choice++)
            {
                var expected = new List<int>();
                await foreach (var token in alone.GenerateAsync(_prompt, _options with { Choices = 1, Seed = _options.Seed + choice }, Cancellation))
                {
                    expected.Add(token.Id);
                }

                Assert.Equal(_cancelAfter == int.MaxValue ? expected : expected[.._ids[choice].Count], _ids[choice]);
            }
        }
    }
}
