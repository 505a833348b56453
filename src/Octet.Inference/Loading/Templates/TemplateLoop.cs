using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The variable <c>loop</c>: it reads its items one ahead if asked what comes.</summary>
internal sealed class TemplateLoop : ITemplateCallable
{
    private readonly BigInteger? _knownLength;
    private readonly Func<object?, int, object?>? _recurse;
    private IEnumerator<object?> _items;
    private BigInteger? _length;
    private (object? Item, bool Exists)? _after;
    private object? _current;
    private object? _before;
    private TemplateTuple? _lastChanged;

    /// <summary>The loop over <paramref name="items"/>, whose number is known or not.</summary>
    public TemplateLoop(IEnumerable<object?> items, BigInteger? length, int depth, Func<object?, int, object?>? recurse)
    {
        _items = items.GetEnumerator();
        _knownLength = length;
        _recurse = recurse;
        Depth0 = depth;
    }

    public int Index0 { get; private set; } = -1;

    public int Depth0 { get; }

    /// <summary>Goes to the next item.</summary>
    public bool Advance(out object? item)
    {
        (item, bool exists) = Peek();
        _after = null;
        if (exists)
        {
            Index0++;
            _before = _current;
            _current = item;
        }
        return exists;
    }

    public BigInteger Length(TemplateRun run)
    {
        if (_length is null)
        {
            if (_knownLength is null)
            {
                var rest = new List<object?>();
                while (_items.MoveNext())
                {
                    run.Charge(1);
                    rest.Add(_items.Current);
                }
                _items = rest.GetEnumerator();
                _length = rest.Count + Index0 + 1 + (_after is { Exists: true } ? 1 : 0);
            }
            else
            {
                _length = _knownLength;
            }
        }
        return _length.Value;
    }

    public object? Call(TemplateRun run, TemplateArguments arguments)
    {
        if (_recurse is null)
        {
            throw run.Error("'loop' is called, but the loop is not marked 'recursive'");
        }
        return _recurse(arguments.Bind(run, "loop", 1, "iterable")[0], Depth0 + 1);
    }

    /// <summary>The member of a name, if there is one.</summary>
    public bool TryMember(TemplateRun run, string name, out object? member)
    {
        member = name switch
        {
            "index" => (BigInteger)(Index0 + 1),
            "index0" => (BigInteger)Index0,
            "revindex" => Length(run) - Index0,
            "revindex0" => Length(run) - Index0 - 1,
            "first" => Index0 == 0,
            "last" => !Peek().Exists,
            "length" => Length(run),
            "depth" => (BigInteger)(Depth0 + 1),
            "depth0" => (BigInteger)Depth0,
            "previtem" => Index0 > 0 ? _before : new TemplateUndefined("there is no previous item"),
            "nextitem" => Peek() is (var next, true) ? next : new TemplateUndefined("there is no next item"),
            "cycle" => new TemplateFunction("loop.cycle", (inner, arguments) =>
                arguments.Positional.Count > 0 && arguments.Named.Count == 0 ? arguments.Positional[Index0 % arguments.Positional.Count] : throw inner.Error("'loop.cycle' is given no items")),
            "changed" => new TemplateFunction("loop.changed", (inner, arguments) => Changed(inner, arguments)),
            _ => this,
        };
        return member != this;
    }

    private object Changed(TemplateRun run, TemplateArguments arguments)
    {
        var values = new TemplateTuple(arguments.Positional);
        if (arguments.Named.Count > 0)
        {
            throw run.Error($"'loop.changed' has no argument '{arguments.Named[0].Key}'");
        }
        if (_lastChanged is not null && PythonEquality.Equal(run, _lastChanged, values))
        {
            return false;
        }
        _lastChanged = values;
        return true;
    }

    private (object? Item, bool Exists) Peek()
    {
        if (_after is null)
        {
            bool exists = _items.MoveNext();
            _after = (exists ? _items.Current : null, exists);
        }
        return _after.Value;
    }
}

/// <summary>A macro, or the body of a call block.</summary>
internal sealed class TemplateMacro(TemplateMacroDefinition definition, TemplateScope scope) : ITemplateCallable
{
    public TemplateMacroDefinition Definition { get; } = definition;

    public object? Call(TemplateRun run, TemplateArguments arguments)
    {
        TemplateScope inner = scope.Inner();
        string[] names = Definition.Parameters;
        string called = $"the macro '{Definition.Name}'";
        var named = arguments.Named.ToList();
        bool foundCaller = names.Contains("caller");
        for (int i = 0; i < names.Length; i++)
        {
            if (i < arguments.Positional.Count)
            {
                inner.Set(names[i], arguments.Positional[i]);
                continue;
            }
            int at = named.FindIndex(argument => argument.Key == names[i]);
            if (at >= 0)
            {
                inner.Set(names[i], named[at].Value);
                named.RemoveAt(at);
                continue;
            }
            int fallback = i - (names.Length - Definition.Defaults.Length);
            inner.Set(names[i], fallback >= 0 ? Definition.Defaults[fallback](inner) : new TemplateUndefined($"the parameter '{names[i]}' of {called} was not provided"));
        }
        if (Definition.UsesCaller && !foundCaller)
        {
            int at = named.FindIndex(argument => argument.Key == "caller");
            inner.Set("caller", at >= 0 && named[at].Value is { } caller ? caller : new TemplateUndefined($"{called} has no caller"));
            named.RemoveAll(argument => argument.Key == "caller");
        }
        if (Definition.TakesNamed)
        {
            var rest = new TemplateDictionary();
            named.ForEach(argument => rest.Set(argument.Key, argument.Value));
            inner.Set("kwargs", rest);
        }
        else if (named.Count > 0)
        {
            throw run.Error($"{called} takes no argument '{named[0].Key}'");
        }
        if (Definition.TakesMore)
        {
            inner.Set("varargs", new TemplateTuple(arguments.Positional[Math.Min(names.Length, arguments.Positional.Count)..]));
        }
        else if (arguments.Positional.Count > names.Length)
        {
            throw run.Error($"{called} takes at most {names.Length} arguments, here are {arguments.Positional.Count}");
        }
        return run.Capture(() => Definition.Body(inner));
    }
}

/// <summary>What is written about a macro; the last parameters have the defaults. Whether it takes more arguments than named follows from its body.</summary>
internal sealed record TemplateMacroDefinition(
    string? Name, string[] Parameters, TemplateExpression[] Defaults, TemplateStatement Body, bool UsesCaller, bool TakesMore, bool TakesNamed);
