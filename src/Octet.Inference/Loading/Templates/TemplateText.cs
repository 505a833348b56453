using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>Where a character of a rendered conversation came from; of several, the largest counts.</summary>
internal enum TextOrigin : byte
{
    /// <summary>Written in the template, or made by it of numbers: may be part of a special token.</summary>
    Template,

    /// <summary>The role of a message: a template may put it into a token of its own, as in <c>'&lt;|' + message.role + '|&gt;'</c>.</summary>
    Label,

    /// <summary>What somebody said, or other data: never part of a special token.</summary>
    Data,
}

/// <summary>A Python string that knows where each of its characters came from. Equality, as in Python, is that of the characters.</summary>
internal sealed class TemplateText : IEquatable<TemplateText>
{
    public static readonly TemplateText Empty = new("", TextOrigin.Template);

    // One for each UTF-16 unit; null: all have _origin.
    private readonly TextOrigin[]? _origins;
    private readonly TextOrigin _origin;
    private int _length = -1;

    public TemplateText(string value, TextOrigin origin, bool isMarkup = false)
    {
        Value = value;
        _origin = origin;
        IsMarkup = isMarkup;
    }

    public TemplateText(string value, TextOrigin[] origins, bool isMarkup = false)
        : this(value, TextOrigin.Template, isMarkup) => _origins = origins;

    private TemplateText(TemplateText text, bool isMarkup)
        : this(text.Value, text._origin, isMarkup) => _origins = text._origins;

    public string Value { get; }

    /// <summary>Whether it counts as HTML: other strings joined to it are escaped.</summary>
    public bool IsMarkup { get; }

    /// <summary>In code points, as Python counts.</summary>
    public int Length => _length >= 0 ? _length : _length = HasPairs ? Value.EnumerateRunes().Count() : Value.Length;

    /// <summary>In UTF-16 units.</summary>
    public int Units => Value.Length;

    /// <summary>The largest origin in it.</summary>
    public TextOrigin Origin => _origins is null ? _origin : _origins.Length == 0 ? TextOrigin.Template : _origins.Max();

    /// <summary>Whether all of it came from one place.</summary>
    public bool IsUniform => _origins is null;

    private bool HasPairs => Value.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF');

    public static TemplateText Of(string value) => new(value, TextOrigin.Template);

    public TextOrigin OriginAt(int unit) => _origins is null ? _origin : _origins[unit];

    /// <summary>From one UTF-16 unit up to another.</summary>
    public TemplateText Slice(int begin, int end)
    {
        if (begin == 0 && end == Value.Length)
        {
            return this;
        }
        return _origins is null ? new TemplateText(Value[begin..end], _origin, IsMarkup) : new TemplateText(Value[begin..end], _origins[begin..end], IsMarkup);
    }

    public TemplateText Slice(int begin) => Slice(begin, Value.Length);

    public TemplateText AsMarkup(bool isMarkup) => isMarkup == IsMarkup ? this : new TemplateText(this, isMarkup);

    /// <summary>Another text of as many units, which come from where those of this one came from.</summary>
    public TemplateText WithUnits(string value) => _origins is null ? new TemplateText(value, _origin, IsMarkup) : new TemplateText(value, _origins, IsMarkup);

    /// <summary>The code points, each as a string.</summary>
    public IEnumerable<TemplateText> Characters()
    {
        for (int i = 0; i < Value.Length;)
        {
            int next = Next(i);
            yield return Slice(i, next);
            i = next;
        }
    }

    /// <summary>The UTF-16 unit behind the code point that begins at <paramref name="unit"/>.</summary>
    public int Next(int unit) => unit + (char.IsHighSurrogate(Value[unit]) && unit + 1 < Value.Length && char.IsLowSurrogate(Value[unit + 1]) ? 2 : 1);

    /// <summary>The UTF-16 unit at which a code point begins.</summary>
    public int UnitOf(int codePoint)
    {
        if (Length == Value.Length)
        {
            return codePoint;
        }
        int unit = 0;
        for (int i = 0; i < codePoint; i++)
        {
            unit = Next(unit);
        }
        return unit;
    }

    /// <summary>The number of code points before a UTF-16 unit.</summary>
    public int CodePointOf(int unit) => Length == Value.Length ? unit : Value[..unit].EnumerateRunes().Count();

    public bool Equals(TemplateText? other) => other is not null && string.Equals(Value, other.Value, StringComparison.Ordinal);

    public override bool Equals(object? obj) => Equals(obj as TemplateText);

    public override int GetHashCode() => Value.GetHashCode(StringComparison.Ordinal);

    public override string ToString() => Value;
}

/// <summary>Joins texts.</summary>
internal sealed class TemplateTextBuilder
{
    private readonly StringBuilder _text = new();
    private readonly List<(int End, TextOrigin Origin)> _runs = [];

    public int Units => _text.Length;

    public TemplateTextBuilder Append(TemplateText text) => Append(text, 0, text.Units);

    public TemplateTextBuilder Append(TemplateText text, int begin, int end)
    {
        for (int i = begin; i < end;)
        {
            TextOrigin origin = text.OriginAt(i);
            int j = i + 1;
            while (j < end && text.OriginAt(j) == origin)
            {
                j++;
            }
            Append(text.Value.AsSpan(i, j - i), origin);
            i = j;
        }
        return this;
    }

    public TemplateTextBuilder Append(ReadOnlySpan<char> text, TextOrigin origin)
    {
        if (text.IsEmpty)
        {
            return this;
        }
        _text.Append(text);
        if (_runs is [.., var last] && last.Origin == origin)
        {
            _runs[^1] = (_text.Length, origin);
        }
        else
        {
            _runs.Add((_text.Length, origin));
        }
        return this;
    }

    public TemplateText Build(bool isMarkup = false)
    {
        string text = _text.ToString();
        if (_runs.Count <= 1)
        {
            return new TemplateText(text, _runs.Count == 0 ? TextOrigin.Template : _runs[0].Origin, isMarkup);
        }
        var origins = new TextOrigin[text.Length];
        int begin = 0;
        foreach (var (end, origin) in _runs)
        {
            origins.AsSpan(begin, end - begin).Fill(origin);
            begin = end;
        }
        return new TemplateText(text, origins, isMarkup);
    }
}
