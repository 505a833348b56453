using System.Text.Json;
using System.Text.Json.Nodes;
using Octet.Tests.Inference.Loading;

namespace Octet.Tests.Cli;

/// <summary>The octet command on the small checkpoint with its JSON files as people have them.</summary>
public sealed class CheckpointFieldsTests : IDisposable
{
    // What the unchanged checkpoint gives, on this machine's path through the processor.
    private static readonly Lazy<Task<string>> Usual = new(async () =>
    {
        var (code, output, _) = await OctetProcess.Run(Generation(TinyModel.Directory));
        Assert.Equal(0, code);
        Assert.NotEmpty(output.Trim());
        return output;
    });

    private readonly ModelDirectory _directory = new();

    public CheckpointFieldsTests()
    {
        foreach (var file in (string[])["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
        {
            File.Copy(Path.Combine(TinyModel.Directory, file), Path.Combine(_directory.Path, file));
        }

        File.CreateSymbolicLink(Path.Combine(_directory.Path, "model.safetensors"), Path.Combine(TinyModel.Directory, "model.safetensors"));
    }

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task Fields_of_generation_config_that_are_not_applied_are_named_in_one_line()
    {
        Change("generation_config.json", json =>
        {
            json["no_repeat_ngram_size"] = 3;
            json["bad_words_ids"] = new JsonArray(new JsonArray(295));
            json["typical_p"] = 1;
        });
        var (code, output, error) = await Generate();
        Assert.Equal((0, await Usual.Value), (code, output));
        Assert.Single(
            error.Split('\n'),
            line => line == $"octet: not applied, from {_directory.Path}/generation_config.json: no_repeat_ngram_size 3, bad_words_ids [[295]]");
    }

    [Theory]
    [InlineData("repetition_penalty", "5.0")]
    [InlineData("suppress_tokens", "[295]")]
    [InlineData("stop_strings", "\"l\"")]
    public async Task Fields_of_generation_config_that_are_applied_change_the_text_and_are_not_named(string field, string value)
    {
        Change("generation_config.json", json => json[field] = JsonNode.Parse(value));
        var (code, output, error) = await Generate();
        Assert.Equal(0, code);
        Assert.NotEqual(await Usual.Value, output);
        Assert.DoesNotContain("not applied", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Fields_that_stand_in_config_for_want_of_the_file_are_named_from_there()
    {
        File.Delete(Path.Combine(_directory.Path, "generation_config.json"));
        Change("config.json", json => json["no_repeat_ngram_size"] = 3);
        var (code, _, error) = await Generate();
        Assert.Equal(0, code);
        Assert.Contains($"octet: not applied, from {_directory.Path}/config.json: no_repeat_ngram_size 3", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_is_named_where_everything_is_applied()
    {
        var (code, _, error) = await Generate();
        Assert.Equal(0, code);
        Assert.DoesNotContain("not applied", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Checkpoint_as_transformers_5_writes_it_gives_the_same_text_and_plan()
    {
        string[] planning = ["plan", "--model", _directory.Path, "--input", "500", "--json"];
        var (_, usualPlan, _) = await OctetProcess.Run(planning);
        Change("config.json", json =>
        {
            json["num_local_experts"] = Take(json, "num_experts");
            json["rope_parameters"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = Take(json, "rope_theta") };
            json["dtype"] = Take(json, "torch_dtype");
            json.Remove("rope_scaling");
        });
        var (code, output, _) = await Generate();
        Assert.Equal((0, await Usual.Value), (code, output));

        var (planCode, plan, _) = await OctetProcess.Run(planning);
        Assert.Equal((0, usualPlan), (planCode, plan));
        Assert.NotEmpty(plan);
    }

    [Theory]
    [InlineData("generate", "--prompt", "x", "--device", "cpu")]
    [InlineData("plan", "--input", "500")]
    public async Task Experts_without_their_number_are_refused_by_every_command(params string[] command)
    {
        Change("config.json", json => json.Remove("num_experts"));
        var (code, output, error) = await OctetProcess.Run([.. command, "--model", _directory.Path]);
        Assert.Equal((2, ""), (code, output));
        Assert.Contains("has moe_intermediate_size 128, but no number of experts", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Yarn_is_computed_past_the_original_context_and_dual_chunk_attention_is_refused()
    {
        Change("config.json", json =>
        {
            json["max_position_embeddings"] = 8192;
            json["rope_scaling"] = JsonNode.Parse("""{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}""");
        });
        var (scaledCode, scaled, _) = await Generate();
        Assert.Equal(0, scaledCode);
        Assert.NotEqual(await Usual.Value, scaled);

        // A factor of 1 changes nothing.
        Change("config.json", json => json["rope_scaling"]!["factor"] = 1.0);
        Assert.Equal(await Usual.Value, (await Generate()).Output);

        Change("config.json", json =>
        {
            json["rope_scaling"] = null;
            json["dual_chunk_attention_config"] = JsonNode.Parse("""{"chunk_size": 2048, "local_size": 512, "original_max_position_embeddings": 2048}""");
        });
        var (code, _, error) = await Generate();
        Assert.Equal(2, code);
        Assert.Contains("original_max_position_embeddings, 2048", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Byte_order_marks_are_skipped_in_every_file()
    {
        foreach (var file in (string[])["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
        {
            _directory.Write(file, [0xEF, 0xBB, 0xBF, .. File.ReadAllBytes(Path.Combine(_directory.Path, file))]);
        }

        Assert.Equal(await Usual.Value, (await Generate()).Output);
        using var settings = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(TinyModel.Directory, "tokenizer_config.json")));
        var (_, expected, _) = await Generate("--chat");
        _directory.Write("chat_template.jinja", "\ufeff" + settings.RootElement.GetProperty("chat_template").GetString());
        Assert.Equal(expected, (await Generate("--chat")).Output);
    }

    private static JsonNode? Take(JsonObject json, string name)
    {
        var value = json[name];
        json.Remove(name);
        return value;
    }

    private static string[] Generation(string model) =>
        ["generate", "--model", model, "--device", "cpu", "--temperature", "0", "--max-tokens", "12", "--prompt", "ROMEO:"];

    private Task<(int Code, string Output, string Error)> Generate(params string[] more) =>
        OctetProcess.Run([.. Generation(_directory.Path), .. more]);

    private void Change(string file, Action<JsonObject> change)
    {
        var path = Path.Combine(_directory.Path, file);
        var json = JsonNode.Parse(File.ReadAllBytes(path))!.AsObject();
        change(json);
        File.WriteAllText(path, json.ToJsonString());
    }
}
