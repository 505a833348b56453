using System.Globalization;
using System.Numerics;
using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>Python's <c>repr()</c>: what values look like in print.</summary>
internal static class PythonRepr
{
    public static TemplateText Of(TemplateRun run, object? value)
    {
        switch (value)
        {
            case null:
                return TemplateText.Of("None");
            case bool flag:
                return TemplateText.Of(flag ? "True" : "False");
            case BigInteger number:
                return TemplateText.Of(PythonNumbers.Text(run, number));
            case double number:
                return TemplateText.Of(PythonNumbers.Text(number));
            default:
                var text = new TemplateTextBuilder();
                Write(run, value, text, 0);
                return text.Build();
        }
    }

    private static void Write(TemplateRun run, object? value, TemplateTextBuilder text, int depth)
    {
        run.Charge(1);
        PythonEquality.CheckDepth(run, depth);
        switch (value)
        {
            case TemplateText { IsMarkup: true } markup:
                Write("Markup(");
                WriteString(run, markup, text);
                Write(")");
                break;
            case TemplateText inner:
                WriteString(run, inner, text);
                break;
            case List<object?> list:
                Write("[");
                WriteItems(list);
                Write("]");
                break;
            case TemplateTuple tuple:
                Write("(");
                WriteItems(tuple.Items);
                Write(tuple.Items.Count == 1 ? ",)" : ")");
                break;
            case TemplateDictionary dictionary:
                WriteEntries(dictionary);
                break;
            case TemplateView view:
                Write($"dict_{view.Kind}([");
                WriteItems([.. view.Items()]);
                Write("])");
                break;
            case TemplateNamespace space:
                Write("<Namespace ");
                WriteEntries(space.Members);
                Write(">");
                break;
            case TemplateRange range:
                Write($"range({range.Start}, {range.Stop}{(range.Step.IsOne ? "" : $", {range.Step}")})");
                break;
            case TemplateMacro macro:
                Write(macro.Definition.Name is { } name ? $"<Macro '{name}'>" : "<Macro anonymous>");
                break;
            case TemplateLoop loop:
                Write($"<LoopContext {loop.Index0 + 1}/{loop.Length(run)}>");
                break;
            case TemplateUndefined:
                Write("Undefined");
                break;
            case TemplateFunction { Name: "dict" }:
                Write("<class 'dict'>");
                break;
            case null or bool or BigInteger or double:
                text.Append(Of(run, value));
                break;
            default:
                throw run.Error($"{TemplateRun.Describe(value)} as text is not supported");
        }

        // What stands between the parts must not complete a token any more than they.
        void Write(string part) => text.Append(part, TextOrigin.Data);

        void WriteItems(List<object?> items)
        {
            for (int i = 0; i < items.Count; i++)
            {
                Write(i == 0 ? "" : ", ");
                PythonRepr.Write(run, items[i], text, depth + 1);
            }
        }

        void WriteEntries(TemplateDictionary dictionary)
        {
            Write("{");
            for (int i = 0; i < dictionary.Count; i++)
            {
                Write(i == 0 ? "" : ", ");
                PythonRepr.Write(run, dictionary.Entries[i].Key, text, depth + 1);
                Write(": ");
                PythonRepr.Write(run, dictionary.Entries[i].Value, text, depth + 1);
            }
            Write("}");
        }
    }

    private static void WriteString(TemplateRun run, TemplateText value, TemplateTextBuilder text)
    {
        run.Charge(value.Units);
        char quote = value.Value.Contains('\'') && !value.Value.Contains('"') ? '"' : '\'';
        text.Append([quote], TextOrigin.Data);
        int plain = 0;
        for (int i = 0; i < value.Units;)
        {
            int next = value.Next(i);
            string? escape = Escape(value.Value.AsSpan(i, next - i), quote);
            if (escape is not null)
            {
                text.Append(value, plain, i).Append(escape, value.OriginAt(i));
                plain = next;
            }
            i = next;
        }
        text.Append(value, plain, value.Units);
        text.Append([quote], TextOrigin.Data);
    }

    private static string? Escape(ReadOnlySpan<char> character, char quote)
    {
        switch (character[0])
        {
            case '\\':
                return "\\\\";
            case '\n':
                return "\\n";
            case '\r':
                return "\\r";
            case '\t':
                return "\\t";
            case var c when c == quote:
                return "\\" + c;
        }
        bool whole = Rune.DecodeFromUtf16(character, out Rune rune, out _) == System.Buffers.OperationStatus.Done;
        int code = whole ? rune.Value : character[0];
        return whole && PythonCharacters.IsPrintable(rune)
            ? null
            : string.Create(CultureInfo.InvariantCulture, $"\\{(code > 0xFFFF ? $"U{code:x8}" : code > 0xFF ? $"u{code:x4}" : $"x{code:x2}")}");
    }
}
