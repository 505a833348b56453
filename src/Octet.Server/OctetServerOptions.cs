using Octet.Inference.Models;

namespace Octet.Server;

/// <summary>What is served, and within which limits. They are checked when the application starts.</summary>
public sealed class OctetServerOptions
{
    /// <summary>The checkpoint folder.</summary>
    public string Model { get; set; } = "";

    /// <summary>What clients call the model; null: the name of its folder.</summary>
    public string? ServedModelName { get; set; }

    /// <summary>The devices, as <see cref="DeviceGroup.Open"/> has them; null: OCTET_DEVICE, else the best one present.</summary>
    public string? Device { get; set; }

    /// <summary>How the model is run; where <see cref="LanguageModelOptions.MaxQueue"/> is null it is <see cref="MaxQueue"/>.</summary>
    public LanguageModelOptions Run { get; set; } = new();

    /// <summary>Requests that may wait for their turn, beyond those that run; one more gets 503 with Retry-After.</summary>
    public int MaxQueue { get; set; } = 256;

    /// <summary>The keys that clients may show, as <c>Authorization: Bearer KEY</c>; none: everyone is served.</summary>
    public IList<string> ApiKeys { get; } = [];

    /// <summary>A file with a key in each line, beside <see cref="ApiKeys"/>; empty lines and lines that begin with # are none.</summary>
    public string? ApiKeyFile { get; set; }

    /// <summary>Requests in a minute that each key may make, or each address where there are no keys; null: any number.</summary>
    public int? RequestsPerMinute { get; set; }

    /// <summary>The largest body of a request, in bytes.</summary>
    public long MaxRequestBytes { get; set; } = 16 << 20;

    /// <summary>How long a request may take, from its arrival to its last byte; null: any time.</summary>
    public TimeSpan? RequestTimeout { get; set; }

    /// <summary>How long running requests are given to end when the application stops.</summary>
    public TimeSpan DrainTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long no step may end while texts wait for one, before <c>/health</c> reports it.</summary>
    public TimeSpan StallTimeout { get; set; } = TimeSpan.FromMinutes(2);

    /// <summary>Whether prompts and answers are written into the log.</summary>
    public bool LogPrompts { get; set; }

    /// <summary>What clients call the model.</summary>
    internal string ModelName => ServedModelName ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(Model)));

    /// <summary>The first thing that is wrong; null: nothing.</summary>
    internal string? Problem() =>
        Model.Length == 0 ? "Model is not set, expected a checkpoint folder"
        : ServedModelName is { Length: 0 } ? "ServedModelName is empty"
        : MaxQueue < 0 ? $"MaxQueue is {MaxQueue}, but it must be from 0"
        : ApiKeys.Any(key => key.Length == 0 || key.Any(char.IsWhiteSpace)) ? "ApiKeys has a key that is empty or has spaces in it"
        : RequestsPerMinute < 1 ? $"RequestsPerMinute is {RequestsPerMinute}, but it must be from 1"
        : MaxRequestBytes < 1 ? $"MaxRequestBytes is {MaxRequestBytes}, but it must be from 1"
        : RequestTimeout <= TimeSpan.Zero ? $"RequestTimeout is {RequestTimeout}, but it must be positive"
        : DrainTimeout < TimeSpan.Zero ? $"DrainTimeout is {DrainTimeout}, but it must not be negative"
        : StallTimeout <= TimeSpan.Zero ? $"StallTimeout is {StallTimeout}, but it must be positive"
        : null;
}
