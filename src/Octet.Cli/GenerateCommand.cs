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
        var prompt = new Option<string>("--prompt") { Description = "The text to continue", Required = true };
        var chat = new Option<bool>("--chat") { Description = "Put the prompt into the checkpoint's chat template as the user's message" };
        var maxTokens = NumberOption.Create("--max-tokens", "The most tokens to generate", 128, "a whole number from 1", x => x >= 1);
        var temperature = NumberOption.Create<float>(
            "--temperature", "0: the most likely token; default: generation_config.json", "0 (greedy) or a positive number", x => x >= 0 && float.IsFinite(x));
        var topK = NumberOption.Create<int>("--top-k", "Draw among this many; 0: all", "a whole number from 0", x => x >= 0);
        var topP = NumberOption.Create<float>(
            "--top-p", "Draw among the fewest that hold this probability", "a number over 0 and at most 1", x => x is > 0 and <= 1);
        var seed = NumberOption.Create<long>("--seed", "The same seed gives the same text", "a whole number of 64 bits", _ => true);
        var json = new Option<bool>("--json") { Description = "One JSON object instead of the stream" };
        foreach (var option in (Option[])[prompt, chat, maxTokens, temperature, topK, topP, seed, json])
        {
            command.Add(option);
        }

        command.SetAction(async (parsed, cancellation) =>
        {
            var text = parsed.GetValue(prompt)!;
            if (parsed.GetValue(chat))
            {
                text = ChatTemplate.Load(model.Directory(parsed)).Render([new ChatMessage("user", text)], addGenerationPrompt: true);
            }

            // A character has at most three bytes, of which each may be a token; normalisation may triple it.
            var room = 9L * text.Length + parsed.GetValue(maxTokens);
            using var device = model.OpenDevice(parsed);
            using var loaded = model.Load(parsed, device, room, cancellation);
            model.NoteNotApplied(parsed, loaded.GenerationConfig);
            var options = new GenerationOptions
            {
                MaxTokens = parsed.GetValue(maxTokens),
                Temperature = parsed.GetValue(temperature),
                TopK = parsed.GetValue(topK),
                TopP = parsed.GetValue(topP),
                Seed = parsed.GetValue(seed),
            };
            await RunAsync(loaded, text, options, parsed.GetValue(json), cancellation);
            return CommandLine.Success;
        });
        return command;
    }

    private static async Task RunAsync(LanguageModel model, string prompt, GenerationOptions options, bool json, CancellationToken cancellation)
    {
        var ids = model.Tokenizer.Encode(prompt);
        var (text, generated) = (new StringBuilder(), new List<int>());
        var start = Stopwatch.GetTimestamp();
        var (first, last) = (TimeSpan.Zero, TimeSpan.Zero);
        await foreach (var token in model.GenerateAsync(ids, options, cancellation))
        {
            last = Stopwatch.GetElapsedTime(start);
            first = generated.Count == 0 ? last : first;
            generated.Add(token.Id);
            text.Append(token.Text);
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
            $"{model.Device}: {ids.Length} prompt tokens, {generated.Count} generated, TTFT {first.TotalMilliseconds:f1} ms, "
            + $"TPOT {timePerToken:f2} ms, {rate:f1} tokens/s");
    }
}
