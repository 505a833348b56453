using System.CommandLine;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Cli;

/// <summary>octet logits: what the model expects after each token, as a safetensors file.</summary>
internal static class LogitsCommand
{
    private static readonly string[] s_modelFiles =
    [
        ModelConfig.FileName, GenerationConfig.FileName, ModelTokenizer.FileName, ModelTokenizer.ConfigurationFileName, ChatTemplate.FileName,
        CheckpointFiles.IndexFileName,
    ];

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
            var path = parsed.GetValue(output)!;
            CheckOutput(path, parsed.GetValue(ids)!, model.Directory(parsed));
            var tokens = TokenIds.Parse(parsed.GetValue(ids)!);
            using var devices = model.OpenDevices(parsed);
            using var loaded = model.Load(parsed, devices, tokens.Length, cancellation);
            using var bar = new ProgressBar("logits");
            var progress = bar.Report<long>(done => (done, tokens.Length));
            SafeTensorsWriter? writer = null;

            // Where a step takes too long to wait for, the process exits in the middle of it.
            void Abandon(object? sender, EventArgs exit) => writer?.Dispose();
            AppDomain.CurrentDomain.ProcessExit += Abandon;
            try
            {
                loaded.Logits(tokens, (first, rows) =>
                {
                    // Created with the first rows, so that bad ids leave no file behind.
                    writer ??= SafeTensorsWriter.Create(
                        path, [new("logits", SafeTensorType.Float32, tokens.Length, loaded.Config.VocabularySize)]);
                    writer.Write(rows);
                    progress.Report(first + rows.Length / loaded.Config.VocabularySize);
                }, cancellation: cancellation);
                writer!.Commit();
            }
            finally
            {
                AppDomain.CurrentDomain.ProcessExit -= Abandon;
                writer?.Dispose();
            }

            return Task.FromResult(CommandLine.Success);
        });
        return command;
    }

    // Before any work is done for a file that could not be written, or that would take the place of one that is read.
    private static void CheckOutput(string path, string ids, string model)
    {
        if (path.Length == 0)
        {
            throw new ArgumentException("--output is empty; name the .safetensors file to write");
        }

        SafeTensorsWriter.CheckTarget(path);
        using var checkpoint = CheckpointFiles.Open(model);
        string[] read =
        [
            .. checkpoint.Shards.Select(shard => shard.Path), .. s_modelFiles.Select(name => Path.Combine(model, name)),
            .. TokenIds.FileOf(ids) is { } file ? [file] : Array.Empty<string>(),
        ];
        if (read.FirstOrDefault(input => ModelFile.Target(input) == ModelFile.Target(path)) is { } same)
        {
            throw new ArgumentException($"--output: {path} would take the place of {same}, which is read; name another file");
        }
    }
}
