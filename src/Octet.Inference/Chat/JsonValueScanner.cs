namespace Octet.Inference.Chat;

/// <summary>Finds the end of a JSON value in text that comes piece by piece: where its brackets are closed.</summary>
internal struct JsonValueScanner
{
    private int _depth;
    private bool _inString;
    private bool _escaped;
    private bool _isScalar;

    /// <summary>Whether the value has ended.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>How many characters of the text belong to the value.</summary>
    public int Scan(ReadOnlySpan<char> text)
    {
        for (var i = 0; i < text.Length; i++)
        {
            var c = text[i];
            if (_inString)
            {
                _inString = _escaped || c != '"';
                _escaped = !_escaped && c == '\\';
                IsComplete = !_inString && _depth == 0;
            }
            else if (_isScalar && c is ',' or '}' or ']' or ' ' or '\n' or '\r' or '\t' && _depth == 0)
            {
                // What ends a number or a word is not of it.
                IsComplete = true;
                return i;
            }
            else
            {
                Structure(c);
            }

            if (IsComplete)
            {
                return i + 1;
            }
        }

        return text.Length;
    }

    private void Structure(char c)
    {
        switch (c)
        {
            case '"':
                _inString = true;
                break;
            case '{' or '[':
                _depth++;
                break;
            case '}' or ']':
                IsComplete = --_depth <= 0;
                break;
            default:
                _isScalar |= _depth == 0;
                break;
        }
    }
}
