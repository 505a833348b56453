using Octet.Inference.Models;

namespace Octet.Tests.Inference.Engine;

/// <summary>Runs alone: it counts the allocations of the whole process.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
[Collection(nameof(AllocationTests))]
public sealed class AllocationTests
{
    [Theory]
    [InlineData("cpu", 1000)]
    [InlineData("sim", 40)]
    public async Task Decoding_allocates_nothing_on_the_managed_heap_once_it_is_under_way(string name, int tokens)
    {
        using var device = Device.Open(name);
        using var model = LanguageModel.Load(TinyModel.Directory, device);

        // Far less than one object for each of 500 tokens: channels and pools may still grow once. The runtime's own threads recompile what
        // is hot and allocate for it, on a busy machine for longer; a decode that allocates does so in every run.
        const long Most = 2048;
        var bytes = long.MaxValue;
        for (var run = 0; run < 3 && bytes > Most; run++)
        {
            // Off the test's synchronisation context, which allocates for every continuation.
            bytes = await Task.Run(() => Generate(model, tokens));
        }

        Assert.InRange(bytes, 0, Most);
    }

    // Bytes allocated while the second half of the tokens was generated.
    private static async Task<long> Generate(LanguageModel model, int tokens)
    {
        long start = 0;
        var seen = 0;
        await foreach (var token in model.GenerateAsync(
            [40], new() { MaxTokens = tokens, Temperature = 0, IgnoreEndOfText = true }, TestContext.Current.CancellationToken))
        {
            if (++seen == tokens / 2)
            {
                start = GC.GetTotalAllocatedBytes(precise: true);
            }
        }

        return GC.GetTotalAllocatedBytes(precise: true) - start;
    }
}
