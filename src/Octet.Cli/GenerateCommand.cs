using System.CommandLine;
using System.Diagnostics;
using System.Text;
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
        var maxTokens = NumberOption.Create("--max-tokens", "The most tokens to generate", 128, "a whole number from 1", x => x >= 1);
        var temperature = NumberOption.Create<float>(
            "--temperature", "0: the most likely token; default: generation_config.json", "0 (greedy) or a positive number", x => x >= 0 && float.IsFinite(x));
        var topK = NumberOption.Create<int>("--top-k", "Draw among this many; 0: all", "a whole number from 0", x => x >= 0);
        var topP = NumberOption.Create<float>(
            "--top-p", "Draw among the fewest that hold this probability", "a number over 0 and at most 1", x => x is > 0 and <= 1);
        var seed = NumberOption.Create<long>("--seed", "The same seed gives the same text", "a whole number of 64 bits", _ => true);
        var json = new Option<bool>("--json") { Description = "One JSON object instead of the stream" };
        foreach (var option in (Option[])[prompt, promptFile, maxTokens, temperature, topK, topP, seed, json])
        {
            command.Add(option);
        }

        var chat = new ChatArguments(command);
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
            using var device = model.OpenDevice(parsed);
            using var loaded = model.Load(parsed, device, (long)ids.Length + parsed.GetValue(maxTokens), cancellation);
            model.NoteNotApplied(parsed, loaded.GenerationConfig);
            var options = new GenerationOptions
            {
                MaxTokens = parsed.GetValue(maxTokens),
                Temperature = parsed.GetValue(temperature),
                TopK = parsed.GetValue(topK),
                TopP = parsed.GetValue(topP),
                Seed = parsed.GetValue(seed),
            };
            await RunAsync(loaded, ids, options, parsed.GetValue(json), cancellation);
            return CommandLine.Success;
        });
        return command;
    }

    private static int[] Encode(ChatArguments chat, ParseResult parsed, string text, string directory)
    {
        var ids = chat.Encode(parsed, ModelTokenizer.Load(directory), directory, text);
        var context = ModelConfig.Load(directory).MaxContext;
        return ids.Length < context
            ? ids
            : throw new ArgumentException($"the prompt has {ids.Length} tokens, the context of the model {context}: no room is left for a continuation");
    }

    private static async Task RunAsync(LanguageModel model, int[] ids, GenerationOptions options, bool json, CancellationToken cancellation)
    {
        var (text, generated) = (new StringBuilder(), new List<int>());
        var start = Stopwatch.GetTimestamp();
        var (first, last) = (TimeSpan.Zero, TimeSpan.Zero);
        var reason = "";
        await foreach (var token in model.GenerateAsync(ids, options, cancellation))
        {
            last = Stopwatch.GetElapsedTime(start);
            first = text.Length == 0 && generated.Count == 0 ? last : first;
            text.Append(token.Text);
            if (token.FinishReason is not FinishReason.Stop)
            {
                generated.Add(token.Id);
            }

            reason = token.FinishReason is { } ended ? ended.ToString().ToLowerInvariant() : reason;
            if (!json)
            {
                Console.Out.Write(token.Text);
                Console.Out.Flush();
            }
        }

        // TPOT: the time of every token but the first; tokens per second over the whole request.
        var timePerToken = generated.Count > 1 ? (last - first).TotalMilliseconds / (generated.Count - 1) : 0;
        var rate = last > TimeSpan.Zero ? generated.Count / last.TotalSeconds : 0;
        if (json)
        {
            JsonOutput.Write(writer =>
            {
                writer.WriteString("text", text.ToString());
                writer.WriteStartArray("ids");
                generated.ForEach(id => writer.WriteNumberValue(id));
                writer.WriteEndArray();
                writer.WriteString("finish_reason", reason);
                writer.WriteString("device", model.Device.Name);
                writer.WriteNumber("prompt_tokens", ids.Length);
                writer.WriteNumber("ttft_ms", Math.Round(first.TotalMilliseconds, 3));
                writer.WriteNumber("tpot_ms", Math.Round(timePerToken, 3));
                writer.WriteNumber("tokens_per_second", Math.Round(rate, 3));
            });
            return;
        }

        Console.Out.WriteLine();
        CommandLine.Note(
            $"{model.Device}: {ids.Length} prompt tokens, {generated.Count} generated ({reason}), TTFT {first.TotalMilliseconds:f1} ms, "
            + $"TPOT {timePerToken:f2} ms, {rate:f1} tokens/s");
    }
}
