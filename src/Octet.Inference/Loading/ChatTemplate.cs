using System.Runtime.CompilerServices;
using System.Text.Json;
using Octet.Inference.Loading.Templates;

namespace Octet.Inference.Loading;

/// <summary>The templates by which a model's conversations become text: chat_template.jinja, or <c>chat_template</c> in tokenizer_config.json.</summary>
/// <remarks>
/// Templates are written in Jinja and render as jinja2 3.1 does with the settings and functions of Hugging Face transformers: an immutable sandbox, <c>trim_blocks</c>,
/// <c>lstrip_blocks</c>, <c>break</c> and <c>continue</c>, <c>generation</c>, <c>tojson</c>, <c>raise_exception</c>, <c>strftime_now</c>. What needs other files or gives a random text is
/// refused, with its place: a prompt is never guessed. Thread-safe.
/// </remarks>
public sealed class ChatTemplate
{
    /// <summary>The name of a template in a file of its own, which goes before the one in tokenizer_config.json.</summary>
    public const string FileName = "chat_template.jinja";

    private const string OldFileName = "chat_template.json";
    private const string MoreTemplates = "additional_chat_templates";
    private const string TokensFileName = "special_tokens_map.json";
    private const string Default = "default";
    private const string ToolUse = "tool_use";

    private static readonly string[] SpecialTokens = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    private readonly Dictionary<string, Lazy<Compiled>> _templates;
    private readonly Dictionary<string, object?> _specialTokens;
    private readonly string _place;

    internal ChatTemplate(string file, string text, Dictionary<string, object?>? specialTokens = null)
        : this(file, new Dictionary<string, TemplateSource> { [Default] = new(file, text) }, specialTokens ?? [])
    {
    }

    private ChatTemplate(string place, Dictionary<string, TemplateSource> sources, Dictionary<string, object?> specialTokens)
    {
        _place = place;
        _specialTokens = specialTokens;
        _templates = sources.ToDictionary(source => source.Key, source => new Lazy<Compiled>(() => new Compiled(source.Value, new TemplateParser(source.Value).Parse())));
        // A template that cannot be used is noticed here rather than in the middle of a conversation.
        _ = _templates.GetValueOrDefault(Default)?.Value;
    }

    private sealed record Compiled(TemplateSource Source, TemplateStatement Body);

    /// <summary>The names of the templates: <c>default</c>, and others if the model has them.</summary>
    public IReadOnlyCollection<string> Names => _templates.Keys;

