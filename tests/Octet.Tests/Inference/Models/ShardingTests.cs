using Octet.Inference.Models;
using Octet.Inference.Models.Layers;

namespace Octet.Tests.Inference.Models;

public sealed class ShardingTests
{
    // That of Qwen3-235B-A22B in what is divided.
    private static readonly ModelConfig Target = SmallConfig.Parse(
        """{"num_attention_heads": 64, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "vocab_size": 151936, "hidden_size": 4096}""");

    public static TheoryData<int, int> Groups()
    {
        var groups = new TheoryData<int, int>();
        foreach (var tp in (int[])[1, 2, 4, 8])
        {
            foreach (var ep in (int[])[1, 2, 4, 8])
            {
                if (ep <= tp)
                {
                    groups.Add(tp, ep);
                }
            }
        }

        return groups;
    }

    [Theory]
    [MemberData(nameof(Groups))]
    public void The_ranks_of_a_group_have_each_feature_of_each_expert_once_and_heads_with_their_keys(int tp, int ep)
    {
        var owners = new int[128, 1536];
        var (heads, vocabulary) = (0L, 0L);
        for (var rank = 0; rank < tp; rank++)
        {
            var sharding = new Sharding(rank, tp, ep);
            sharding.Check(Target);
            var (expert, experts) = sharding.Experts.Of(128);
            var (column, columns) = sharding.ExpertWidth(ShardKind.Column).Of(1536);
            Assert.Equal((column, columns), sharding.ExpertWidth(ShardKind.Row).Of(1536));
            Assert.Equal((128 / ep, 1536 * ep / tp, 0), (experts, columns, column % 64));
            for (var i = expert; i < expert + experts; i++)
            {
                for (var j = column; j < column + columns; j++)
                {
                    owners[i, j]++;
                }
            }

            // 16 query heads read one KV head: a rank has that of its queries.
            var (query, queries) = sharding.Queries(ShardKind.Column, 128).Of(64 * 128);
            var (key, keys) = sharding.KeyValues(4, 128).Of(4 * 128);
            Assert.Equal((heads, 64L * 128 / tp), (query, queries));
            Assert.Equal(query / 128 / 16, key / 128);
            Assert.Equal((query + queries - 1) / 128 / 16, (key + keys - 1) / 128);
            heads += queries;

            var (first, count) = sharding.Vocabulary.Of(151936);
            Assert.Equal((vocabulary, 151936L / tp), (first, count));
            vocabulary += count;
        }

        Assert.Equal(64 * 128, heads);
        Assert.All(owners.Cast<int>(), owner => Assert.Equal(1, owner));
    }

    [Theory]
    [InlineData(1000, 64, 8, "128,128,128,128,128,128,128,104")]
    [InlineData(300, 16, 4, "80,80,80,60")]
    [InlineData(768, 64, 8, "128,128,128,128,64,64,64,64")]
    [InlineData(9, 1, 2, "5,4")]
    [InlineData(7, 64, 1, "7")]
    public void Units_that_do_not_divide_evenly_go_to_the_first_parts(int total, int unit, int parts, string counts)
    {
        var end = 0L;
        List<long> found = [];
        for (var part = 0; part < parts; part++)
        {
            var (first, count) = new ShardSpec(ShardKind.Column, part, parts, unit).Of(total);
            Assert.Equal(end, first);
            end += count;
            found.Add(count);
        }

        Assert.Equal(total, end);
        Assert.Equal(counts, string.Join(",", found));
    }

    [Theory]
    [InlineData(3, 1, 0, "{}", "tp is 3")]
    [InlineData(4, 3, 0, "{}", "ep is 3")]
    [InlineData(2, 4, 0, "{}", "a divisor of tp 2")]
    [InlineData(4, 4, 4, "{}", "rank is 4, expected 0 to 3")]
    [InlineData(8, 8, 0, """{"num_attention_heads": 4}""", "4 query heads do not divide evenly over tp 8")]
    [InlineData(4, 4, 0, """{"num_attention_heads": 12, "num_key_value_heads": 3}""", "3 KV heads are neither a multiple nor a divisor of tp 4")]
    [InlineData(8, 8, 0, """{"num_attention_heads": 8, "num_experts": 12}""", "12 experts do not divide evenly over ep 8")]
    [InlineData(4, 1, 0, """{"moe_intermediate_size": 128}""", "the expert width 128 has fewer units of 64 than the 4 ranks")]
    [InlineData(8, 8, 0, """{"num_attention_heads": 8, "vocab_size": 100, "eos_token_id": 1, "bos_token_id": 1}""", "the vocabulary 100 has fewer units of 16")]
    [InlineData(4, 4, 0, """{"mlp_only_layers": [0], "intermediate_size": 192}""", "the MLP width 192 has fewer units of 64")]
    public void What_cannot_be_divided_is_refused_with_its_values(int tp, int ep, int rank, string changes, string message)
    {
        var error = Assert.Throws<ArgumentException>(() => new Sharding(rank, tp, ep).Check(SmallConfig.Parse(changes)));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_group_of_one_has_all_of_any_model()
    {
        Sharding.One.Check(SmallConfig.Parse("""{"moe_intermediate_size": 8, "vocab_size": 3, "eos_token_id": 1, "bos_token_id": 1}"""));
        Assert.Equal((0, 3), Sharding.One.Vocabulary.Of(3));
        Assert.Equal((0, 8), Sharding.One.ExpertWidth(ShardKind.Column).Of(8));
    }

    [Fact]
    public void Scales_of_the_kv_cache_go_with_their_heads()
    {
        var scales = new KvScales([1, 2, 3, 4], [5, 6, 7, 8]);
        Assert.Equal([3, 4], scales.Of(new Sharding(1, 2, 1).KeyValues(4, 1)).K);
        Assert.Equal([7], scales.Of(new Sharding(5, 8, 1).KeyValues(4, 1)).V);
        var one = new KvScales([1], [2]);
        Assert.Same(one, one.Of(new Sharding(1, 2, 1).KeyValues(4, 1)));
    }
}
