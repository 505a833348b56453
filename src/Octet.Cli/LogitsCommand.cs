using System.CommandLine;
using Octet.Inference.Loading;

namespace Octet.Cli;

/// <summary>octet logits: what the model expects after each token, as a safetensors file.</summary>
internal static class LogitsCommand
{
    public static Command Create()
    {
        var command = new Command("logits", "Write the logits of every token: tensor 'logits' f32 [tokens, vocabulary]");
        var model = new ModelArguments(command);
        var ids = new Option<string>("--ids") { Description = TokenIds.Description, Required = true };
        var output = new Option<string>("--output") { Description = "The .safetensors file to write", Required = true };
        command.Add(ids);
        command.Add(output);
        command.SetAction((parsed, cancellation) =>
        {
            var tokens = TokenIds.Parse(parsed.GetValue(ids)!);
            using var device = model.OpenDevice(parsed);
            using var loaded = model.Load(parsed, device, cancellation);
            using var bar = new ProgressBar("logits");
            var progress = bar.Report<long>(done => (done, tokens.Length));
            SafeTensorsWriter? writer = null;
            try
            {
                loaded.Logits(tokens, (first, rows) =>
                {
                    // Created with the first rows, so that bad ids leave no file behind.
                    writer ??= SafeTensorsWriter.Create(
                        parsed.GetValue(output)!,
                        [new("logits", SafeTensorType.Float32, tokens.Length, loaded.Config.VocabularySize)]);
                    writer.Write(rows);
                    progress.Report(first + rows.Length / loaded.Config.VocabularySize);
                }, cancellation: cancellation);
                writer!.Commit();
            }
            finally
            {
                writer?.Dispose();
            }

            return Task.FromResult(CommandLine.Success);
        });
        return command;
    }
}
