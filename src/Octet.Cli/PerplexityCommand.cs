using System.CommandLine;

namespace Octet.Cli;

/// <summary>octet perplexity: how well the model predicts a text, over windows.</summary>
internal static class PerplexityCommand
{
    public static Command Create()
    {
        var command = new Command("perplexity", "Perplexity of a text over windows that do not overlap: exp of the mean negative log likelihood of tokens 2..N of each");
        var model = new ModelArguments(command);
        var ids = new Option<string>("--ids") { Description = TokenIds.Description, Required = true };
        var window = NumberOption.Create("--window", "Tokens of a window", 0, "a whole number from 2", x => x >= 2);
        window.DefaultValueFactory = null;
        window.Required = true;
        var json = new Option<bool>("--json") { Description = "One JSON object" };
        command.Add(ids);
        command.Add(window);
        command.Add(json);
        command.SetAction((parsed, cancellation) =>
        {
            CommandLine.StopWithoutReader();
            var tokens = TokenIds.Parse(parsed.GetValue(ids)!);
            var size = parsed.GetValue(window);
            using var devices = model.OpenDevices(parsed);
            using var loaded = model.Load(parsed, devices, size, cancellation);
            double perplexity;
            using (var bar = new ProgressBar("perplexity"))
            {
                perplexity = loaded.Perplexity(tokens, size, bar.Report<(int Done, int Total)>(p => p), cancellation);
            }

            if (!double.IsFinite(perplexity))
            {
                throw new ArgumentException(
                    $"the perplexity is beyond the largest number, {double.MaxValue:g3}: the mean negative log likelihood of a token is over {Math.Log(double.MaxValue):f0}");
            }

            var windows = tokens.Length / size;
            if (parsed.GetValue(json))
            {
                JsonOutput.Write(writer =>
                {
                    writer.WriteNumber("perplexity", perplexity);
                    writer.WriteNumber("tokens", windows * size);
                    writer.WriteNumber("windows", windows);
                    writer.WriteString("device", devices.Name);
                });
            }
            else
            {
                Console.Out.WriteLine($"perplexity {perplexity:f4} over {windows} windows of {size} tokens on {devices.Name}");
            }

            return Task.FromResult(CommandLine.Success);
        });
        return command;
    }
}
