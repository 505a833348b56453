using System.Numerics;

namespace Octet.Inference.Loading.Templates;

// The values of a template: null, bool, BigInteger, double, TemplateText, List<object?>, and the classes below. Of these a template can change none but
// a namespace, a cycler and a joiner; an iterator is used up by reading it.

/// <summary>What a name or member that does not exist evaluates to: no text, no items, false; most other uses are an error.</summary>
internal sealed record TemplateUndefined(string Message)
{
    public static TemplateUndefined Name(string name) => new($"'{name}' is undefined");
}

/// <summary>A Python tuple, whose items may have names.</summary>
internal sealed class TemplateTuple(List<object?> items, params string[] names)
{
    public List<object?> Items { get; } = items;

    public string[] Names { get; } = names;
}

/// <summary>A Python dictionary: in the order of insertion.</summary>
internal sealed class TemplateDictionary
{
    private static readonly object None = new();
    private readonly Dictionary<object, int> _index = new(PythonEquality.Comparer);

    public List<KeyValuePair<object?, object?>> Entries { get; } = [];

    public int Count => Entries.Count;

    /// <summary>Adds or replaces; the key must be hashable.</summary>
    public void Set(object? key, object? value)
    {
        if (_index.TryGetValue(key ?? None, out int at))
        {
            Entries[at] = new(Entries[at].Key, value);
            return;
        }
        _index.Add(key ?? None, Entries.Count);
        Entries.Add(new(key, value));
    }

    public void Set(string key, object? value) => Set(TemplateText.Of(key), value);

    public bool TryGet(object? key, out object? value)
    {
        bool found = _index.TryGetValue(key ?? None, out int at);
        value = found ? Entries[at].Value : null;
        return found;
    }

    public bool TryGet(string key, out object? value) => TryGet(TemplateText.Of(key), out value);
}

/// <summary>What the dictionary methods <c>keys</c>, <c>values</c> and <c>items</c> return.</summary>
internal sealed class TemplateView(string kind, TemplateDictionary dictionary)
{
    public string Kind { get; } = kind;

    public TemplateDictionary Dictionary { get; } = dictionary;

    public IEnumerable<object?> Items() => Dictionary.Entries.Select(entry => Kind switch
    {
        "keys" => entry.Key,
        "values" => entry.Value,
        _ => new TemplateTuple([entry.Key, entry.Value]),
    });
}

/// <summary>A Python range.</summary>
internal sealed class TemplateRange(BigInteger start, BigInteger stop, BigInteger step)
{
    public BigInteger Start { get; } = start;

    public BigInteger Stop { get; } = stop;

    public BigInteger Step { get; } = step;

    public BigInteger Count { get; } = BigInteger.Max(0, step.Sign > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step);

    public object At(int index) => Start + (index * Step);

    public IEnumerable<object?> Items()
    {
        for (int i = 0; i < Count; i++)
        {
            yield return At(i);
        }
    }
}

/// <summary>What can be read once, such as the result of the filter <c>map</c>.</summary>
internal sealed class TemplateIterator(IEnumerable<object?> items)
{
    private readonly IEnumerator<object?> _items = items.GetEnumerator();

    public IEnumerable<object?> Rest()
    {
        while (_items.MoveNext())
        {
            yield return _items.Current;
        }
    }
}

/// <summary>The result of <c>namespace()</c>.</summary>
internal sealed class TemplateNamespace(TemplateDictionary members)
{
    public TemplateDictionary Members { get; } = members;
}

/// <summary>The result of <c>cycler()</c>.</summary>
internal sealed class TemplateCycler(List<object?> items)
{
    private int _position;

    public List<object?> Items { get; } = items;

    public int Position => _position;

    public object? Current => Items[_position];

    public object? Next()
    {
        object? current = Current;
        _position = (_position + 1) % Items.Count;
        return current;
    }

    public void Reset() => _position = 0;
}

/// <summary>The variable <c>self</c>, whose members would be the blocks of the template.</summary>
internal sealed class TemplateBlocks;

/// <summary>What a template can call.</summary>
internal interface ITemplateCallable
{
    object? Call(TemplateRun run, TemplateArguments arguments);
}

/// <summary>A function or method that is built in.</summary>
internal sealed class TemplateFunction(string name, Func<TemplateRun, TemplateArguments, object?> body) : ITemplateCallable
{
    public string Name { get; } = name;

    public object? Call(TemplateRun run, TemplateArguments arguments) => body(run, arguments);
}
