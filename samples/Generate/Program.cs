// Loads a checkpoint and continues a text, writing the tokens as they come.
// Arguments, all optional: the text, and a checkpoint folder in the place of the small model.
using Octet;
using Octet.Inference.Models;

var prompt = args.Length > 0 ? args[0] : "ROMEO:\n";
var folder = args.Length > 1 ? args[1] : Path.Combine(AppContext.BaseDirectory, "models", "tiny-shakespeare");

using var device = Device.Open(); // the best one that opens; OCTET_DEVICE names another
using var model = LanguageModel.Load(folder, device);
await foreach (var token in model.GenerateAsync(prompt, new() { MaxTokens = 64, Temperature = 0.8f, TopP = 0.95f, Seed = 1 }))
{
    Console.Write(token.Text);
}

Console.WriteLine();
Console.Error.WriteLine($"{device}: {model.Statistics.GeneratedTokens} tokens in {model.Statistics.Steps} steps");
