using System.Text.Json;
using System.Xml.Linq;
using Octet.Inference.Planning;

namespace Octet.Tests.Inference.Planning;

public class PlanOutputTests
{
    private static readonly PlanListing s_listing =
        Planner.Run(ModelShape.Find(ModelShape.Target), PlanNode.Parse("mi325x:8"), EngineCalibration.Find("octet"), new PlanWorkload(5600, 140, 64));

    [Fact]
    public void Json_has_every_field_and_the_best_index()
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            PlanJson.Write(s_listing, writer);
            writer.WriteEndObject();
        }
        using JsonDocument json = JsonDocument.Parse(stream.ToArray());
        JsonElement best = json.RootElement.GetProperty("plans")[json.RootElement.GetProperty("best").GetInt32()];
        Assert.Equal((2, 4, 4), (best.GetProperty("dp").GetInt32(), best.GetProperty("tp").GetInt32(), best.GetProperty("ep").GetInt32()));
        foreach (JsonElement plan in json.RootElement.GetProperty("plans").EnumerateArray())
        {
            string[] fields = ["idle_gpus", "feasible", "reason", "weights_bytes_per_gpu", "experts_per_gpu", "kv_bytes_per_token_per_gpu", "kv_capacity_tokens", "requests_per_second", "preemptions_per_request", "binds", "extrapolated", "terms"];
            Assert.All(fields, field => Assert.True(plan.TryGetProperty(field, out _), field));
            Assert.All(new[] { "ttft_ms", "tpot_ms" }, latency => Assert.True(plan.GetProperty(latency).GetProperty("p50").GetDouble() <= plan.GetProperty(latency).GetProperty("p90").GetDouble()));
            Assert.All(plan.GetProperty("terms").EnumerateArray(), term => Assert.Contains(term.GetProperty("provenance").GetString(), new[] { "published", "measured here", "modelled" }));
        }
    }

    [Fact]
    public void The_table_marks_the_best_plan_and_its_extrapolation()
    {
        string table = PlanTable.Write(s_listing);
        Assert.Contains("* DP2/TP4/EP4", table, StringComparison.Ordinal);
        Assert.Contains("(extrapolated)", table, StringComparison.Ordinal);
        Assert.Contains("- DP8/TP1/EP1", table, StringComparison.Ordinal);
        // All but sentences fit: what is longer the command folds.
        Assert.All(table.Split('\n').Skip(1), line => Assert.True(line.Length <= 80 || line.StartsWith("    note: ", StringComparison.Ordinal) || line.StartsWith("    not feasible: ", StringComparison.Ordinal), line));
    }

    [Fact]
    public void The_plot_is_xml_with_a_point_for_each_group_size()
    {
        XElement svg = XElement.Parse(PlanPlot.Write(s_listing));
        XNamespace space = "http://www.w3.org/2000/svg";
        Assert.Equal(4, svg.Elements(space + "circle").Count());
        Assert.Single(svg.Elements(space + "circle"), circle => circle.Attribute("fill")!.Value == "#c00");
    }

    [Theory]
    [InlineData("m", "mi325x:8", 64)]
    [InlineData("Qwen3-235B-A22B-Instruct-2507-FP8-with-a-name-that-somebody-made-longer-than-any-title-ought-to-be-and-went-on", "mi325x:64", 1)]
    [InlineData("a model in a folder whose name has many words, as folders of downloads do, and then some more words to be sure", "h200:4", 4000)]
    [InlineData("WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "h100:2", 64)]
    public void No_text_of_the_plot_is_cut(string model, string node, int concurrency)
    {
        ModelShape shape = new(model, ModelShape.Find(ModelShape.Target).Config);
        SvgTexts.LieInside(PlanPlot.Write(Planner.Run(shape, PlanNode.Parse(node), EngineCalibration.Find("octet"), new PlanWorkload(100000, 14000, concurrency))));
        SvgTexts.LieInside(PlanPlot.Write(Planner.Run(shape, PlanNode.Parse(node), EngineCalibration.Find("octet"), new PlanWorkload(16, 1, concurrency))));
    }

    [Fact]
    public void A_title_is_wrapped_between_words_and_loses_nothing()
    {
        string text = "one two three four five six seven " + new string('x', 60);
        IReadOnlyList<string> lines = SvgText.Wrap(text, 10, 100);
        Assert.Equal(text.Replace(" ", "", StringComparison.Ordinal), string.Concat(lines).Replace(" ", "", StringComparison.Ordinal));
        Assert.All(lines, line => Assert.True(SvgText.Width(line, 10) <= 100, line));
        Assert.Equal("one two three four", SvgText.Wrap(text, 10, 130)[0]);
        Assert.Equal([""], SvgText.Wrap("", 10, 100));
    }

    [Fact]
    public void Manifests_have_a_pod_for_each_group_and_one_shared_claim()
    {
        string yaml = PlanManifests.Kubernetes("Qwen/Some_Model", "amd.com/gpu", 2, 4, 4, 236e9);
        string[] documents = yaml.Split("---\n");
        Assert.Equal(3, documents.Length);
        Assert.Contains("kind: PersistentVolumeClaim", documents[0], StringComparison.Ordinal);
        for (int group = 0; group < 2; group++)
        {
            Assert.Contains($"name: qwen-some-model-group-{group}\n", documents[group + 1], StringComparison.Ordinal);
            // Requests and limits both, or the pod is not of the Guaranteed class.
            Assert.Equal(2, documents[group + 1].Split("amd.com/gpu: \"4\"").Length - 1);
            Assert.Contains("claimName: qwen-some-model-weights\n        readOnly: true", documents[group + 1], StringComparison.Ordinal);
        }
        Assert.DoesNotContain("\t", yaml, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Qwen3-235B", "qwen3-235b")]
    [InlineData("--..", "model")]
    [InlineData("7b", "m-7b")]
    [InlineData("a/very/long/name/that/goes/on/and/on/and/on/for/ever", "a-very-long-name-that-goes-on-and-on-and")]
    public void A_name_becomes_a_valid_label(string name, string label) => Assert.Equal(label, PlanManifests.Label(name));

    [Fact]
    public void Environment_lines_name_each_groups_gpus()
    {
        string text = PlanManifests.Environment("HIP_VISIBLE_DEVICES", 2, 4);
        Assert.Contains("HIP_VISIBLE_DEVICES=0,1,2,3 ", text, StringComparison.Ordinal);
        Assert.Contains("HIP_VISIBLE_DEVICES=4,5,6,7 ", text, StringComparison.Ordinal);
        Assert.DoesNotContain("idle", text, StringComparison.Ordinal);
        Assert.EndsWith("=0,1,2,3 COMMAND\n# idle: GPUs 4-6\n", PlanManifests.Environment("HIP_VISIBLE_DEVICES", 1, 4, 3), StringComparison.Ordinal);
    }
}
