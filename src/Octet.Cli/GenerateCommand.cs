using System.CommandLine;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Cli;

/// <summary>octet generate: continues a text; the continuation alone goes to stdout.</summary>
internal static class GenerateCommand
{
    public static Command Create()
    {
        var command = new Command("generate", "Continue a text, streaming the tokens as they come");
        var model = new ModelArguments(command);
        var prompt = new Option<string?>("--prompt") { Description = "The text to continue" };
        var promptFile = new Option<string?>("--prompt-file") { Description = "A file (UTF-8) with the text to continue; -: stdin", HelpName = "FILE|-" };
        var json = new Option<bool>("--json") { Description = "One JSON object instead of the stream" };
        var speculate = NumberOption.Create(
            "--speculate", "Tokens to propose from the text so far and check in one step, 0 to 3; the text stays the same", 0,
            "a whole number from 0 to 3", x => x is >= 0 and <= 3);
        var kvTokens = NumberOption.Create<long>(
            "--kv-tokens", "Tokens the KV cache holds; with less than all texts need, the newest wait; default: what they need", "a whole number from 1", x => x >= 1);
        foreach (var option in (Option[])[prompt, promptFile, speculate, kvTokens, json])
        {
            command.Add(option);
        }

        var chat = new ChatArguments(command);
        var sampling = new SamplingArguments(command, json);
        command.Validators.Add(result =>
        {
            var given = (result.GetResult(prompt) is null ? 0 : 1) + (result.GetResult(promptFile) is null ? 0 : 1);
            if (given != 1)
            {
                result.AddError(given == 0 ? "One of --prompt and --prompt-file is required." : "--prompt and --prompt-file cannot both be given.");
            }
        });
        command.SetAction(async (parsed, cancellation) =>
        {
            CommandLine.StopWithoutReader();
            var text = parsed.GetValue(prompt) ?? await PromptFile.ReadAsync(parsed.GetValue(promptFile)!, cancellation);

            // Before the weights are read, which may take minutes.
            var ids = Encode(chat, parsed, text, model.Directory(parsed));
            var options = sampling.Options(parsed);
            using var devices = model.OpenDevices(parsed);
            using var loaded = model.Load(parsed, devices, (long)ids.Length + options.MaxTokens, cancellation, options.Choices, parsed.GetValue(speculate), parsed.GetValue(kvTokens));
            model.NoteNotApplied(parsed, loaded.GenerationConfig);
            await RunAsync(loaded, ids, options, parsed.GetValue(json), cancellation);
            return CommandLine.Success;
        });
        return command;
    }

    private static int[] Encode(ChatArguments chat, ParseResult parsed, string text, string directory)
    {
        var context = ModelConfig.Load(directory).MaxContext;
        var ids = chat.Encode(parsed, ModelTokenizer.Load(directory), directory, text);
        return ids.Length < context
            ? ids
            : throw new ArgumentException($"the prompt has {ids.Length} tokens, the context of the model {context}: no room is left for a continuation");
    }

