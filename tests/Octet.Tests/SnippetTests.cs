using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Octet.Extensions.AI;
using Octet.Inference.Grammars;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests;

/// <summary>The C# of README.md and docs/*.md stands here too, where it is compiled and run; a test holds the two to the same letters.</summary>
public sealed partial class SnippetTests
{
    // What a snippet has to name as a reader would, beside what stands for it here.
    private static readonly (string There, string Here)[] s_names =
        [("\"tests/models/tiny-shakespeare\"", "TinyModel.Directory"), ("\"models/qwen\"", "TinyModel.Directory")];

    [Fact]
    public async Task Snippets_of_the_readme_write_a_text_encode_a_conversation_and_multiply_matrices()
    {
        var Console = new StringWriter();

        // snippet
        using var device = Device.Open();                       // the best one that opens, else cpu
        using var model = LanguageModel.Load(TinyModel.Directory, device);
        await foreach (var token in model.GenerateAsync("ROMEO:", new() { MaxTokens = 64 })) Console.Write(token.Text);
        // end

        Assert.NotEmpty(Console.ToString());

        // snippet
        int[] ids = ChatTemplate.Load(TinyModel.Directory).Encode(model.Tokenizer, [new("system", "Be kind."), new("user", "hi")]);
        // end

        Assert.Equal("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", model.Tokenizer.Decode(ids));

        // snippet
        using var session = model.OpenSession();
        var logits = await session.AppendAsync(ids);            // behind the last token: [vocabulary]
        for (var i = 0; i < 20; i++)
        {
            var row = logits.ToArray();                         // choose as you like; here the most likely
            logits = await session.AppendAsync(Array.IndexOf(row, row.Max()));
        }
        // end

        Assert.Equal(ids.Length + 20, session.Tokens.Count);

        // snippet
        var client = new OctetChatClient(model);
        var response = await client.GetResponseAsync("Who goes there?", new() { MaxOutputTokens = 16 });
        Console.Write($"{response.Text} ({response.Usage!.OutputTokenCount} tokens, {response.FinishReason})");
        // end

        Assert.EndsWith(" (16 tokens, length)", Console.ToString());

        // snippet
        const int m = 4, n = 256, k = 512;                      // [m, k] times [n, k], both quantised to FP8 here
        var numbers = Enumerable.Range(0, n * k).Select(i => (BFloat16)MathF.Sin(i)).ToArray();
        using var x = Tensor.From<BFloat16>(device, numbers.AsSpan(0, m * k), m, k);
        using var w = Tensor.From<BFloat16>(device, numbers, n, k);
        using var a = Tensor.Create(device, device.Float8, m, k);
        using var aScales = Tensor.Create(device, DType.Float32, m, k / 128);
        using var b = Tensor.Create(device, device.Float8, n, k);
        using var bScales = Tensor.Create(device, DType.Float32, n / 128, k / 128);
        using var output = Tensor.Create(device, DType.Float32, m, n);

        var weight = new Weight { Values = b, Scales = bScales };
        var gemm = new GemmArgs { A = a, AScales = aScales, B = weight, Output = output };
        using var workspace = Tensor.Create(device, DType.Byte, Ops.GemmWorkspace(device, gemm));
        Ops.QuantizeWeight(device.Stream, new() { X = w, Output = weight });
        Ops.Quantize(device.Stream, new() { X = x, Output = new(a, aScales) });
        Ops.Gemm(device.Stream, gemm with { Workspace = workspace });

        var products = new float[m * n];
        device.Stream.Read(output, products.AsSpan());          // waits for the ops before it
        // end

        var exact = Enumerable.Range(0, m * n).Select(i => (float)Enumerable.Range(0, k).Sum(j => Math.Sin(i / n * k + j) * Math.Sin(i % n * k + j)));

        // Three bits of mantissa on either side: an error of some 2.5 % a number, which is its square in this measure.
        Assert.InRange(TinyModel.Difference(products, [.. exact]), double.NegativeInfinity, 2e-3);
    }

    [Fact]
    public async Task The_snippet_of_parallel_writes_sixteen_texts_on_two_devices()
    {
        // snippet
        using var group = DeviceGroup.Open("cpu*2");            // GPUs: "hip:0-1"
        using var copies = LanguageModel.Load(TinyModel.Directory, group, new() { DataParallel = 2 });
        var texts = await Task.WhenAll(Enumerable.Range(0, 16).Select(i => copies.CompleteAsync($"Scene {i}.", new() { MaxTokens = 8 })));
        // end

        Assert.All(texts, text => Assert.Equal(8, text.Ids.Count));
    }

    [Fact]
    public async Task The_snippet_of_serving_maps_the_api_the_operations_and_the_page()
    {
        var builder = WebApplication.CreateSlimBuilder();

        // snippet
        builder.Services.AddOctet(options => options.Model = TinyModel.Directory);
        var app = builder.Build();
        app.MapOctet("/v1");           // OpenAI's API
        app.MapOctetOperations();      // /health, /ready, /metrics, /version, /tokenize, /detokenize
        app.MapOctetPage();            // the page
        // end

        var endpoints = ((IEndpointRouteBuilder)app).DataSources.SelectMany(source => source.Endpoints).Cast<RouteEndpoint>();
        var routes = endpoints.Select(route => route.RoutePattern.RawText).ToHashSet();
        await app.DisposeAsync();
        Assert.Superset(new HashSet<string?> { "/v1/chat/completions", "/health", "/" }, routes);
    }

    [Fact]
    public async Task The_snippet_of_structured_output_writes_an_object_of_the_schema()
    {
        using var device = Device.Open("cpu");
        using var model = LanguageModel.Load(TinyModel.Directory, device);
        const string prompt = "ROMEO:";

        // snippet
        using var schema = JsonDocument.Parse("""{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}""");
        var grammar = Grammar.FromJsonSchema(schema.RootElement);
        var completion = await model.CompleteAsync(prompt, new() { Grammar = grammar, MaxTokens = 100 });
        // end

        using var json = JsonDocument.Parse(completion.Text);
        Assert.Equal(JsonValueKind.String, json.RootElement.GetProperty("city").ValueKind);
    }

    [Fact]
    public void Every_snippet_of_the_documents_is_one_that_is_compiled_and_run_here()
    {
        Assert.Equal(Path.GetFullPath("tests/models/tiny-shakespeare", TinyModel.Root), TinyModel.Directory);
        string[] here = [.. Snippet().Matches(ThisFile()).Select(match => Dedent(match.Groups["body"].Value))];
        string[] there = [.. MarkdownFile.All.SelectMany(file => file.CSharp).Select(Rename)];
        Assert.Equal(here, there);
    }

    private static string Rename(string snippet) => s_names.Aggregate(snippet, (text, name) => text.Replace(name.There, name.Here, StringComparison.Ordinal));

    private static string Dedent(string text) => string.Concat(text.Split('\n').SkipLast(1).Select(line => (line.StartsWith("        ", StringComparison.Ordinal) ? line[8..] : line) + "\n"));

    private static string ThisFile([CallerFilePath] string path = "") =>
        File.ReadAllText(Path.Combine(TinyModel.Root, "tests", "Octet.Tests", Path.GetFileName(path))).ReplaceLineEndings("\n");

    [GeneratedRegex(@"^ {8}// snippet\n(?<body>.*?)^ {8}// end\n", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Snippet();
}
