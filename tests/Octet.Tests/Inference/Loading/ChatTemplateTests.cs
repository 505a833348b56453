using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public sealed class ChatTemplateTests : IDisposable
{
    // Made of the constructs that the templates of Qwen3 consist of.
    private const string Reasoning = """
        {%- if tools %}
            {{- 'tools: ' + (tools | tojson) }}
        {%- elif messages[0].role == 'system' %}
            {{- '[system] ' + messages[0].content + '\n' }}
        {%- endif %}
        {%- set ns = namespace(searching=true, last=messages|length - 1) %}
        {%- for message in messages[::-1] %}
            {%- set index = (messages|length - 1) - loop.index0 %}
            {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<r>') and message.content.endswith('</r>')) %}
                {%- set ns.searching = false %}
                {%- set ns.last = index %}
            {%- endif %}
        {%- endfor %}
        {%- for message in messages %}
            {%- set content = message.content if message.content is string else '' %}
            {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
                {{- '[' ~ message.role ~ '] ' + content + '\n' }}
            {%- elif message.role == "assistant" %}
                {%- set thought = '' %}
                {%- if message.reasoning_content is defined %}
                    {%- set thought = message.reasoning_content %}
                {%- elif '</t>' in content %}
                    {%- set thought = content.split('</t>')[0].rstrip('\n').split('<t>')[-1].lstrip('\n') %}
                    {%- set content = content.split('</t>')[-1].lstrip('\n') %}
                {%- endif %}
                {%- if loop.index0 > ns.last and (loop.last or thought) %}
                    {{- '(thinks ' + thought.strip('\n') + ') ' }}
                {%- endif %}
                {{- content + ('\n' if not loop.last else '.') }}
            {%- elif message.role == "tool" and (loop.first or messages[loop.index0 - 1].role != "tool") %}
                {{- '[first result] ' + content + '\n' }}
            {%- endif %}
        {%- endfor %}
        {%- if add_generation_prompt %}
            {{- '[assistant] ' }}
        {%- endif %}

        """;

    private static readonly ChatMessage[] Greeting = [new("user", "hi")];
    private readonly ModelDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Small_checkpoint_renders_its_markup()
    {
        ChatTemplate template = ChatTemplate.Load(TinyShakespeare.Directory);
        Assert.Equal("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", template.Render(Greeting));
        Assert.Equal("<|im_start|>user\nhi<|im_end|>\n", template.Render(Greeting, addGenerationPrompt: false));
        Assert.Equal("", template.Render([], addGenerationPrompt: false));
    }

    [Fact]
    public void Template_with_reasoning_and_tools_renders_as_in_jinja()
    {
        var template = new ChatTemplate("t", Reasoning);
        Assert.Equal("[user] hi\n[assistant] ", template.Render(Greeting));
        Assert.Equal(
            "[system] be brief\n[user] a\nb\n[user] c\n(thinks hm) d.",
            template.Render(
                [new("system", "be brief"), new("user", "a"), new("assistant", "<t>\nx\n</t>\n\nb"), new("user", "c"), new("assistant", "<t>hm</t>d")],
                addGenerationPrompt: false));
        Assert.Equal(
            "[user] q\n(thinks p) \n[first result] 1\n[user] <r>3</r>\n[assistant] ",
            template.Render([new("user", "q"), new("assistant", "<t>p</t>"), new("tool", "1"), new("tool", "2"), new("user", "<r>3</r>")]));
    }

    // What Jinja 3.1 renders with trim_blocks and lstrip_blocks, for the messages system "S é 🙂" and user "hi\n".
    [Theory]
    [InlineData("{% set x=0 %}{% for i in [1,2,3] %}{{x}}{% set x=i %}{{x}};{% endfor %}{{x}}", "01;02;03;0")]
    [InlineData("{% for i in [1,2,3] %}{% if i==2 %}{% set x=i %}{% endif %}[{{x}}]{% endfor %}", "[][2][]")]
    [InlineData("{% for i in [1,2,3] if i != 2 %}{{loop.index}}{{loop.last}}{{loop.previtem}}{{loop.nextitem}}{{loop.revindex}}{% else %}e{% endfor %}", "1False322True11")]
    [InlineData("{% for i in [] %}x{% else %}e{% endfor %}", "e")]
    [InlineData("{% set ns = namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}|", "4|")]
    [InlineData("{% for c in 'aé🙂' %}{{ c }}.{% endfor %}{{ 'aé🙂'|length }}{{ 'aé🙂'[-1] }}{{ 'aé🙂'[::-1] }}", "a.é.🙂.3🙂🙂éa")]
    [InlineData("{% for k in messages[0] %}{{ k }},{% endfor %}", "role,content,")]
    [InlineData("{{ messages[1:]|tojson }}{{ [1, true, none]|tojson }}", "[{\"role\": \"user\", \"content\": \"hi\\n\"}][1, true, null]")]
    [InlineData("{{ none }} {{ true }} {{ -3//2 }} {{ -3%2 }} {{ 3%-2 }} {{ 'a' ~ 1 ~ true}}", "None True -2 1 -1 a1True")]
    [InlineData("{{ 'a\\n\\'b\\x41\\u00e9' }}{{ 'it''s' \"b\" }}", "a\n'bAéitsb")]
    [InlineData("{{ x is undefined }}{{ x|length }}[{{x}}]{% for a in x %}{% endfor %}{{ not x }}", "True0[]True")]
    [InlineData("{{ 'a' if false }}|{{ 'x' in 'xyz' }}|{{ 1 not in [1] }}|{{ 'role' in messages[0] }}|{{ true == 1 }}", "|True|False|True|True")]
    [InlineData("{{ 1 is number }}{{ true is integer }}{{ x is iterable }}{{ messages is mapping }}{{ none is none }}{{ 2 is not string }}", "TrueFalseTrueFalseTrueTrue")]
    [InlineData("{{ [1,2]|first }}{{ 'ab'|last }}{{ [1,2]|join(',') }}{{ x|default('q') }}{{ ''|d('q', true) }}{{ ' x '|trim }}{{ 'aba'|replace('a','cc') }}", "1b1,2qqxccbcc")]
    [InlineData("{{ 2 * 3 - 4 + 5 }}{{ (1 + 2) * 3 }}{{ not 1 == 2 }}{{ 1 == 1 and 'b' or 'c' }}{{ '' or 'd' }}{{ 'x' ~ 1 + 'y' }}", "79Truebdx1y")]
    [InlineData("{{ [1,2][5] }}|{{ 'ab'[7] }}|{{ [1,2,3][-2:] | join }}{{ 'abcdef'[5:1:-2] }}{{ 'abc'[-9:9] }}", "||23fdabc")]
    [InlineData("a\n  {% if true %}\n  x\n  {% endif %}\n{{ 1 }}\n\n", "a\n  x\n1\n")]
    [InlineData("{%- for m in [1,2] -%}  {{ m }}  {%- endfor -%}  x", "12x")]
    [InlineData("{# c #}\n  {#- d -#}  y {#+ e +#}\n z", "y \n z")]
    [InlineData("  {%+ if true %}z{% endif +%}\nq", "  z\nq")]
    [InlineData("{% if 1 %}\r\na\r\n{% endif %}\r\nb", "a\nb")]
    [InlineData("a {{ '}}' }} {{ \"%}\" }} {# }} %} #} b", "a }} %}  b")]
    [InlineData("{ { }} {a} {", "{ { }} {a} {")]
    public void Supported_construct_renders_as_in_jinja(string text, string expected) =>
        Assert.Equal(expected, new ChatTemplate("t", text).Render([new("system", "S é 🙂"), new("user", "hi\n")]));

    [Theory]
    [InlineData("a\n{% macro f() %}{% endmacro %}", "line 2, column 1: the statement 'macro' is not supported")]
    [InlineData("{% raw %}", "the statement 'raw'")]
    [InlineData("{% set x %}y{% endset %}", "expected '='")]
    [InlineData("{% set a, b = 1 %}", "expected '='")]
    [InlineData("{% for a, b in c %}{% endfor %}", "one loop variable")]
    [InlineData("{% if x %}", "a block is not ended")]
    [InlineData("{% for x in y %}{% endif %}", "expected endfor")]
    [InlineData("{% if x %}{% else %}{% elif y %}{% endif %}", "expected endif")]
    [InlineData("{% endif %}", "'endif' ends or continues nothing")]
    [InlineData("{% else", "a tag is not closed")]
    [InlineData("{{ x", "a tag is not closed")]
    [InlineData("{# x", "a comment is not closed")]
    [InlineData("{{ 'x }}", "a string is not closed")]
    [InlineData("{{ '\\d' }}", "an escape that is not supported")]
    [InlineData("{{ }}", "expected a value")]
    [InlineData("{{ 1.5 }}", "only plain integers")]
    [InlineData("{{ 99999999999999999999 }}", "too large")]
    [InlineData("{{ 1 / 2 }}", "the operator '/'")]
    [InlineData("{{ 1 < 2 < 3 }}", "a chain of comparisons")]
    [InlineData("{{ {'a': 1} }}", "expected a value, at '{'a': 1}")]
    [InlineData("{{ range(3) }}", "the function 'range'")]
    [InlineData("{{ x | upper }}", "the filter 'upper'")]
    [InlineData("{{ x | tojson(indent=2) }}", "expected ','")]
    [InlineData("{{ x | trim('a') }}", "the filter 'trim' with 1 arguments")]
    [InlineData("{{ x is divisibleby(3) }}", "the test 'divisibleby'")]
    [InlineData("{{ x is string if y }}", "with an argument")]
    [InlineData("{{ x ? y }}", "an unexpected character")]
    [InlineData("{{ (x)(y) }}", "a call of a value")]
    public void Unsupported_construct_is_refused_when_the_template_is_read(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => new ChatTemplate("file", text)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("{{ x.y }}", "'x' is undefined")]
    [InlineData("{{ x['y'] }}", "'x' is undefined")]
    [InlineData("{{ messages }}", "a list as text")]
    [InlineData("{{ 'a' + 1 }}", "a string is no number")]
    [InlineData("{{ 'a' < 'b' }}", "a string is no number")]
    [InlineData("{{ 1 // 0 }}", "a division by zero")]
    [InlineData("{{ 9223372036854775807 + 1 }}", "too large")]
    [InlineData("{{ 'a'.upper() }}", "the string method 'upper()'")]
    [InlineData("{{ 'a'.split() }}", "the string method 'split()'")]
    [InlineData("{{ messages[0].items }}", "the method 'items' as a value")]
    [InlineData("{{ messages[0].items() }}", "the method 'items' of a dictionary")]
    [InlineData("{{ 'a'[::0] }}", "step 0")]
    [InlineData("{% for x in 5 %}{% endfor %}", "a number has no items")]
    [InlineData("{% for x in [1] %}{{ loop.cycle }}{% endfor %}", "'loop.cycle'")]
    [InlineData("{% set messages.x = 1 %}", "a list cannot be changed")]
    [InlineData("{{ 1 in 2 }}", "'in' with a number and a number")]
    [InlineData("{{ messages == messages }}", "the comparison of a list with a list")]
    [InlineData("{{ raise_exception('roles must alternate') }}", "the template refuses these messages: roles must alternate")]
    public void Unsupported_operation_is_refused_when_it_is_met(string text, string expected)
    {
        var template = new ChatTemplate("file", text);
        string message = Assert.Throws<ModelFormatException>(() => template.Render(Greeting)).Message;
        Assert.StartsWith("file: line 1, column ", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("(", ")", "levels of nesting")]
    [InlineData("[", "]", "levels of nesting")]
    [InlineData("1 if 1 else ", "", "levels of nesting")]
    [InlineData("x|default(", ")", "levels of nesting")]
    [InlineData("1 + ", "", "words")]
    [InlineData("1 and ", "", "words")]
    [InlineData("x.a + x", ".a", "words")]
    public void Deep_expression_is_refused(string open, string close, string expected)
    {
        const int Depth = 5000;
        string text = "{{ " + string.Concat(Enumerable.Repeat(open, Depth)) + "1" + string.Concat(Enumerable.Repeat(close, Depth)) + " }}";
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => new ChatTemplate("t", text)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Deep_blocks_long_templates_and_many_negations_are_no_danger()
    {
        Assert.Throws<ModelFormatException>(() => new ChatTemplate("t", string.Concat(Enumerable.Repeat("{% if 1 %}", 5000))));
        Assert.Throws<ModelFormatException>(() => new ChatTemplate("t", new string('x', 1 << 20)));
        Assert.Equal("True", new ChatTemplate("t", "{{ " + string.Concat(Enumerable.Repeat("not ", 300)) + "true }}").Render([]));
    }

    [Theory]
    [InlineData("{% set ns = namespace(a='ab') %}{% for c in messages[0].content %}{% set ns.a = ns.a + ns.a %}{% endfor %}")]
    [InlineData("{% set ns = namespace(a=[1]) %}{% for c in messages[0].content %}{% set ns.a = ns.a + ns.a %}{% endfor %}")]
    [InlineData("{% set t = messages[0].content %}{% for a in t %}{% for b in t %}{% for c in t %}{% for d in t %}{% for e in t %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}")]
    [InlineData("{% set ns = namespace(a='a') %}{% for c in messages[0].content %}{% set ns.a = ns.a.replace('a', 'aaaaaaaaaaaaaaaa') %}{% endfor %}")]
    [InlineData("{% set ns = namespace(a=[]) %}{% for c in messages[0].content %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a | tojson }}")]
    public void Template_that_grows_without_end_is_stopped(string text)
    {
        var template = new ChatTemplate("t", text);
        ChatMessage[] messages = [new("user", new string('x', 100))];
        Assert.Matches("steps|levels", Assert.Throws<ModelFormatException>(() => template.Render(messages)).Message);
    }

    [Fact]
    public void Own_file_goes_before_the_configuration_and_special_tokens_are_known()
    {
        _directory.Write("tokenizer_config.json", """{"bos_token":{"content":"<s>"},"eos_token":"</s>","chat_template":[{"name":"tool_use","template":"no"},{"name":"default","template":"{{ bos_token ~ eos_token ~ pad_token }}"}]}""");
        Assert.Equal("<s></s>", ChatTemplate.Load(_directory.Path).Render([]));
        _directory.Write("chat_template.jinja", "own{{ eos_token }}\n");
        Assert.Equal("own</s>", ChatTemplate.Load(_directory.Path).Render([]));
    }

    [Theory]
    [InlineData(null, "has no chat template")]
    [InlineData("{}", "has no chat template")]
    [InlineData("""{"chat_template":7}""", "chat_template is 7, expected a string")]
    [InlineData("""{"chat_template":[{"name":"x","template":"y"}]}""", "no template called 'default'")]
    [InlineData("""{"chat_template":["x"]}""", "chat_template[0] is the string 'x', expected an object")]
    [InlineData("""{"chat_template":"x","eos_token":[]}""", "eos_token is an array of 0")]
    public void Missing_or_damaged_template_is_refused(string? configuration, string expected)
    {
        if (configuration is not null)
        {
            _directory.Write("tokenizer_config.json", configuration);
        }
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => ChatTemplate.Load(_directory.Path)).Message, StringComparison.Ordinal);
    }
}
