using System.CommandLine;
using Octet.Inference.Engine;

namespace Octet.Cli;

/// <summary>The options that say how tokens are drawn and when a text ends; what is not given comes from generation_config.json.</summary>
internal sealed class SamplingArguments
{
    private readonly Option<int> _maxTokens;

    private readonly Option<float?> _temperature = NumberOption.Create<float>(
        "--temperature", "0: the most likely token; default: generation_config.json", "0 (greedy) or a positive number", x => x >= 0 && float.IsFinite(x));

    private readonly Option<int?> _topK = NumberOption.Create<int>("--top-k", "Draw among this many; 0: all", "a whole number from 0", x => x >= 0);

    private readonly Option<float?> _topP = NumberOption.Create<float>(
        "--top-p", "Draw among the fewest that hold this probability", "a number over 0 and at most 1", x => x is > 0 and <= 1);

    private readonly Option<float?> _minP = NumberOption.Create<float>(
        "--min-p", "Draw among those this many times as likely as the most likely", "a number from 0 to 1", x => x is >= 0 and <= 1);

    private readonly Option<float?> _repetitionPenalty = NumberOption.Create<float>(
        "--repetition-penalty", "Makes tokens of prompt and text less likely; 1: none", "a positive number", x => x > 0 && float.IsFinite(x));

    private readonly Option<float?> _presencePenalty = NumberOption.Create<float>(
        "--presence-penalty", "Makes tokens of the text less likely; 0: none", "a number from -2 to 2", x => x is >= -2 and <= 2);

    private readonly Option<float?> _frequencyPenalty = NumberOption.Create<float>(
        "--frequency-penalty", "The same for every time they are in it; 0: none", "a number from -2 to 2", x => x is >= -2 and <= 2);

    private readonly Option<string[]> _stop = new("--stop") { Description = "End before this string; may be given several times", HelpName = "TEXT" };

    private readonly Option<long?> _seed = NumberOption.Create<long>("--seed", "The same seed gives the same text", "a whole number of 64 bits", _ => true);

    private readonly Option<int> _n = NumberOption.Create("--n", "How many continuations", 1, "a whole number from 1", x => x >= 1);

    private readonly Option<int?> _logprobs = NumberOption.Create<int>(
        "--logprobs", "In --json: log probabilities, with this many of the most likely tokens", "a whole number from 0 to 20", x => x is >= 0 and <= 20);

    private readonly Option<int?> _promptLogprobs = NumberOption.Create<int>(
        "--prompt-logprobs", "In --json: the same for each token of the prompt", "a whole number from 0 to 20", x => x is >= 0 and <= 20);

    private readonly bool _isOneText;

    /// <param name="command">Gets the options.</param>
    /// <param name="json">Its --json, which --logprobs and --prompt-logprobs need; null: it has none, and neither those nor --n.</param>
    /// <param name="maxTokens">The most tokens where it is not said.</param>
    public SamplingArguments(Command command, Option<bool>? json, int maxTokens = 128)
    {
        _isOneText = json is null;
        _maxTokens = NumberOption.Create("--max-tokens", "The most tokens to generate", maxTokens, "a whole number from 1", x => x >= 1);
        foreach (var option in (Option[])[
            _maxTokens, _temperature, _topK, _topP, _minP, _repetitionPenalty, _presencePenalty, _frequencyPenalty, _stop, _seed,
            .. _isOneText ? [] : (Option[])[_n, _logprobs, _promptLogprobs]])
        {
            command.Add(option);
        }

        _stop.Validators.Add(result =>
        {
            if (result.Tokens.Any(token => token.Value.Length == 0))
            {
                result.AddError("--stop is empty, expected a text.");
            }
        });
        if (json is null)
        {
            return;
        }

        command.Validators.Add(result =>
        {
            foreach (var option in (Option[])[_logprobs, _promptLogprobs])
            {
                if (result.GetResult(option) is not null && !result.GetValue(json))
                {
                    result.AddError($"{option.Name} needs --json.");
                }
            }
        });
    }

    /// <summary>What was given.</summary>
    public GenerationOptions Options(ParseResult parsed) => new()
    {
        MaxTokens = parsed.GetValue(_maxTokens),
        Temperature = parsed.GetValue(_temperature),
        TopK = parsed.GetValue(_topK),
        TopP = parsed.GetValue(_topP),
        MinP = parsed.GetValue(_minP),
        RepetitionPenalty = parsed.GetValue(_repetitionPenalty),
        PresencePenalty = parsed.GetValue(_presencePenalty),
        FrequencyPenalty = parsed.GetValue(_frequencyPenalty),
        StopStrings = parsed.GetValue(_stop) is { Length: > 0 } stops ? stops : null,
        Seed = parsed.GetValue(_seed),
        Choices = _isOneText ? 1 : parsed.GetValue(_n),
        Logprobs = _isOneText ? null : parsed.GetValue(_logprobs),
        PromptLogprobs = _isOneText ? null : parsed.GetValue(_promptLogprobs),
    };
}