    /// <summary>Reads the templates in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">There is none, or the default one uses something that is not supported.</exception>
    public static ChatTemplate Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string configuration = Path.Combine(directory, ModelTokenizer.ConfigurationFileName);
        ModelJson? settings = Path.Exists(configuration) ? ModelJson.Read(configuration) : null;
        string own = Path.Combine(directory, FileName);
        string old = Path.Combine(directory, OldFileName);
        var sources = new Dictionary<string, TemplateSource>();
        if (Path.Exists(own))
        {
            sources[Default] = new TemplateSource(own, ModelText.Read(own));
        }
        else if (settings?.Find("chat_template") is { } template)
        {
            AddTemplates(template, $"{configuration}: chat_template", sources);
        }
        else if (Path.Exists(old))
        {
            AddTemplates(ModelJson.Read(old).Get("chat_template"), $"{old}: chat_template", sources);
        }
        string more = Path.Combine(directory, MoreTemplates);
        string[] files = Directory.Exists(more) ? Directory.GetFiles(more, "*.jinja") : [];
        foreach (string file in files.Order(StringComparer.Ordinal))
        {
            sources[Path.GetFileNameWithoutExtension(file)] = new TemplateSource(file, ModelText.Read(file));
        }
        if (sources.Count == 0)
        {
            throw new ModelFormatException($"{directory}: has no chat template, neither {FileName} nor chat_template in {ModelTokenizer.ConfigurationFileName}; use the model without chat");
        }
        return new ChatTemplate(directory, sources, ReadSpecialTokens(directory, settings));
    }

    /// <summary>The text of a conversation, with the opening of the assistant's answer if <paramref name="addGenerationPrompt"/>.</summary>
    /// <exception cref="ModelFormatException">The template refuses these messages, or uses something that is not supported.</exception>
    public string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true) =>
        RenderText(messages, new ChatTemplateOptions { AddGenerationPrompt = addGenerationPrompt }).Value;

    /// <summary>The text of a conversation.</summary>
    /// <remarks>To give it to a model, use <see cref="Encode(ModelTokenizer, IReadOnlyList{ChatMessage}, ChatTemplateOptions)"/>: in the text, a message with <c>&lt;|im_end|&gt;</c> in it looks like two.</remarks>
    /// <exception cref="ModelFormatException">The template refuses these messages, or uses something that is not supported.</exception>
    [OverloadResolutionPriority(1)]
    public string Render(IReadOnlyList<ChatMessage> messages, ChatTemplateOptions options) => RenderText(messages, options).Value;

    /// <summary>The token ids of a conversation: those of its text, in which only the template's own special tokens are such, not those in the messages.</summary>
    /// <exception cref="ModelFormatException">The template refuses these messages, or uses something that is not supported.</exception>
    public int[] Encode(ModelTokenizer tokenizer, IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true) =>
        Encode(tokenizer, messages, new ChatTemplateOptions { AddGenerationPrompt = addGenerationPrompt });

    /// <summary>The token ids of a conversation: those of its text, in which only the template's own special tokens are such, unless <paramref name="options"/> allow the others.</summary>
    /// <remarks>
    /// Where each character came from is followed through all that the template does with it. A special token counts if the template wrote its first and last character, and
    /// nothing between but itself and a role. Text without special tokens in it has the ids of <see cref="ModelTokenizer.Encode(string, bool)"/>.
    /// </remarks>
    /// <exception cref="ModelFormatException">The template refuses these messages, or uses something that is not supported.</exception>
    [OverloadResolutionPriority(1)]
    public int[] Encode(ModelTokenizer tokenizer, IReadOnlyList<ChatMessage> messages, ChatTemplateOptions options)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        TemplateText text = RenderText(messages, options);
        return options.AllowSpecialTokensInContent ? tokenizer.Encode(text.Value) : tokenizer.Encode(text);
    }

    internal TemplateText RenderText(IReadOnlyList<ChatMessage> messages, ChatTemplateOptions options)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ArgumentNullException.ThrowIfNull(options);
        Compiled template = Choose(options);
        var run = new TemplateRun(template.Source, options.Now);
        var globals = new TemplateScope(run, parent: null) { IsGlobal = true };
        TemplateGlobals.Define(globals);
        TemplateScope scope = globals.Inner();
        foreach (var (name, token) in _specialTokens)
        {
            scope.Set(name, token);
        }
        scope.Set("messages", messages.Select(message => (object?)message.ToValue()).ToList());
        scope.Set("add_generation_prompt", options.AddGenerationPrompt && !options.ContinueFinalMessage);
        scope.Set("tools", options.Tools?.Select(TemplateJson.Value).ToList());
        scope.Set("documents", options.Documents?.Select(TemplateJson.Value).ToList());
        if (options.EnableThinking is { } thinks)
        {
            scope.Set("enable_thinking", thinks);
        }
        foreach (var (name, value) in options.Variables ?? new Dictionary<string, JsonElement>())
        {
            if (name == "messages")
            {
                throw new ArgumentException("the variable 'messages' is given by the messages themselves", nameof(options));
            }
            scope.Set(name, TemplateJson.Value(value));
        }
        template.Body(scope);
        TemplateText text = run.Output.Build();
        return options.ContinueFinalMessage ? CutBehindLast(text, messages, template.Source) : text;
    }

    private Compiled Choose(ChatTemplateOptions options)
    {
        string name = options.TemplateName ?? (options.Tools is not null && _templates.ContainsKey(ToolUse) ? ToolUse : Default);
        return _templates.TryGetValue(name, out Lazy<Compiled>? template)
            ? template.Value
            : throw new ModelFormatException($"{_place}: has no chat template called '{name}', but {string.Join(", ", _templates.Keys.Select(known => $"'{known}'"))}");
    }

    // As transformers does: behind the last place where the last message's text stands.
    private static TemplateText CutBehindLast(TemplateText text, IReadOnlyList<ChatMessage> messages, TemplateSource source)
    {
        string? last = messages.Count == 0 ? null : messages[^1].Parts?.LastOrDefault(part => part.Text is not null)?.Text ?? messages[^1].Content;
        if (last is null)
        {
            throw new ArgumentException("there is no last message with a text to continue", nameof(messages));
        }
        string trimmed = last.Trim();
        int at = text.Value.LastIndexOf(trimmed, StringComparison.Ordinal);
        if (at < 0)
        {
            throw new ModelFormatException($"{source.File}: the template does not show the last message as it is, so that it cannot be continued");
        }
        string untrimmedEnd = last.TrimStart();
        int length = text.Value.AsSpan(at).StartsWith(untrimmedEnd) ? untrimmedEnd.Length : trimmed.Length;
        return text.Slice(0, at + length);
    }

    // One template, or several with names.
    private static void AddTemplates(ModelJson template, string place, Dictionary<string, TemplateSource> sources)
    {
        if (template.Element.ValueKind != JsonValueKind.Array)
        {
            sources[Default] = new TemplateSource(place, template.AsText());
            return;
        }
        foreach (ModelJson named in template.Items())
        {
            string name = named.Text("name");
            sources[name] = new TemplateSource($"{place} '{name}'", named.Text("template"));
        }
        if (!sources.ContainsKey(Default))
        {
            throw template.Bad("has no template called 'default'");
        }
    }

    private static Dictionary<string, object?> ReadSpecialTokens(string directory, ModelJson? settings)
    {
        string map = Path.Combine(directory, TokensFileName);
        ModelJson? fallback = Path.Exists(map) ? ModelJson.Read(map) : null;
        var tokens = new Dictionary<string, object?>();
        foreach (string name in SpecialTokens)
        {
            if ((settings?.Find(name) ?? fallback?.Find(name)) is { } token)
            {
                tokens[name] = Token(token);
            }
        }
        const string More = "additional_special_tokens";
        if ((settings?.Find(More) ?? fallback?.Find(More)) is { Element.ValueKind: JsonValueKind.Array } more)
        {
            tokens[More] = more.Items().Select(token => (object?)Token(token)).ToList();
        }
        return tokens;
    }

    private static TemplateText Token(ModelJson token) => TemplateText.Of(token.Element.ValueKind == JsonValueKind.Object ? token.Text("content") : token.AsText());
}
