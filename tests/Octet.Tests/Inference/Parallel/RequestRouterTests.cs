using Octet.Inference.Engine;
using Octet.Inference.Parallel;

namespace Octet.Tests.Inference.Parallel;

public sealed class RequestRouterTests
{
    private const int Size = 4;
    private const int Imbalance = 100;

    private long _ids;

    [Fact]
    public void The_group_with_the_fewest_outstanding_tokens_takes_a_new_text_and_the_lowest_of_several()
    {
        var router = new RequestRouter(4, 64, Size, Imbalance);
        Assert.Equal(2, router.Route(Text(1), [9, 8, 7, 7]));
        Assert.Equal(0, router.Route(Text(2), [0, 0, 0, 0]));
        Assert.Equal(3, router.Route(Text(3), [1000, 900, 500, 0]));
    }

    [Fact]
    public void The_group_with_the_longest_beginning_of_a_prompt_takes_it()
    {
        var router = new RequestRouter(3, 64, Size, Imbalance);
        Assert.Equal(1, router.Route(Text(0, 0, 0, 0, 1, 1, 1, 1), [50, 0, 50]));
        Assert.Equal(2, router.Route(Text(0, 0, 0, 0, 2, 2, 2, 2), [101, 102, 0]));
        Assert.Equal(2, router.Route(Text(0, 0, 0, 0, 2, 2, 2, 2, 9), [0, 0, 100]));
        Assert.Equal(1, router.Route(Text(0, 0, 0, 0, 1, 1, 1, 1, 9), [0, 100, 0]));

        // Both have the first block: the one with less to do.
        Assert.Equal(2, router.Route(Text(0, 0, 0, 0, 3), [0, 60, 50]));

        // A block that is not full is not shared.
        Assert.Equal(0, router.Route(Text(0, 0, 0), [0, 60, 50]));
    }

    [Fact]
    public void A_group_that_has_more_to_do_than_another_by_over_the_imbalance_is_not_chosen_for_a_beginning()
    {
        var router = new RequestRouter(2, 64, Size, Imbalance);
        Assert.Equal(0, router.Route(Text(5, 5, 5, 5, 1), [0, 0]));
        Assert.Equal(0, router.Route(Text(5, 5, 5, 5, 2), [Imbalance, 0]));
        Assert.Equal(1, router.Route(Text(5, 5, 5, 5, 3), [Imbalance + 1, 0]));

        // It has the beginning now, too.
        Assert.Equal(1, router.Route(Text(5, 5, 5, 5, 4), [1, 0]));
        Assert.Equal(0, router.Route(Text(5, 5, 5, 5, 4), [0, 1]));
    }

    [Fact]
    public void Texts_of_another_salt_have_no_beginning_in_common_and_evaluations_none_at_all()
    {
        var router = new RequestRouter(2, 64, Size, Imbalance);
        Assert.Equal(0, router.Route(Text(1, 2, 3, 4, 5), [0, 0]));
        Assert.Equal(1, router.Route(Text("salt", 1, 2, 3, 4, 5), [1, 0]));
        Assert.Equal(1, router.Route(Text("salt", 1, 2, 3, 4, 5), [0, 1]));
        Assert.Equal(0, router.Route(Text(1, 2, 3, 4, 5), [1, 0]));
        Assert.Equal(1, router.Route(new Sequence(++_ids, [1, 2, 3, 4, 5], 5) { IsEvaluation = true }, [1, 0]));
    }

    [Fact]
    public void A_lost_group_is_never_chosen_and_where_all_are_none_is()
    {
        var router = new RequestRouter(2, 64, Size, Imbalance);
        Assert.Equal(0, router.Route(Text(1, 2, 3, 4), [0, 0]));
        Assert.Equal(1, router.Route(Text(1, 2, 3, 4), [RequestRouter.Lost, 1_000_000]));
        Assert.Equal(-1, router.Route(Text(1, 2, 3, 4), [RequestRouter.Lost, RequestRouter.Lost]));
    }

    [Fact]
    public void As_many_blocks_are_remembered_as_a_group_keeps_and_the_beginning_of_a_prompt_longest()
    {
        var router = new RequestRouter(2, 8, Size, Imbalance);
        for (var text = 0; text < 50; text++)
        {
            router.Route(Text([.. Enumerable.Repeat(text, 5 * Size)]), [0, 1]);
            Assert.InRange(router.Remembered, 5, 8);
        }

        // Of the last but one, three of five blocks: those it begins with.
        Assert.Equal(0, router.Route(Text(48, 48, 48, 48), [1, 0]));
        Assert.Equal(1, router.Route(Text(47, 47, 47, 47), [1, 0]));

        // A prompt that is longer than all that is remembered.
        Assert.Equal(0, router.Route(Text([.. Enumerable.Repeat(60, 40 * Size)]), [0, 1]));
        Assert.Equal(0, router.Route(Text([.. Enumerable.Repeat(60, 40 * Size)]), [1, 0]));
        Assert.Equal(8 + 1, router.Remembered);
    }

    [Theory]
    [InlineData(0, 2)]
    [InlineData(1, 3)]
    [InlineData(2, 8)]
    public void Whatever_comes_the_groups_stay_balanced_the_choice_has_its_reason_and_is_the_same_again(int seed, int groups)
    {
        var random = new Random(seed);
        var (router, again) = (new RequestRouter(groups, 64, Size, Imbalance), new RequestRouter(groups, 64, Size, Imbalance));
        var outstanding = new long[groups];
        var (texts, largest) = (new List<(int Group, int Tokens)>(), 0);
        for (var i = 0; i < Rounds.Of(2000); i++)
        {
            // Half of the prompts begin alike, and some of those share more.
            int[] prompt = [.. Enumerable.Range(0, random.Next(1, 60)).Select(at => at < 12 && i % 2 == 0 ? at : at < 24 && i % 8 == 0 ? at : random.Next(1000))];
            var sequence = new Sequence(i, prompt, prompt.Length + random.Next(1, 60));
            var group = router.Route(sequence, outstanding);
            Assert.Equal(group, again.Route(sequence, outstanding));
            Assert.InRange(outstanding[group], outstanding.Min(), outstanding.Min() + Imbalance);
            outstanding[group] += sequence.Limit;
            texts.Add((group, sequence.Limit));
            largest = Math.Max(largest, sequence.Limit);

            // Texts end in any order, but as fast on every group: no group can be starved by what another one works off.
            if (i % 3 == 0)
            {
                continue;
            }

            var ends = random.Next(texts.Count);
            outstanding[texts[ends].Group] -= texts[ends].Tokens;
            texts.RemoveAt(ends);
        }

        // Nothing ends any more: the difference is bounded.
        for (var i = 0; i < 500; i++)
        {
            var sequence = new Sequence(i, Enumerable.Range(0, 40).ToArray(), 60);
            outstanding[router.Route(sequence, outstanding)] += sequence.Limit;
        }

        Assert.InRange(outstanding.Max() - outstanding.Min(), 0, Imbalance + largest);
    }

    private Sequence Text(params int[] prompt) => Text(null, prompt);

    private Sequence Text(string? salt, params int[] prompt) => new(++_ids, prompt, prompt.Length + 10, salt);
}
