using System.Text.Json;
using Microsoft.Extensions.AI;
using Octet.Extensions.AI;
using Octet.Inference.Chat;
using Octet.Inference.Engine;

namespace Octet.Clients.Tests.InProcess;

/// <summary>Options as the engine gets them.</summary>
public sealed class ChatOptionsTests(SmallModel small) : IClassFixture<SmallModel>
{
    [Fact]
    public void Every_option_of_sampling_arrives()
    {
        var read = Read(new()
        {
            MaxOutputTokens = 9,
            Temperature = 0.5f,
            TopP = 0.25f,
            TopK = 7,
            Seed = 3,
            PresencePenalty = 1,
            FrequencyPenalty = -1,
            StopSequences = ["a", "b"],
            AdditionalProperties = new()
            {
                ["min_tokens"] = 2, ["min_p"] = 0.125, ["repetition_penalty"] = 1.5f, ["ignore_eos"] = true, ["priority"] = -4L,
                ["cache_salt"] = "mine", ["logit_bias"] = new Dictionary<int, float> { [5] = 1 }, ["stop_token_ids"] = new[] { 4, 5 }, ["unknown"] = new object(),
            },
        });
        Assert.Equal(
            (9, 2, 0.5f, 0.25f, 7, 0.125f, 3L, 1.5f, 1f, -1f, true, -4, "mine"),
            (read.MaxTokens, read.MinTokens, read.Temperature, read.TopP, read.TopK, read.MinP, read.Seed, read.RepetitionPenalty,
                read.PresencePenalty, read.FrequencyPenalty, read.IgnoreEndOfText, read.Priority, read.CacheSalt));
        Assert.Equal(["a", "b"], read.StopStrings!);
        Assert.Equal([4, 5], read.StopTokenIds);
        Assert.Equal([new(5, 1f)], read.LogitBias!);
    }

    [Fact]
    public void Properties_that_were_read_from_JSON_arrive_too()
    {
        var json = JsonElement.Parse("""
            {"min_p": 0.5, "ignore_eos": false, "logit_bias": {"6": -2.5}, "stop_token_ids": [7], "cache_salt": null}
            """);
        var properties = json.EnumerateObject().Select(member => KeyValuePair.Create(member.Name, (object?)member.Value));
        var read = Read(new() { AdditionalProperties = new(properties) });
        Assert.Equal((0.5f, false, null), (read.MinP, read.IgnoreEndOfText, read.CacheSalt));
        Assert.Equal([7], read.StopTokenIds);
        Assert.Equal([new(6, -2.5f)], read.LogitBias!);
    }

    [Fact]
    public void Without_options_the_checkpoint_decides_and_the_answer_may_fill_the_context()
    {
        Assert.Equal(new GenerationOptions { MaxTokens = small.Model.MaxLength - 10 }, Read(null));
        Assert.Equal(small.Model.MaxLength - 10, Read(new()).MaxTokens);
    }

    [Fact]
    public void What_the_raw_options_set_stays_but_for_the_length()
    {
        var raw = new GenerationOptions { Temperature = 0.5f, MaxTokens = 99 };
        var read = Read(new() { Temperature = 1, TopK = 5, MaxOutputTokens = 3, RawRepresentationFactory = _ => raw });
        Assert.Equal((0.5f, 5, 3), (read.Temperature, read.TopK, read.MaxTokens));
        Assert.Equal(99, Read(new() { RawRepresentationFactory = _ => raw }).MaxTokens);
    }

    [Fact]
    public void Tools_and_their_mode_arrive()
    {
        var tool = AIFunctionFactory.Create((string city) => city, "weather", "Tells the weather");
        var read = ChatSettings.Read(new() { Tools = [tool], ToolMode = ChatToolMode.RequireSpecific("weather"), AllowMultipleToolCalls = false });
        var arrived = Assert.Single(read.Tools);
        Assert.Equal(("weather", "Tells the weather"), (arrived.Name, arrived.Description));
        Assert.Equal("object", arrived.Parameters.GetProperty("type").GetString());
        Assert.Equal(new ToolChoice(ToolMode.Required, "weather"), read.ToolChoice);
        Assert.False(read.ParallelToolCalls);
        Assert.Equal(new ToolChoice(ToolMode.Required), ChatSettings.Read(new() { Tools = [tool], ToolMode = ChatToolMode.RequireAny }).ToolChoice);
        Assert.Equal(new ToolChoice(ToolMode.None), ChatSettings.Read(new() { Tools = [tool], ToolMode = ChatToolMode.None }).ToolChoice);
        Assert.Equal(new ToolChoice(ToolMode.Auto), ChatSettings.Read(new() { Tools = [tool], ToolMode = ChatToolMode.Auto }).ToolChoice);
        Assert.Equal(default, ChatSettings.Read(new() { ToolMode = ChatToolMode.RequireAny }).ToolChoice);
    }

    [Fact]
    public void Formats_and_variables_of_the_template_arrive()
    {
        Assert.Equal(ChatFormatKind.Text, ChatSettings.Read(new() { ResponseFormat = ChatResponseFormat.Text }).Format.Kind);
        Assert.Equal(ChatFormatKind.JsonObject, ChatSettings.Read(new() { ResponseFormat = ChatResponseFormat.Json }).Format.Kind);
        var schema = ChatSettings.Read(new() { ResponseFormat = ChatResponseFormat.ForJsonSchema(JsonElement.Parse("{\"type\": \"integer\"}")) }).Format;
        Assert.Equal((ChatFormatKind.JsonSchema, "integer"), (schema.Kind, schema.Schema.GetProperty("type").GetString()));

        var template = ChatSettings.Read(new() { AdditionalProperties = new() { ["chat_template_kwargs"] = JsonElement.Parse("{\"depth\": 2}") } }).Template;
        Assert.Equal(2, template.Variables!["depth"].GetInt32());
        Assert.Null(template.EnableThinking);
        Assert.False(ChatSettings.Read(new() { Reasoning = new() { Effort = ReasoningEffort.None } }).Template.EnableThinking);
        Assert.True(ChatSettings.Read(new() { Reasoning = new() { Effort = ReasoningEffort.High } }).Template.EnableThinking);
    }

    private GenerationOptions Read(ChatOptions? options) => SamplingSettings.Read(options, small.Client, small.Model, promptTokens: 10);
}
