using System.Globalization;

namespace Octet.Inference.Loading.Templates;

internal enum TemplateTokenKind
{
    Text,
    Name,
    Integer,
    Float,
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
    private const int DeepestBrackets = 256;

    // Longest first.
    private static readonly string[] Operators =
        ["==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ",", ":", "|", "(", ")", "[", "]", "{", "}"];

    private readonly TemplateSource _source;
    private readonly string _text;
    private readonly List<TemplateToken> _tokens = [];
    private readonly Stack<char> _open = new();
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
            AddText(begin, tag, kind, control);
            _position = tag + (control == ' ' ? 2 : 3);
            switch (kind)
            {
                case '{':
                    Add(TemplateTokenKind.BeginOutput, "{{", tag);
                    ReadTag('}', tag);
                    break;
                case '%' when !ReadRaw(tag):
                    Add(TemplateTokenKind.BeginStatement, "{%", tag);
                    ReadTag('%', tag);
                    break;
                case '#':
                    SkipComment(tag);
                    break;
                default:
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
    private void AddText(int begin, int tag, char kind, char control)
    {
        int end = tag;
        if (control == '-')
        {
            while (end > begin && PythonCharacters.IsSpace(_text[end - 1]))
            {
                end--;
            }
        }
        else if (control == ' ' && kind != '{')
        {
            while (end > begin && PythonCharacters.IsSpace(_text[end - 1]) && _text[end - 1] != '\n')
            {
                end--;
            }
            bool startsLine = end == 0 || _text[end - 1] == '\n';
            end = startsLine ? end : tag;
        }
        if (end > begin)
        {
            Add(TemplateTokenKind.Text, _text[begin..end], begin);
        }
    }

    private void ReadTag(char close, int tag)
    {
        _open.Clear();
        while (true)
        {
            SkipSpace();
            if (_position >= _text.Length)
            {
                throw _source.Bad(tag, "a tag is not closed");
            }
            // Inside of brackets, }} are two of them.
            if (_open.Count == 0)
            {
                char control = _text[_position] is '-' || (_text[_position] == '+' && close == '%') ? _text[_position] : ' ';
                control = IsClose(_position + 1, close) ? control : ' ';
                if (control != ' ' || IsClose(_position, close))
                {
                    Add(TemplateTokenKind.EndTag, "", _position);
                    _position += control == ' ' ? 2 : 3;
                    AfterTag(control, trimsLineEnd: close == '%');
                    return;
                }
            }
            ReadToken();
        }
    }

    private bool IsClose(int position, char close) => position + 1 < _text.Length && _text[position] == close && _text[position + 1] == '}';

    // {% raw %} up to {% endraw %} is text. Unlike other statements, raw keeps the line end behind it.
    private bool ReadRaw(int tag)
    {
        int position = _position;
        if (!ReadWord("raw", ref position))
        {
            return false;
        }
        bool strips = position < _text.Length && _text[position] == '-';
        position += strips ? 1 : 0;
        if (!IsClose(position, '%'))
        {
            return false;
        }
        _position = position + 2;
        if (strips)
        {
            SkipSpace();
        }
        int begin = _position;
        // What would be text begins nowhere: Jinja does not mind.
        if (begin == _text.Length)
        {
            return true;
        }
        for (int end = _text.IndexOf("{%", begin, StringComparison.Ordinal); end >= 0; end = _text.IndexOf("{%", end + 1, StringComparison.Ordinal))
        {
            char control = end + 2 < _text.Length && _text[end + 2] is '-' or '+' ? _text[end + 2] : ' ';
            position = end + (control == ' ' ? 2 : 3);
            if (!ReadWord("endraw", ref position) || position >= _text.Length)
            {
                continue;
            }
            char after = _text[position] is '-' or '+' ? _text[position] : ' ';
            position += after == ' ' ? 0 : 1;
            if (IsClose(position, '%'))
            {
                AddText(begin, end, '%', control);
                _position = position + 2;
                AfterTag(after, trimsLineEnd: true);
                return true;
            }
        }
        throw _source.Bad(tag, "'raw' is not ended");
    }

    private bool ReadWord(string word, ref int position)
    {
        int at = position;
        SkipSpace(ref at);
        if (string.CompareOrdinal(_text, at, word, 0, word.Length) != 0)
        {
            return false;
        }
        position = at + word.Length;
        SkipSpace(ref position);
        return true;
    }

    private void SkipComment(int tag)
    {
        int close = _text.IndexOf("#}", _position, StringComparison.Ordinal);
        if (close < 0)
        {
            if (_position == _text.Length)
            {
                return;
            }
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
            SkipSpace();
        }
        else if (control == ' ' && trimsLineEnd && _position < _text.Length && _text[_position] == '\n')
        {
            _position++;
        }
    }

    private void SkipSpace() => SkipSpace(ref _position);

    private void SkipSpace(ref int position)
    {
        while (position < _text.Length && PythonCharacters.IsSpace(_text[position]))
        {
            position++;
        }
    }

    private void ReadToken()
    {
        int begin = _position;
        char c = _text[begin];
        if (char.IsAsciiDigit(c))
        {
            ReadNumber();
        }
        else if (IsNamePart(begin) && !IsDigit(begin))
        {
            while (_position < _text.Length && IsNamePart(_position))
            {
                _position += char.IsHighSurrogate(_text[_position]) ? 2 : 1;
            }
            Add(TemplateTokenKind.Name, _text[begin.._position], begin);
        }
        else if (c is '\'' or '"')
        {
            int end = begin + 1;
            while (end < _text.Length && _text[end] != c)
            {
                end += _text[end] == '\\' ? 2 : 1;
            }
            if (end >= _text.Length)
            {
                throw _source.Bad(begin, "a string is not closed");
            }
            _position = end + 1;
            Add(TemplateTokenKind.String, TemplateStrings.Unescape(_source, begin + 1, end), begin);
        }
        else
        {
            string? found = Array.Find(Operators, text => string.CompareOrdinal(_text, begin, text, 0, text.Length) == 0);
            Add(TemplateTokenKind.Operator, found ?? throw _source.Bad(begin, "an unexpected character"), begin);
            Balance(found[0], begin);
            _position += found.Length;
        }
    }

    private void Balance(char bracket, int position)
    {
        switch (bracket)
        {
            case '(' or '[' or '{' when _open.Count == DeepestBrackets:
                throw _source.Bad(position, $"more than {DeepestBrackets} levels of nesting");
            case '(' or '[' or '{':
                _open.Push(bracket == '(' ? ')' : (char)(bracket + 2));
                break;
            case ')' or ']' or '}' when !_open.TryPop(out char expected) || expected != bracket:
                throw _source.Bad(position, $"'{bracket}' closes nothing");
        }
    }

    private void ReadNumber()
    {
        int begin = _position;
        bool afterDot = begin > 0 && _text[begin - 1] == '.';
        if (_text[begin] == '0' && begin + 2 < _text.Length && char.ToLowerInvariant(_text[begin + 1]) is 'x' or 'o' or 'b' && IsDigitOf(_text[begin + 1], begin + 2))
        {
            char kind = _text[begin + 1];
            _position += 2;
            while (IsDigitOf(kind, _position))
            {
                _position++;
            }
            Add(TemplateTokenKind.Integer, _text[begin.._position].Replace("_", "", StringComparison.Ordinal), begin);
            return;
        }
        int end = Digits(begin);
        int whole = end;
        if (!afterDot && end + 1 < _text.Length && _text[end] == '.' && char.IsAsciiDigit(_text[end + 1]))
        {
            end = Digits(end + 1);
        }
        if (!afterDot && end < _text.Length && _text[end] is 'e' or 'E')
        {
            int exponent = end + 1 < _text.Length && _text[end + 1] is '+' or '-' ? end + 2 : end + 1;
            end = exponent < _text.Length && char.IsAsciiDigit(_text[exponent]) ? Digits(exponent) : end;
        }
        if (end == whole && _text[begin] == '0')
        {
            // Python has no decimal integers that begin with 0, other than zero itself.
            while (end > begin + 1 && _text.AsSpan(begin, end - begin).ContainsAnyExcept('0', '_'))
            {
                end--;
            }
        }
        _position = end;
        Add(end == whole || _text.AsSpan(begin, end - begin).IndexOfAny('.', 'e', 'E') < 0 ? TemplateTokenKind.Integer : TemplateTokenKind.Float, _text[begin..end].Replace("_", "", StringComparison.Ordinal), begin);
    }

    private int Digits(int position)
    {
        while (position < _text.Length && (char.IsAsciiDigit(_text[position]) || (_text[position] == '_' && position + 1 < _text.Length && char.IsAsciiDigit(_text[position + 1]))))
        {
            position++;
        }
        return position;
    }

    private bool IsDigitOf(char kind, int position)
    {
        if (position >= _text.Length)
        {
            return false;
        }
        if (_text[position] == '_')
        {
            return position + 1 < _text.Length && _text[position + 1] != '_' && IsDigitOf(kind, position + 1);
        }
        return char.ToLowerInvariant(kind) switch
        {
            'x' => char.IsAsciiHexDigit(_text[position]),
            'o' => _text[position] is >= '0' and <= '7',
            _ => _text[position] is '0' or '1',
        };
    }

    private bool IsDigit(int position) => CharUnicodeInfo.GetUnicodeCategory(_text, position) == UnicodeCategory.DecimalDigitNumber;

    private bool IsNamePart(int position) => _text[position] == '_' || CharUnicodeInfo.GetUnicodeCategory(_text, position) is
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or UnicodeCategory.ModifierLetter
        or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber or UnicodeCategory.DecimalDigitNumber or UnicodeCategory.NonSpacingMark
        or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.ConnectorPunctuation;

    private void Add(TemplateTokenKind kind, string text, int position) => _tokens.Add(new TemplateToken(kind, text, position));
}
