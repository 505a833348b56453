using System.CommandLine;
using Octet.Inference.Models;

namespace Octet.Cli;

/// <summary>The options of every command that runs a model: which, where, and how K and V are kept.</summary>
internal sealed class ModelArguments
{
    private readonly Option<string?> _model = new("--model")
    {
        Description = "Checkpoint folder (config.json, model.safetensors or its shards, tokenizer.json); default: the small built-in model",
    };

    private readonly Option<string> _kv = new("--kv")
    {
        Description = "How K and V are kept: fp8 or bf16",
        DefaultValueFactory = _ => "fp8",
    };

    public ModelArguments(Command command)
    {
        _kv.HelpName = "fp8|bf16";
        _kv.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: not ("fp8" or "bf16") and var text }, ..])
            {
                result.AddError($"--kv is '{text}', expected fp8 or bf16.");
            }
        });
        _model.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: "" }, ..])
            {
                result.AddError("--model is empty, expected a checkpoint folder.");
            }
        });
        command.Add(_model);
        command.Add(Device);
        command.Add(_kv);
    }

    /// <summary>--device, for commands with and without a model.</summary>
    public static Option<string?> CreateDevice() => new("--device")
    {
        Description = "hip:0, cuda:0, sim, sim:gfx950, sim:sm_90, cpu, cpu:fnuz; default: OCTET_DEVICE, else the best one present",
    };

    private Option<string?> Device { get; } = CreateDevice();

    /// <summary>The folder that was named, or the built-in model's.</summary>
    public string Directory(ParseResult parsed) =>
        parsed.GetValue(_model) ?? Path.Combine(AppContext.BaseDirectory, "models", "tiny-shakespeare");

    /// <summary>Opens the device of --device.</summary>
    public Device OpenDevice(ParseResult parsed) => OpenDevice(parsed.GetValue(Device));

    /// <summary>Opens the named device, else that of OCTET_DEVICE, else the best one, and says on stderr why it is not a better one.</summary>
    public static Device OpenDevice(string? name)
    {
        var device = Octet.Device.Open(name);
        if (device.FallbackReason is { } reason)
        {
            CommandLine.Complain($"running on {device.Name}: {reason}");
        }

        return device;
    }

    /// <summary>
    /// Loads the model with a bar on stderr, with room for one or several texts of so many tokens, as far as its context reaches, or for as
    /// many tokens as given.
    /// </summary>
    public LanguageModel Load(ParseResult parsed, Device device, long tokens, CancellationToken cancellation, int texts = 1, int speculate = 0, long? kvTokens = null)
    {
        var context = (int)Math.Clamp(tokens, 1, ModelConfig.Load(Directory(parsed)).MaxContext);
        var blockSize = new LanguageModelOptions().KvBlockSize;
        var options = new LanguageModelOptions
        {
            KvEncoding = parsed.GetValue(_kv) == "bf16" ? KvEncoding.BFloat16 : KvEncoding.Float8,
            MaxContext = context,
            KvCacheTokens = kvTokens ?? (context + blockSize - 1L) / blockSize * blockSize * texts,
            Speculate = speculate,
            MaxSequences = Math.Max(texts, new LanguageModelOptions().MaxSequences),
        };
        using var bar = new ProgressBar("loading");
        return LanguageModel.Load(
            Directory(parsed), device, options,
            bar.Report<Inference.Loading.LoadProgress>(p => (p.LoadedBytes, p.TotalBytes)), cancellation);
    }

    /// <summary>Says on stderr, in one line, which of the checkpoint's sampling defaults are not applied.</summary>
    public void NoteNotApplied(ParseResult parsed, GenerationConfig config)
    {
        if (config.NotApplied.Count > 0)
        {
            var file = Path.Combine(Directory(parsed), GenerationConfig.FileName);
            file = Path.Exists(file) ? file : Path.Combine(Directory(parsed), ModelConfig.FileName);
            CommandLine.Complain($"not applied, from {file}: {string.Join(", ", config.NotApplied)}");
        }
    }
}
