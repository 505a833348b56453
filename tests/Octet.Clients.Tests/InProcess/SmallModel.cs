using Octet.Extensions.AI;
using Octet.Inference.Engine;
using Octet.Inference.Models;

namespace Octet.Clients.Tests.InProcess;

/// <summary>The small model on cpu, and a client of it.</summary>
public sealed class SmallModel : IDisposable
{
    private readonly Device _device = Device.Open("cpu");

    public SmallModel()
    {
        Model = LanguageModel.Load(Folder, _device);
        Client = new OctetChatClient(Model, "small");
    }

    public static string Folder { get; } = Path.Combine(AppContext.BaseDirectory, "models", "tiny-shakespeare");

    public LanguageModel Model { get; }

    public OctetChatClient Client { get; }

    /// <summary>Makes the model say a text, which it would not say by itself: at each place one token is allowed.</summary>
    public GenerationOptions Says(string text)
    {
        int[] ids = [.. Model.Tokenizer.Encode(text, allowSpecial: false), Model.Tokenizer.FindAddedToken("<|endoftext|>")!.Value];
        return new()
        {
            MaxTokens = ids.Length,
            AllowedTokens = (continuation, mask) => mask[ids[continuation.Length] / 32] |= 1u << (ids[continuation.Length] % 32),
        };
    }

    /// <summary>Waits until nothing runs, waits, or holds blocks.</summary>
    public async Task IdleAsync()
    {
        for (var turn = 0; !Model.Loads.All(load => load is { Running: 0, Waiting: 0, UsedKvBlocks: 0 }); turn++)
        {
            Assert.True(turn < 1000, string.Join("; ", Model.Loads));
            await Task.Delay(5);
        }
    }

    public void Dispose()
    {
        Client.Dispose();
        Model.Dispose();
        _device.Dispose();
    }
}