    private static async Task RunAsync(LanguageModel model, int[] ids, GenerationOptions options, bool json, CancellationToken cancellation)
    {
        var choices = Enumerable.Range(0, options.Choices).Select(_ => new Choice()).ToArray();
        var start = Stopwatch.GetTimestamp();
        var (first, last, drawn, cached) = (TimeSpan.Zero, TimeSpan.Zero, 0, 0);
        IReadOnlyList<TokenLogprobs?> promptLogprobs = [];
        await foreach (var token in model.GenerateAsync(ids, options, cancellation))
        {
            last = Stopwatch.GetElapsedTime(start);
            first = drawn++ == 0 ? last : first;
            cached = token.CachedTokens;
            promptLogprobs = token.PromptLogprobs ?? promptLogprobs;
            choices[token.Choice].Add(token);

            // Several texts grow together, so each is written at its end.
            if (!json && choices.Length == 1)
            {
                Console.Out.Write(token.Text);
                Console.Out.Flush();
            }
        }

        var generated = choices.Sum(choice => choice.Ids.Count);
        var reason = string.Join(", ", choices.Select(choice => choice.Reason).Distinct());

        // TPOT: the time of every token but the first; tokens per second over the whole request.
        var timePerToken = generated > 1 ? (last - first).TotalMilliseconds / (generated - 1) : 0;
        var statistics = model.Statistics;
        var rate = last > TimeSpan.Zero ? generated / last.TotalSeconds : 0;
        if (json)
        {
            JsonOutput.Write(writer =>
            {
                choices[0].Write(writer);
                writer.WriteString("device", model.Devices.Name);
                writer.WriteNumber("prompt_tokens", ids.Length);
                writer.WriteNumber("cached_tokens", cached);
                writer.WriteNumber("preemptions", statistics.Preemptions);
                writer.WriteNumber("recomputed_tokens", statistics.RecomputedTokens);
                writer.WriteNumber("ttft_ms", Math.Round(first.TotalMilliseconds, 3));
                writer.WriteNumber("tpot_ms", Math.Round(timePerToken, 3));
                writer.WriteNumber("tokens_per_second", Math.Round(rate, 3));
                WriteLogprobs(writer, "prompt_logprobs", promptLogprobs, ids);
                if (choices.Length > 1)
                {
                    writer.WriteStartArray("choices");
                    foreach (var choice in choices)
                    {
                        writer.WriteStartObject();
                        choice.Write(writer);
                        writer.WriteEndObject();
                    }

                    writer.WriteEndArray();
                }
            });
            return;
        }

        Console.Out.WriteLine(choices.Length == 1 ? "" : string.Join($"{Environment.NewLine}{Environment.NewLine}", choices.Select(choice => choice.Text)));
        CommandLine.Note(
            $"{model.Devices}: {ids.Length} prompt tokens, {generated} generated ({reason}), TTFT {first.TotalMilliseconds:f1} ms, "
            + $"TPOT {timePerToken:f2} ms, {rate:f1} tokens/s"
            + (statistics.Preemptions > 0 ? $", {statistics.Preemptions} preemptions, {statistics.RecomputedTokens} tokens computed again" : ""));
    }

    // One entry for each token; null for the first of a prompt, which has none before it. Nothing where none were asked for.
    private static void WriteLogprobs(Utf8JsonWriter writer, string name, IReadOnlyList<TokenLogprobs?> logprobs, IReadOnlyList<int> ids)
    {
        if (logprobs.Count == 0)
        {
            return;
        }

        writer.WriteStartArray(name);
        foreach (var (token, id) in logprobs.Zip(ids))
        {
            if (token is null)
            {
                writer.WriteNullValue();
                continue;
            }

            writer.WriteStartObject();
            writer.WriteNumber("id", id);
            writer.WriteNumber("logprob", token.Logprob);
            writer.WriteStartArray("most_likely");
            foreach (var likely in token.MostLikely)
            {
                writer.WriteStartObject();
                writer.WriteNumber("id", likely.Id);
                writer.WriteNumber("logprob", likely.Logprob);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    /// <summary>One continuation.</summary>
    private sealed class Choice
    {
        private readonly StringBuilder _text = new();
        private readonly List<TokenLogprobs> _logprobs = [];

        public string Text => _text.ToString();

        public List<int> Ids { get; } = [];

        public string Reason { get; private set; } = "";

        public void Add(in GeneratedToken token)
        {
            _text.Append(token.Text);
            Reason = token.FinishReason?.ToString().ToLowerInvariant() ?? Reason;
            if (token is { FinishReason: FinishReason.Stop, StopString: null })
            {
                return;
            }

            Ids.Add(token.Id);
            if (token.Logprobs is { } logprobs)
            {
                _logprobs.Add(logprobs);
            }
        }

        public void Write(Utf8JsonWriter writer)
        {
            writer.WriteString("text", Text);
            writer.WriteStartArray("ids");
            Ids.ForEach(id => writer.WriteNumberValue(id));
            writer.WriteEndArray();
            writer.WriteString("finish_reason", Reason);
            WriteLogprobs(writer, "logprobs", _logprobs, Ids);
        }
    }
}
