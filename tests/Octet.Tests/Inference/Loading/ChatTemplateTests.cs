using System.Text.Json;
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
    [InlineData("a\n{% import 'x' as y %}", "line 2, column 1: the statement 'import' is not supported: a chat template is one file")]
    [InlineData("{% include 'x' %}", "the statement 'include' is not supported: a chat template is one file")]
    [InlineData("{% from 'x' import y %}", "the statement 'from'")]
    [InlineData("{% extends 'x' %}", "the statement 'extends'")]
    [InlineData("{% do x.append(1) %}", "the statement 'do' is not supported")]
    [InlineData("{% autoescape true %}{% endautoescape %}", "the statement 'autoescape' is not supported")]
    [InlineData("{% raw %} x", "'raw' is not ended")]
    [InlineData("{% if x %}", "the block 'if' is not ended")]
    [InlineData("{% macro f() %}", "the block 'macro' is not ended")]
    [InlineData("{% for x in y %}{% endif %}", "'endif' ends or continues nothing")]
    [InlineData("{% if x %}{% else %}{% elif y %}{% endif %}", "'elif' ends or continues nothing")]
    [InlineData("{% endif %}", "'endif' ends or continues nothing")]
    [InlineData("{% else", "a tag is not closed")]
    [InlineData("{{ x", "a tag is not closed")]
    [InlineData("{# x", "a comment is not closed")]
    [InlineData("{{ 'x }}", "a string is not closed")]
    [InlineData("{{ '\\N{DASH}' }}", "the escape '\\N' is not supported")]
    [InlineData("{{ '\\x4' }}", "an escape lacks its digits")]
    [InlineData("{{ }}", "expected a value")]
    [InlineData("{{ (1] }}", "']' closes nothing")]
    [InlineData("{{ x | nosuch }}", "the filter 'nosuch' is not supported")]
    [InlineData("{{ x | random }}", "the filter 'random' is not supported")]
    [InlineData("{{ x is nosuch }}", "the test 'nosuch' is not supported")]
    [InlineData("{{ x ? y }}", "an unexpected character")]
    [InlineData("{% break %}", "'break' is in no loop")]
    [InlineData("{% call x %}{% endcall %}", "'call' is not followed by a call")]
    [InlineData("{% macro f(a=1, b) %}{% endmacro %}", "the parameter 'b' has no default")]
    [InlineData("{% set none = 1 %}", "'none' cannot be assigned to")]
    [InlineData("{% block a required %}{% endblock %}", "a block that is required is not supported")]
    public void Unsupported_construct_is_refused_when_the_template_is_read(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<ModelFormatException>(() => new ChatTemplate("file", text)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("{{ x.y }}", "'x' is undefined")]
    [InlineData("{{ x['y'] }}", "'x' is undefined")]
    [InlineData("{{ messages[0].nope.deeper }}", "a dictionary has no 'nope'")]
    [InlineData("{{ 'a' + 1 }}", "'+' is not for a string and an integer")]
    [InlineData("{{ 'a' < 1 }}", "a string and an integer have no order")]
    [InlineData("{{ 1 // 0 }}", "a division by zero")]
    [InlineData("{{ 10 ** 5000 }}", "an integer has more than 4300 digits")]
    [InlineData("{{ 10 ** 500000 }}", "an integer has more than 65536 bits")]
    [InlineData("{{ (-8) ** 0.5 }}", "complex numbers are not supported")]
    [InlineData("{{ '' * 10 ** 20 }}", "repeated more often than 64 bits can say")]
    [InlineData("{{ 'a'.encode() }}", "the string method 'encode' is not supported")]
    [InlineData("{{ messages.append(1) }}", "the method 'append' is not allowed, it would change a list")]
    [InlineData("{{ messages.pop() }}", "the method 'pop' is not allowed, it would change a list")]
    [InlineData("{{ messages[0].update({}) }}", "the method 'update' is not allowed, it would change a dictionary")]
    [InlineData("{{ 'a'.split('') }}", "a text is split at nothing")]
    [InlineData("{{ 'a'[::0] }}", "step 0")]
    [InlineData("{% for x in 5 %}{% endfor %}", "an integer has no items")]
    [InlineData("{% for a, b in [[1]] %}{% endfor %}", "a list of 1 is assigned to 2 names")]
    [InlineData("{% for x in [1] %}{{ loop(x) }}{% endfor %}", "the loop is not marked 'recursive'")]
    [InlineData("{% set messages.x = 1 %}", "a list cannot be changed, only a namespace")]
    [InlineData("{{ 1 in 2 }}", "'in' takes something with items, not an integer")]
    [InlineData("{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "the macro 'f' takes at most 1 arguments, here are 2")]
    [InlineData("{{ messages | map('upper') }}", "an iterator as text is not supported")]
    [InlineData("{{ messages | tojson(nosuch=1) }}", "'tojson' has no argument 'nosuch'")]
    [InlineData("{{ namespace() | tojson }}", "a namespace has no form in JSON")]
    [InlineData("{{ lipsum() }}", "the function 'lipsum' is not supported")]
    [InlineData("{{ strftime_now('%E') }}", "the directive '%E' of a time is not supported")]
    [InlineData("{{ self.x }}", "the member 'x' of 'self' is not supported")]
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
    [InlineData("{1: ", "}", "levels of nesting")]
    [InlineData("- ", "", "levels of nesting")]
    [InlineData("1 if 1 else ", "", "levels of nesting")]
    [InlineData("x|default(", ")", "levels of nesting")]
    [InlineData("1 + ", "", "operations")]
    [InlineData("1 and ", "", "operations")]
    [InlineData("1 < ", "", "operations")]
    [InlineData("x ~ ", "", "operations")]
    [InlineData("x.a + x", ".a", "operations")]
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
    [InlineData("{% set ns = namespace(a=[]) %}{% for c in messages[0].content %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}")]
    [InlineData("{% set ns = namespace(a=[], b=[]) %}{% for c in messages[0].content %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}")]
    [InlineData("{% set ns = namespace(a=()) %}{% for c in messages[0].content %}{% set ns.a = (ns.a, ns.a) %}{% endfor %}{{ {ns.a: 1} }}")]
    [InlineData("{% set ns = namespace(a=[]) %}{% for c in range(300) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a | pprint }}")]
    [InlineData("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")]
    [InlineData("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}")]
    [InlineData("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}")]
    [InlineData("{{ 'a' * 1000000000 }}")]
    [InlineData("{{ [1] * 10 ** 12 }}")]
    [InlineData("{% for x in range(100000) %}{% for x in range(100000) %}{% endfor %}{% endfor %}")]
    [InlineData("{{ 'a'.center(1000000000) }}")]
    [InlineData("{{ 'a' | indent(1000000000) }}")]
    [InlineData("{{ '%999999999d' % 1 }}")]
    [InlineData("{{ '{:999999999}'.format(1) }}")]
    [InlineData("{{ '%.*f' % (999999999, 1.5) }}")]
    [InlineData("{{ '\t'.expandtabs(1000000000) }}")]
    [InlineData("{{ [1] | batch(1000000000, 0) | list }}")]
    [InlineData("{{ [1] | slice(1000000000) | list }}")]
    [InlineData("{{ [1] | tojson(indent=1000000000) }}")]
    [InlineData("{{ 'a'.zfill(1000000000) }}")]
    [InlineData("{{ (3 ** 40000) * (3 ** 40000) }}")]
    [InlineData("{{ ('-' * 1000000) | wordwrap(10) }}")]
    [InlineData("{{ ('@' * 100000) | urlize }}")]
    [InlineData("{{ '{0:{0:{0:{0}}}}'.format(1) }}")]
    public void Template_that_grows_without_end_is_stopped(string text)
    {
        var template = new ChatTemplate("t", text);
        ChatMessage[] messages = [new("user", new string('x', 100))];
        Assert.Matches("steps|levels|nested|bits|more than|small integer|at most", Assert.Throws<ModelFormatException>(() => template.Render(messages)).Message);
    }

    [Fact]
    public void Options_and_members_of_messages_are_what_transformers_gives_a_template()
    {
        var template = new ChatTemplate("t", "{{ messages }}|{{ tools }}|{{ documents }}|{{ enable_thinking is defined }}{{ enable_thinking }}|{{ add_generation_prompt }}|{{ extra }}");
        var options = new ChatTemplateOptions
        {
            AddGenerationPrompt = false,
            Tools = [JsonElement.Parse("""{"name": "f"}""")],
            Documents = [JsonElement.Parse("""{"title": "t", "n": 1.0}""")],
            EnableThinking = false,
            Variables = new Dictionary<string, JsonElement> { ["extra"] = JsonElement.Parse("[null, 12345678901234567890]") },
        };
        ChatMessage[] messages =
        [
            new("user") { Parts = [new("text", "a"), new("image")] },
            new("assistant", null) { ReasoningContent = "r", ToolCalls = [new("f", """{"x": [true]}""") { Id = "c1" }] },
            new("tool", "5") { ToolCallId = "c1", Name = "f" },
        ];
        Assert.Equal(
            "[{'role': 'user', 'content': [{'type': 'text', 'text': 'a'}, {'type': 'image'}]}, "
            + "{'role': 'assistant', 'content': None, 'reasoning_content': 'r', 'tool_calls': [{'id': 'c1', 'type': 'function', 'function': {'name': 'f', 'arguments': {'x': [True]}}}]}, "
            + "{'role': 'tool', 'content': '5', 'name': 'f', 'tool_call_id': 'c1'}]"
            + "|[{'name': 'f'}]|[{'title': 't', 'n': 1.0}]|TrueFalse|False|[None, 12345678901234567890]",
            template.Render(messages, options));
        Assert.Equal("[]|None|None|False|True|", template.Render([], new()));
        Assert.Equal("{'role': 'user', 'n': 1}", new ChatTemplate("t", "{{ messages[0] }}").Render([ChatMessage.FromJson(JsonElement.Parse("""{"n": 1, "role": "user"}"""))]));
        Assert.Throws<ArgumentException>(() => ChatMessage.FromJson(JsonElement.Parse("""{"role": 1}""")));
        Assert.Throws<ArgumentException>(() => template.Render([], new() { Variables = new Dictionary<string, JsonElement> { ["messages"] = JsonElement.Parse("1") } }));
    }

    [Fact]
    public void Final_message_is_continued_behind_its_text()
    {
        ChatTemplate template = ChatTemplate.Load(TinyShakespeare.Directory);
        ChatMessage[] messages = [new("user", "hi"), new("assistant", "Well, ")];
        Assert.Equal("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nWell, ", template.Render(messages, new() { ContinueFinalMessage = true }));
        var trimming = new ChatTemplate("t", "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}");
        Assert.Equal("[hi][Well,", trimming.Render(messages, new() { ContinueFinalMessage = true }));
        Assert.Contains("cannot be continued", Assert.Throws<ModelFormatException>(() => new ChatTemplate("t", "x").Render(messages, new() { ContinueFinalMessage = true })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Template_for_tools_is_used_with_tools_and_others_by_their_name()
    {
        _directory.Write("tokenizer_config.json", """{"chat_template":[{"name":"tool_use","template":"t{{ tools | length }}"},{"name":"default","template":"d"},{"name":"rag","template":"{% nosuch %}"}]}""");
        ChatTemplate template = ChatTemplate.Load(_directory.Path);
        Assert.Equal("d", template.Render([]));
        Assert.Equal("t1", template.Render([], new() { Tools = [JsonElement.Parse("{}")] }));
        Assert.Equal("d", template.Render([], new() { Tools = [], TemplateName = "default" }));
        Assert.Contains("'nosuch' is not supported", Assert.Throws<ModelFormatException>(() => template.Render([], new() { TemplateName = "rag" })).Message, StringComparison.Ordinal);
        Assert.Contains("no chat template called 'x', but 'tool_use', 'default', 'rag'", Assert.Throws<ModelFormatException>(() => template.Render([], new() { TemplateName = "x" })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Older_and_additional_files_and_the_map_of_special_tokens_are_read()
    {
        _directory.Write("chat_template.json", """{"chat_template":"old{{ bos_token }}{{ additional_special_tokens }}"}""");
        _directory.Write("special_tokens_map.json", """{"bos_token":{"content":"<s>"},"additional_special_tokens":["<a>",{"content":"<b>"}]}""");
        Assert.Equal("old<s>['<a>', '<b>']", ChatTemplate.Load(_directory.Path).Render([]));
        Directory.CreateDirectory(Path.Combine(_directory.Path, "additional_chat_templates"));
        _directory.Write("additional_chat_templates/tool_use.jinja", "tools");
        Assert.Equal("tools", ChatTemplate.Load(_directory.Path).Render([], new() { Tools = [] }));
        _directory.Write("tokenizer_config.json", """{"chat_template":"new","bos_token":"<t>"}""");
        Assert.Equal("new", ChatTemplate.Load(_directory.Path).Render([]));
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
