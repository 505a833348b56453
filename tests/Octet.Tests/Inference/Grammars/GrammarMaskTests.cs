using System.Text;
using System.Text.Json;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>Masks have just the tokens that the automaton accepts, whatever was asked before.</summary>
public sealed class GrammarMaskTests
{
    private static readonly string[] s_schemas =
        ["any", "string", "number", "length between", "long", "map", "free members", "many items", "anyOf of strings", "tree", "expression", "invoice", "names", "ambiguous recursion"];

    public static TheoryData<string> Names => [.. s_schemas];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_mask_has_just_the_tokens_that_are_accepted_byte_by_byte(string name)
    {
        var (grammar, trie, random) = (GrammarOf(name), Vocabularies.Mixed, new Random(3));
        for (var text = 0; text < 6; text++)
        {
            var states = new List<GrammarState> { grammar.Automaton(trie).Start };
            var matcher = (GrammarMatcher)grammar.CreateMatcher(trie, [Vocabularies.End]);
            for (var i = 0; i < 25; i++)
            {
                var allowed = Mask(matcher);
                CheckAgainstEach(matcher, trie, allowed);
                var next = allowed[random.Next(allowed.Count)];
                if (next == Vocabularies.End)
                {
                    break;
                }

                Assert.True(matcher.Accept(next));
                states.Add(matcher.State);
            }

            // Going back is to be where one was.
            foreach (var state in states.AsEnumerable().Reverse())
            {
                matcher.State = state;
                CheckAgainstEach(matcher, trie, Mask(matcher));
            }
        }
    }

    [Fact]
    public void Special_tokens_of_a_checkpoint_never_follow_and_its_other_tokens_do_by_their_bytes()
    {
        var (trie, random) = (Vocabularies.Small.Trie, new Random(6));
        var end = Vocabularies.Small.FindAddedToken("<|endoftext|>")!.Value;
        var matcher = (GrammarMatcher)Grammar.JsonObject.CreateMatcher(trie, [end]);
        var mask = new uint[(trie.Count + 31) / 32];
        for (var i = 0; i < 60; i++)
        {
            matcher.FillMask(mask, 61 - i);
            var allowed = GrammarWalk.Tokens(mask);
            Assert.DoesNotContain(Vocabularies.Small.FindAddedToken("<|im_end|>")!.Value, allowed);
            matcher.FillMask(mask);
            CheckAgainstEach(matcher, trie, GrammarWalk.Tokens(mask));
            var next = allowed[random.Next(allowed.Count)];
            Assert.True(matcher.Accept(next));
            if (next == end)
            {
                return;
            }
        }

        Assert.Fail("the object is not complete after 60 tokens");
    }

    [Fact]
    public void Masks_are_the_same_when_nothing_is_remembered()
    {
        foreach (var name in s_schemas)
        {
            var trie = Vocabularies.Mixed;
            var grammar = GrammarOf(name);
            var forgetful = new GrammarAutomaton(grammar.Automaton(trie).Start.Term, trie, mostBytes: 20_000);
            var (a, b) = ((GrammarMatcher)grammar.CreateMatcher(trie, [Vocabularies.End]), new GrammarMatcher(forgetful, [Vocabularies.End]));
            var random = new Random(17);
            for (var i = 0; i < 60 && Mask(a) is var allowed && allowed[random.Next(allowed.Count)] is var next && next != Vocabularies.End; i++)
            {
                Assert.Equal(allowed, Mask(b));
                Assert.Equal(a.Distance, b.Distance);
                Assert.True(a.Accept(next) && b.Accept(next));
            }
        }
    }

    [Fact]
    public void What_is_remembered_has_a_bound()
    {
        var trie = Vocabularies.Mixed;
        var automaton = new GrammarAutomaton(GrammarOf("any").Automaton(trie).Start.Term, trie, mostBytes: 1 << 20);
        for (var seed = 0; seed < 30; seed++)
        {
            GrammarWalk.Run(new GrammarMatcher(automaton, [Vocabularies.End]), trie, Vocabularies.End, 150, new Random(seed), GrammarWalk.Choices["brackets"]);
            Assert.InRange(automaton.Bytes, 0, 3 << 20);
        }
    }

    [Fact]
    public async Task Texts_of_a_grammar_that_run_at_once_have_the_masks_each_has_alone()
    {
        var trie = Vocabularies.Mixed;
        var expected = Enumerable.Range(0, 8).Select(seed => Write(GrammarOf("invoice"), seed)).ToArray();
        var shared = GrammarOf("invoice");
        var actual = await Task.WhenAll(Enumerable.Range(0, 8).Select(seed => Task.Run(() => Write(shared, seed))));
        Assert.Equal(expected, actual);

        string Write(Grammar grammar, int seed) => Encoding.UTF8.GetString(GrammarWalk.Run(
            grammar.CreateMatcher(trie, [Vocabularies.End]), trie, Vocabularies.End, 300, new Random(seed), GrammarWalk.Choices["any"]).Text);
    }

