using System.Globalization;
using System.Text;

namespace Octet.Inference.Loading;

/// <summary>A Jinja template and where it came from.</summary>
internal sealed class TemplateSource
{
    private const int LongestTemplate = 1 << 18;

    public TemplateSource(string file, string text)
    {
        File = file;
        // As Jinja does: line ends are \n, and one at the very end does not count.
        text = text.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        Text = text.EndsWith('\n') ? text[..^1] : text;
        if (Text.Length > LongestTemplate)
        {
            throw new ModelFormatException($"{file}: the template has {Text.Length} characters, more than {LongestTemplate}");
        }
    }

    public string File { get; }

    public string Text { get; }

    /// <summary>The complaint about what stands at <paramref name="position"/>.</summary>
    public ModelFormatException Bad(int position, string problem)
    {
        const int Shown = 40;
        position = Math.Min(position, Text.Length);
        ReadOnlySpan<char> before = Text.AsSpan(0, position);
        int line = before.Count('\n') + 1;
        int column = position - before.LastIndexOf('\n');
        string near = Text.Substring(position, Math.Min(Shown, Text.Length - position));
        return new ModelFormatException($"{File}: line {line}, column {column}: {problem}, at '{near}'");
    }
}

internal enum TemplateTokenKind
{
    Text,
    Name,
    Integer,
    String,
    Operator,
    BeginOutput,
    BeginStatement,

    /// <summary>The end of an output or a statement.</summary>
    EndTag,
    EndOfTemplate,
}

internal readonly record struct TemplateToken(TemplateTokenKind Kind, string Text, int Position);

