using Octet.Inference.Models;

namespace Octet.Extensions.AI;

/// <summary>
/// The model behind a registered client. It is checked when the application starts, and loaded when the client is first asked for.
/// </summary>
public sealed class OctetChatClientOptions
{
    /// <summary>The checkpoint folder.</summary>
    public string Model { get; set; } = "";

    /// <summary>What the model is called; null: the name of its folder.</summary>
    public string? ModelId { get; set; }

    /// <summary>The devices, as <see cref="DeviceGroup.Open"/> has them; null: OCTET_DEVICE, else the best one present.</summary>
    public string? Device { get; set; }

    /// <summary>How the model is run.</summary>
    public LanguageModelOptions Run { get; set; } = new();

    /// <summary>What the model is called.</summary>
    internal string Name => ModelId ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(Model)));

    /// <summary>The first thing that is wrong; null: nothing.</summary>
    internal string? Problem() =>
        Model.Length == 0 ? "Model is not set, expected a checkpoint folder"
        : !Directory.Exists(Model) ? $"Model is '{Model}', but there is no such folder"
        : ModelId is { Length: 0 } ? "ModelId is empty"
        : null;
}