    [Fact]
    public void Where_nothing_else_can_follow_only_end_tokens_do()
    {
        var trie = Vocabularies.Mixed;
        var matcher = Grammar.Literal("ab").CreateMatcher(trie, [Vocabularies.End, 'b']);
        Assert.Equal(['a'], Mask(matcher));

        // A token that ends the text does so nowhere else, even if its text fits.
        Assert.True(matcher.Accept('a'));
        Assert.Empty(Mask(matcher));
        var other = Grammar.Literal("ab").CreateMatcher(trie, [Vocabularies.End]);
        Assert.True(other.Accept('a') && other.Accept('b') && other.IsComplete);
        Assert.Equal([Vocabularies.End], Mask(other));
        Assert.False(other.Accept('a'));
        Assert.True(other.Accept(Vocabularies.End));
    }

    [Fact]
    public void Numbers_may_end_or_go_on()
    {
        var matcher = GrammarOf("0 to 255").CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]);
        Assert.True(matcher.Accept('2') && matcher.IsComplete);
        var allowed = Mask(matcher);
        Assert.Contains(Vocabularies.End, allowed);
        Assert.Contains('5', allowed);
        Assert.Equal(
            ["0", "00", "1", "12", "2", "25", "3", "4", "5", "6", "7", "8", "9"],
            allowed.Where(token => token != Vocabularies.End).Select(token => Encoding.ASCII.GetString(Vocabularies.Mixed.Bytes(token))).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Marks_of_the_vocabulary_follow_only_as_literals()
    {
        ReadOnlyMemory<byte>[] tokens = [.. Enumerable.Range(0, 256).Select(value => new ReadOnlyMemory<byte>([(byte)value])), "<tool_call>"u8.ToArray(), "</tool_call>"u8.ToArray(), default];
        var trie = new TokenTrie(tokens, [256, 257]);
        using var schema = JsonDocument.Parse("""{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}""");
        var grammar = ToolCallGrammar.Create([("get_weather", schema.RootElement), ("stop", null)], parallel: true);
        var matcher = grammar.CreateMatcher(trie, [258]);
        Assert.Equal(['<', 256], Mask(matcher));
        Assert.True(matcher.Accept(256));
        Push("\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"<");
        Assert.DoesNotContain(256, Mask(matcher));
        Assert.False(matcher.Accept(257));
        Push("Bern\"}}\n");
        Assert.Equal(['<', 257], Mask(matcher));
        Assert.True(matcher.Accept(257) && matcher.IsComplete);
        Assert.Equal(['\n', 258], Mask(matcher));
        Push("\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {\"x\": [1]}}\n</tool_call>");
        Assert.True(matcher.IsComplete);
        using var number = JsonDocument.Parse("""{"type": "integer"}""");
        var error = Assert.Throws<ArgumentException>(() => ToolCallGrammar.Create([("add", number.RootElement)], parallel: false));
        Assert.Contains("the arguments of the tool 'add' may be something else than an object", error.Message, StringComparison.Ordinal);

        void Push(string text) => Assert.All(Encoding.UTF8.GetBytes(text), value => Assert.True(matcher.Accept(value), $"'{(char)value}' of {text}"));
    }

    [Fact]
    public void A_mask_shorter_or_longer_than_the_vocabulary_is_filled_as_far_as_both_go()
    {
        var matcher = GrammarOf("any").CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]);
        var (shorter, longer) = (new uint[2], new uint[100]);
        longer.AsSpan().Fill(uint.MaxValue);
        matcher.FillMask(shorter);
        matcher.FillMask(longer);
        Assert.Equal(shorter, longer[..2]);
        Assert.True(GrammarWalk.Tokens(longer).TrueForAll(token => token < Vocabularies.Mixed.Count));
    }

    [Theory]
    [InlineData("any")]
    [InlineData("deep")]
    [InlineData("invoice")]
    [InlineData("map")]
    [InlineData("long")]
    public void The_mask_that_keeps_to_the_tokens_left_has_those_that_do_and_no_other(string name)
    {
        var (trie, random) = (Vocabularies.Mixed, new Random(9));
        var matcher = (GrammarMatcher)GrammarOf(name).CreateMatcher(trie, [Vocabularies.End]);
        var mask = new uint[(trie.Count + 31) / 32];
        for (var i = 0; i < 40; i++)
        {
            var all = Mask(matcher);
            var here = matcher.State;
            foreach (var spare in (int[])[0, 1, 2, 5, 30])
            {
                matcher.FillMask(mask, matcher.Distance + 1 + spare);
                var kept = GrammarWalk.Tokens(mask);
                foreach (var token in all.Where(token => token != Vocabularies.End))
                {
                    Assert.True(matcher.Accept(token));

                    // Of a free key, which may turn out to be used already, a byte more is expected.
                    var unused = here.Distance - 1 + spare - matcher.Distance;
                    matcher.State = here;
                    Assert.True(unused >= 0 || !kept.Contains(token));
                    Assert.True(unused < 0 || kept.Contains(token) || (unused == 0 && name is "any" or "map"), $"{token} is not in the mask");
                }
            }

            var next = all[random.Next(all.Count)];
            if (next == Vocabularies.End)
            {
                return;
            }

            matcher.Accept(next);
        }
    }

    [Fact]
    public void Combinators_make_the_texts_of_their_parts()
    {
        using var schema = JsonDocument.Parse("""{"type": "integer"}""");
        var number = Grammar.FromJsonSchema(schema.RootElement);
        var grammar = Grammar.Sequence(Grammar.Literal("x="), number, Grammar.Repeat(Grammar.Sequence(Grammar.Literal(";"), Grammar.Choice(number, Grammar.JsonObject)), 1, 2));
        foreach (var (text, expected) in (ReadOnlySpan<(string, bool)>)
            [("x=1;2", true), ("x=-1;{\"a\": 1};0", true), ("x=1", false), ("x=1;2;3;4", false), ("x=1;[]", false)])
        {
            Assert.Equal(expected, GrammarWalk.Reads(grammar.CreateMatcher(Vocabularies.Mixed, [Vocabularies.End]), Vocabularies.Mixed, Encoding.UTF8.GetBytes(text), new Random(1)));
        }

        Assert.Throws<ArgumentException>(() => Grammar.Repeat(Grammar.Sequence()));
        Assert.Throws<ArgumentException>(() => Grammar.Choice());
        Assert.Throws<ArgumentOutOfRangeException>(() => Grammar.Repeat(number, 2, 1));
        Assert.Throws<ArgumentException>(() => number.ToAllowedTokens(Vocabularies.Mixed, []));
    }

    [Fact]
    public void Characters_are_those_of_UTF_8_and_no_other_bytes()
    {
        var table = new TermTable(16);
        Span<byte> bytes = stackalloc byte[4];
        for (var value = 0; value < 0x110000; value += value < 0x3000 ? 1 : 61)
        {
            if (Rune.IsValid(value))
            {
                var length = new Rune(value).EncodeToUtf8(bytes);
                Assert.Equal(value >= 0x20 && value is not ('"' or '\\'), Has(JsonTerms.RawCharacter, bytes[..length]));
                var isSingle = CharacterTerms.IsSingle(value) && value is not ('"' or '\\');
                Assert.Equal(isSingle, Has(JsonTerms.SingleCharacter, bytes[..length]));
                Assert.Equal(isSingle ? 1 : 0, PlainText.Characters(bytes[..length]));
            }
        }

        var random = new Random(2);
        for (var i = 0; i < 50_000; i++)
        {
            bytes[0] = (byte)random.Next(0x80, 0x100);
            random.NextBytes(bytes[1..]);
            var length = random.Next(1, 5);
            var isOne = Rune.DecodeFromUtf8(bytes[..length], out _, out var used) == System.Buffers.OperationStatus.Done && used == length;
            Assert.Equal(isOne, Has(JsonTerms.RawCharacter, bytes[..length]));
        }

        bool Has(Term term, ReadOnlySpan<byte> text)
        {
            table.BeginWork();
            foreach (var value in text)
            {
                term = table.Derive(term, value);
            }

            return term.IsNullable;
        }
    }

    [Fact]
    public void Single_characters_side_by_side_are_as_many_graphemes()
    {
        var random = new Random(4);
        var singles = Enumerable.Range(0x20, 0x20000).Where(value => Rune.IsValid(value) && CharacterTerms.IsSingle(value)).ToArray();
        for (var i = 0; i < 20_000; i++)
        {
            var text = string.Concat(Enumerable.Range(0, 8).Select(_ => new Rune(singles[random.Next(singles.Length)]).ToString()));
            Assert.Equal(8, new System.Globalization.StringInfo(text).LengthInTextElements);
        }
    }

    private static Grammar GrammarOf(string name) => SchemaCase.All.Single(schema => schema.Name == name).Grammar();

    private static List<int> Mask(IGrammarMatcher matcher)
    {
        var mask = new uint[(Vocabularies.Mixed.Count + 31) / 32];
        mask.AsSpan().Fill(uint.MaxValue);
        matcher.FillMask(mask);
        return GrammarWalk.Tokens(mask);
    }

    // The mask leaves out tokens that close a key behind another one, whose newness depends on the text so far.
    private static void CheckAgainstEach(GrammarMatcher matcher, TokenTrie trie, List<int> allowed)
    {
        var here = matcher.State;
        for (var token = 0; token < trie.Count; token++)
        {
            var isAccepted = matcher.Accept(token);
            matcher.State = here;
            var isAllowed = allowed.Contains(token);
            Assert.True(isAccepted || !isAllowed, $"the mask has token {token}, which is not accepted");
            Assert.True(!isAccepted || isAllowed || trie.Bytes(token).Count((byte)'"') > 1, $"the mask lacks token {token}, which is accepted");
        }
    }
}