/// <summary>Cuts a template into text and the tokens of its <c>{{ outputs }}</c> and <c>{% statements %}</c>, applying the white-space rules.</summary>
internal sealed class TemplateLexer
{
    // Longest first.
    private static readonly string[] Operators =
        ["==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ",", ":", "|", "(", ")", "[", "]", "{", "}"];

    private readonly TemplateSource _source;
    private readonly string _text;
    private readonly List<TemplateToken> _tokens = [];
    private int _position;

    private TemplateLexer(TemplateSource source)
    {
        _source = source;
        _text = source.Text;
    }

    public static List<TemplateToken> Tokenize(TemplateSource source)
    {
        var lexer = new TemplateLexer(source);
        lexer.Run();
        return lexer._tokens;
    }

    /// <summary>What Python calls white space.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    private void Run()
    {
        while (_position < _text.Length)
        {
            int begin = _position;
            int tag = FindTag(begin);
            if (tag < 0)
            {
                Add(TemplateTokenKind.Text, _text[begin..], begin);
                break;
            }
            char kind = _text[tag + 1];
            char control = tag + 2 < _text.Length && _text[tag + 2] is '-' or '+' ? _text[tag + 2] : ' ';
            int end = TextEnd(begin, tag, kind, control);
            if (end > begin)
            {
                Add(TemplateTokenKind.Text, _text[begin..end], begin);
            }
            _position = tag + (control == ' ' ? 2 : 3);
            switch (kind)
            {
                case '{':
                    Add(TemplateTokenKind.BeginOutput, "{{", tag);
                    ReadTag('}', tag);
                    break;
                case '%':
                    Add(TemplateTokenKind.BeginStatement, "{%", tag);
                    ReadTag('%', tag);
                    break;
                default:
                    SkipComment(tag);
                    break;
            }
        }
        Add(TemplateTokenKind.EndOfTemplate, "", _text.Length);
    }

    private int FindTag(int from)
    {
        for (int i = _text.IndexOf('{', from); i >= 0 && i + 1 < _text.Length; i = _text.IndexOf('{', i + 1))
        {
            if (_text[i + 1] is '{' or '%' or '#')
            {
                return i;
            }
        }
        return -1;
    }

    // "-" takes all white space before a tag; else that of the line before a statement or comment goes if nothing else is on it (lstrip_blocks).
    private int TextEnd(int begin, int tag, char kind, char control)
    {
        int end = tag;
        if (control == '-')
        {
            while (end > begin && IsSpace(_text[end - 1]))
            {
                end--;
            }
        }
        else if (control == ' ' && kind != '{')
        {
            while (end > begin && IsSpace(_text[end - 1]) && _text[end - 1] != '\n')
            {
                end--;
            }
            bool startsLine = end == 0 || _text[end - 1] == '\n';
            end = startsLine ? end : tag;
        }
        return end;
    }

    private void ReadTag(char close, int tag)
    {
        while (true)
        {
            while (_position < _text.Length && IsSpace(_text[_position]))
            {
                _position++;
            }
            if (_position >= _text.Length)
            {
                throw _source.Bad(tag, "a tag is not closed");
            }
            char control = _text[_position] is '-' or '+' && IsClose(_position + 1, close) ? _text[_position] : ' ';
            if (control != ' ' || IsClose(_position, close))
            {
                Add(TemplateTokenKind.EndTag, "", _position);
                _position += control == ' ' ? 2 : 3;
                AfterTag(control, trimsLineEnd: close == '%');
                return;
            }
            ReadToken();
        }
    }

    private bool IsClose(int position, char close) => position + 1 < _text.Length && _text[position] == close && _text[position + 1] == '}';

    private void SkipComment(int tag)
    {
        int close = _text.IndexOf("#}", _position, StringComparison.Ordinal);
        if (close < 0)
        {
            throw _source.Bad(tag, "a comment is not closed");
        }
        char control = close > _position && _text[close - 1] is '-' or '+' ? _text[close - 1] : ' ';
        _position = close + 2;
        AfterTag(control, trimsLineEnd: true);
    }

    // "-" takes all white space behind a tag; else a line end directly behind a statement or comment goes (trim_blocks).
    private void AfterTag(char control, bool trimsLineEnd)
    {
        if (control == '-')
        {
            while (_position < _text.Length && IsSpace(_text[_position]))
            {
                _position++;
            }
        }
        else if (control == ' ' && trimsLineEnd && _position < _text.Length && _text[_position] == '\n')
        {
            _position++;
        }
    }

    private void ReadToken()
    {
        int begin = _position;
        char c = _text[begin];
        if (char.IsAsciiLetter(c) || c == '_')
        {
            while (_position < _text.Length && (char.IsAsciiLetterOrDigit(_text[_position]) || _text[_position] == '_'))
            {
                _position++;
            }
            Add(TemplateTokenKind.Name, _text[begin.._position], begin);
        }
        else if (char.IsAsciiDigit(c))
        {
            while (_position < _text.Length && char.IsAsciiDigit(_text[_position]))
            {
                _position++;
            }
            if (_position < _text.Length && (char.IsAsciiLetter(_text[_position]) || _text[_position] is '_' or '.'))
            {
                throw _source.Bad(begin, "only plain integers are supported as numbers");
            }
            Add(TemplateTokenKind.Integer, _text[begin.._position], begin);
        }
        else if (c is '\'' or '"')
        {
            Add(TemplateTokenKind.String, ReadString(c), begin);
        }
        else
        {
            string? found = Array.Find(Operators, text => string.CompareOrdinal(_text, begin, text, 0, text.Length) == 0);
            Add(TemplateTokenKind.Operator, found ?? throw _source.Bad(begin, "an unexpected character"), begin);
            _position += found.Length;
        }
    }

    private string ReadString(char quote)
    {
        int begin = _position++;
        var value = new StringBuilder();
        while (_position < _text.Length && _text[_position] != quote)
        {
            char c = _text[_position++];
            value.Append(c == '\\' && _position < _text.Length ? ReadEscape() : c);
        }
        if (_position++ >= _text.Length)
        {
            throw _source.Bad(begin, "a string is not closed");
        }
        return value.ToString();
    }

    private char ReadEscape()
    {
        char c = _text[_position++];
        int digits = c switch { 'x' => 2, 'u' => 4, _ => 0 };
        if (digits > 0)
        {
            if (_position + digits > _text.Length || !ushort.TryParse(_text.AsSpan(_position, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort unit))
            {
                throw _source.Bad(_position - 2, "an escape lacks its digits");
            }
            _position += digits;
            return (char)unit;
        }
        return c switch
        {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '\\' or '\'' or '"' => c,
            _ => throw _source.Bad(_position - 2, "an escape that is not supported"),
        };
    }

    private void Add(TemplateTokenKind kind, string text, int position) => _tokens.Add(new TemplateToken(kind, text, position));
}
