using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">Who speaks: usually <c>system</c>, <c>user</c> or <c>assistant</c>.</param>
/// <param name="Content">What is said.</param>
public sealed record ChatMessage(string Role, string Content);

/// <summary>The template by which a model's conversations become text: chat_template.jinja, or <c>chat_template</c> in tokenizer_config.json.</summary>
/// <remarks>
/// Templates are written in Jinja, of which the part that chat templates use is supported, with the meaning and the settings it has in Hugging Face
/// transformers (<c>trim_blocks</c>, <c>lstrip_blocks</c>). Anything else is refused, with its text and position: a prompt is never guessed. Thread-safe.
/// </remarks>
public sealed class ChatTemplate
{
    /// <summary>The name of a template in a file of its own, which goes before the one in tokenizer_config.json.</summary>
    public const string FileName = "chat_template.jinja";

    private static readonly string[] SpecialTokens = ["bos_token", "eos_token", "pad_token", "unk_token"];
    private readonly TemplateSource _source;
    private readonly TemplateStatement _body;
    private readonly Dictionary<string, object?> _specialTokens;

    internal ChatTemplate(string file, string text, Dictionary<string, object?>? specialTokens = null)
    {
        _source = new TemplateSource(file, text);
        _body = new TemplateParser(_source).Parse();
        _specialTokens = specialTokens ?? [];
    }

    /// <summary>Reads the template in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">There is none, or it uses something that is not supported.</exception>
    public static ChatTemplate Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string own = Path.Combine(directory, FileName);
        string configuration = Path.Combine(directory, ModelTokenizer.ConfigurationFileName);
        ModelJson? settings = Path.Exists(configuration) ? ModelJson.Read(configuration) : null;
        Dictionary<string, object?> specialTokens = ReadSpecialTokens(settings);
        if (Path.Exists(own))
        {
            return new ChatTemplate(own, ModelText.Read(own), specialTokens);
        }
        return settings?.Find("chat_template") is { } template
            ? new ChatTemplate($"{configuration}: chat_template", Default(template), specialTokens)
            : throw new ModelFormatException($"{directory}: has no chat template, neither {FileName} nor chat_template in {ModelTokenizer.ConfigurationFileName}; use the model without chat");
    }

    /// <summary>The text of a conversation, with the opening of the assistant's answer if <paramref name="addGenerationPrompt"/>.</summary>
    /// <exception cref="ModelFormatException">The template refuses these messages, or uses something that is not supported.</exception>
    public string Render(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var scope = new TemplateScope(new TemplateRun(_source), parent: null);
        foreach (var (name, token) in _specialTokens)
        {
            scope.Set(name, token);
        }
        scope.Set("messages", messages.Select(message => (object?)new Dictionary<string, object?> { ["role"] = message.Role, ["content"] = message.Content }).ToList());
        scope.Set("add_generation_prompt", addGenerationPrompt);
        scope.Set("tools", null);
        scope.Set("documents", null);
        _body(scope);
        return scope.Run.Output.ToString();
    }

    private static string Default(ModelJson template)
    {
        if (template.Element.ValueKind != JsonValueKind.Array)
        {
            return template.AsText();
        }
        foreach (ModelJson named in template.Items())
        {
            if (named.Text("name") == "default")
            {
                return named.Text("template");
            }
        }
        throw template.Bad("has no template called 'default'");
    }

    private static Dictionary<string, object?> ReadSpecialTokens(ModelJson? settings)
    {
        var tokens = new Dictionary<string, object?>();
        foreach (string name in SpecialTokens)
        {
            if (settings?.Find(name) is { } token)
            {
                tokens[name] = token.Element.ValueKind == JsonValueKind.Object ? token.Text("content") : token.AsText();
            }
        }
        return tokens;
    }
}
