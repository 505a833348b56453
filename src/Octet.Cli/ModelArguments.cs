using System.CommandLine;
using Octet.Inference.Models;
using Octet.Inference.Parallel;

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

    private readonly Option<string?> _device = new("--device")
    {
        Description = "hip:0, hip:0-3, cuda:0, sim, sim:gfx950, sim:sm_90, cpu, cpu:fnuz, cpu*4; default: OCTET_DEVICE, else the best one present",
    };

    private readonly Option<int> _dataParallel = CreateSize("--dp", "Copies of the model, on a part of the devices each: 1, 2, 4 or 8");
    private readonly Option<int> _tensorParallel = CreateSize("--tp", "Devices that run one copy together: 1, 2, 4 or 8");
    private readonly Option<int?> _expertParallel = CreateExpertParallel();

    private readonly Option<string> _collectives = new("--collectives")
    {
        Description = "What adds over the devices of --tp: octet, with the bits of one device, or rccl, the vendor's library (RCCL, NCCL), without",
        HelpName = "octet|rccl",
        DefaultValueFactory = _ => "octet",
    };

    public ModelArguments(Command command)
    {
        _kv.HelpName = "fp8|bf16";
        Accept(_kv, "fp8", "bf16");
        Accept(_collectives, "octet", "rccl");
        _model.Validators.Add(result =>
        {
            if (result.Tokens is [{ Value: "" }, ..])
            {
                result.AddError("--model is empty, expected a checkpoint folder.");
            }
        });
        command.Add(_model);
        foreach (Option option in (Option[])[_device, _dataParallel, _tensorParallel, _expertParallel, _collectives, _kv])
        {
            command.Add(option);
        }
    }

    /// <summary>--ep: as many as --tp unless it is given.</summary>
    public static Option<int?> CreateExpertParallel() => NumberOption.Create<int>(
        "--ep", "Parts the experts are divided into, a divisor of --tp; default: --tp", ParallelSizes.Sizes, ParallelSizes.IsSize);

    /// <summary>--device of commands that take one device, and no model.</summary>
    public static Option<string?> CreateDevice() => new("--device")
    {
        Description = "hip:0, cuda:0, sim, sim:gfx950, sim:sm_90, cpu, cpu:fnuz; default: OCTET_DEVICE, else the best one present",
    };

    /// <summary>The folder of the built-in model.</summary>
    public static string BuiltIn => Path.Combine(AppContext.BaseDirectory, "models", "tiny-shakespeare");

    /// <summary>The folder that was named, or the built-in model's.</summary>
    public string Directory(ParseResult parsed) =>
        parsed.GetValue(_model) ?? BuiltIn;

    /// <summary>What --model says; null: it was not given.</summary>
    public string? Name(ParseResult parsed) => parsed.GetValue(_model);

    /// <summary>The devices that were named; null: none were.</summary>
    public string? DeviceName(ParseResult parsed) => parsed.GetValue(_device);

    /// <summary>How K and V are kept, and how the model is divided.</summary>
    public LanguageModelOptions Options(ParseResult parsed) => new()
    {
        KvEncoding = parsed.GetValue(_kv) == "bf16" ? KvEncoding.BFloat16 : KvEncoding.Float8,
        DataParallel = parsed.GetValue(_dataParallel),
        TensorParallel = parsed.GetValue(_tensorParallel),
        ExpertParallel = parsed.GetValue(_expertParallel) ?? parsed.GetValue(_tensorParallel),
        Collectives = parsed.GetValue(_collectives) == "rccl" ? Collectives.Rccl : Collectives.Octet,
    };

    /// <summary>Opens the devices of --device, else those of OCTET_DEVICE, else the best one, and says on stderr why it is not a better one.</summary>
    public DeviceGroup OpenDevices(ParseResult parsed)
    {
        var group = DeviceGroup.Open(parsed.GetValue(_device));
        Complain(group.Devices[0]);
        return group;
    }

    /// <summary>Opens the named device, else that of OCTET_DEVICE, else the best one, and says on stderr why it is not a better one.</summary>
    public static Device OpenDevice(string? name)
    {
        var device = Device.Open(name);
        Complain(device);
        return device;
    }

    /// <summary>
    /// Loads the model with a bar on stderr, with room for one or several texts of so many tokens, as far as its context reaches, or for as
    /// many tokens as given.
    /// </summary>
    public LanguageModel Load(ParseResult parsed, DeviceGroup devices, long tokens, CancellationToken cancellation, int texts = 1, int speculate = 0, long? kvTokens = null)
    {
        var context = (int)Math.Clamp(tokens, 1, ModelConfig.Load(Directory(parsed)).MaxContext);
        var blockSize = new LanguageModelOptions().KvBlockSize;
        var options = Options(parsed) with
        {
            MaxContext = context,
            KvCacheTokens = kvTokens ?? (context + blockSize - 1L) / blockSize * blockSize * texts,
            Speculate = speculate,
            MaxSequences = Math.Max(texts, new LanguageModelOptions().MaxSequences),
        };
        LanguageModel model;
        using (var bar = new ProgressBar("loading"))
        {
            model = LanguageModel.Load(
                Directory(parsed), devices, options,
                bar.Report<Inference.Loading.LoadProgress>(p => (p.LoadedBytes, p.TotalBytes)), cancellation);
        }

        if (options.Collectives == Collectives.Rccl)
        {
            CommandLine.Complain(
                $"collectives rccl: {options.TensorParallel} devices add in the library's order, so results are not bit-exact: they differ from one device's within roundings");
        }

        return model;
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

    private static Option<int> CreateSize(string name, string description) =>
        NumberOption.Create(name, description, 1, ParallelSizes.Sizes, ParallelSizes.IsSize);

    private static void Accept(Option<string> option, string one, string other) => option.Validators.Add(result =>
    {
        if (result.Tokens is [{ Value: var text }, ..] && text != one && text != other)
        {
            result.AddError($"{option.Name} is '{text}', expected {one} or {other}.");
        }
    });

    private static void Complain(Device device)
    {
        if (device.FallbackReason is { } reason)
        {
            CommandLine.Complain($"running on {device.Name}: {reason}");
        }
    }
}
