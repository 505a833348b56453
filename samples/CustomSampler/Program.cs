// Samplers and a search of one's own on the step API: each token is chosen here, the model only gives the logits behind it. A text that is
// rewound or forked keeps what is computed, and texts that wait at the same time advance in one step.
// Arguments, all optional: the text to continue, the number of tokens, and a checkpoint folder in the place of the small model.
using System.Globalization;
using Octet;
using Octet.Inference.Engine;
using Octet.Inference.Models;

const int Width = 4;
var prompt = args.Length > 0 ? args[0] : "ROMEO:\n";
var length = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 24;
var folder = args.Length > 2 ? args[2] : Path.Combine(AppContext.BaseDirectory, "models", "tiny-shakespeare");

using var device = Device.Open();
using var model = LanguageModel.Load(folder, device);
using var text = model.OpenSession();
var ids = model.Tokenizer.Encode(prompt);
var first = Logprobs(await text.AppendAsync(ids));

await Sample("greedy", logprobs => MostLikely(logprobs)[0]);
var random = new Random(1);
await Sample("one of the four most likely", logprobs => MostLikely(logprobs)[random.Next(Width)]);
await SearchBeams();

// One token at a time; then the text goes back to its prompt, for the next sampler.
async Task Sample(string name, Func<float[], int> choose)
{
    var (logprobs, sum) = (first, 0f);
    for (var i = 0; i < length; i++)
    {
        var token = choose(logprobs);
        sum += logprobs[token];
        logprobs = Logprobs(await text.AppendAsync(token));
    }

    Write(name, sum, text);
    text.Rewind(ids.Length);
}

// The most likely texts so far, each continued by its most likely tokens; the best of those go on.
async Task SearchBeams()
{
    Beam[] beams = [new(text.Fork(), first, 0)];
    for (var i = 0; i < length; i++)
    {
        var best = beams
            .SelectMany(beam => MostLikely(beam.Logprobs).Select(token => (Beam: beam, Token: token, Sum: beam.Sum + beam.Logprobs[token])))
            .OrderByDescending(next => next.Sum)
            .Take(Width);
        var grown = await Task.WhenAll(best.Select(next => Grow(next.Beam.Session.Fork(), next.Token, next.Sum)));
        Array.ForEach(beams, beam => beam.Session.Dispose());
        beams = grown;
    }

    Write($"beam search of width {Width}", beams[0].Sum, beams[0].Session);
    Array.ForEach(beams, beam => beam.Session.Dispose());
}

async Task<Beam> Grow(TextSession session, int token, float sum) => new(session, Logprobs(await session.AppendAsync(token)), sum);

void Write(string name, float sum, TextSession session) => Console.WriteLine(string.Create(
    CultureInfo.InvariantCulture, $"{name}, log probability {sum:f3}:\n{model.Tokenizer.Decode([.. session.Tokens.Skip(ids.Length)])}\n"));

static float[] Logprobs(ReadOnlyMemory<float> logits)
{
    var values = logits.ToArray();
    var largest = values.Max();
    var sum = largest + MathF.Log(values.Sum(value => MathF.Exp(value - largest)));
    return Array.ConvertAll(values, value => value - sum);
}

static int[] MostLikely(float[] logprobs) => [.. Enumerable.Range(0, logprobs.Length).OrderByDescending(id => logprobs[id]).Take(Width)];

internal sealed record Beam(TextSession Session, float[] Logprobs, float Sum);
