using System.Numerics;
using System.Runtime.CompilerServices;

namespace Octet.Inference.Loading.Templates;

/// <summary>How a statement ended: on, or out of the loop around it.</summary>
internal enum TemplateFlow
{
    Next,
    Break,
    Continue,
}

/// <summary>One rendering: its output, what it may spend, and the operations on values that all others need.</summary>
internal sealed class TemplateRun(TemplateSource source, DateTimeOffset? now)
{
    // Roughly the characters that may be read or made; it bounds time and memory, whatever the loops of a template do.
    private const long Budget = 100_000_000;
    private const int DeepestCalls = 200;
    private long _spent;
    private int _calls;

    /// <summary>Where the template is: each operation sets it before it begins.</summary>
    public int Position { get; set; }

    public TemplateTextBuilder Output { get; private set; } = new();

    public DateTimeOffset Now => now ?? DateTimeOffset.Now;

    public ModelFormatException Error(string problem) => source.Bad(Position, problem);

    public ModelFormatException Error(TemplateUndefined undefined) => Error(undefined.Message);

    public void Charge(long cost)
    {
        _spent += Math.Max(0, cost) + 1;
        if (_spent > Budget)
        {
            throw Error($"the template does more than {Budget} steps");
        }
    }

    /// <summary>The cost of searching in a text.</summary>
    public void ChargeSearch(TemplateText text, TemplateText sought) => Charge(text.Units * (1 + (sought.Units / 8L)));

    public void Write(TemplateText text)
    {
        Charge(text.Units);
        Output.Append(text);
    }

    /// <summary>The text that a part of the template writes.</summary>
    public TemplateText Capture(Action write)
    {
        TemplateTextBuilder outer = Output;
        Output = new TemplateTextBuilder();
        write();
        TemplateText text = Output.Build();
        Output = outer;
        Charge(text.Units);
        return text;
    }

    public object? Call(object? callee, TemplateArguments arguments)
    {
        Charge(arguments.Positional.Count);
        switch (callee)
        {
            case TemplateUndefined undefined:
                throw Error(undefined);
            case ITemplateCallable callable:
                if (++_calls > DeepestCalls || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
                {
                    throw Error("the calls are nested too deeply");
                }
                object? result = callable.Call(this, arguments);
                _calls--;
                return result;
            default:
                throw Error($"{Describe(callee)} cannot be called");
        }
    }

    /// <summary>Python's <c>str()</c>.</summary>
    public TemplateText Text(object? value)
    {
        if (value is TemplateText text)
        {
            return text.AsMarkup(false);
        }
        Charge(0);
        return value is TemplateUndefined ? TemplateText.Empty : PythonRepr.Of(this, value);
    }

    /// <summary>As <see cref="Text"/>, but what is HTML stays so.</summary>
    public TemplateText SoftText(object? value) => value as TemplateText ?? Text(value);

    public bool Truth(object? value) => value switch
    {
        null or TemplateUndefined => false,
        bool flag => flag,
        BigInteger number => !number.IsZero,
        double number => number != 0,
        TemplateLoop loop => loop.Length(this) > 0,
        _ => Count(value) is not { } count || count > 0,
    };

    /// <summary>Python's <c>len()</c>, or null for what has none.</summary>
    public BigInteger? Count(object? value) => value switch
    {
        TemplateText text => text.Length,
        List<object?> list => list.Count,
        TemplateTuple tuple => tuple.Items.Count,
        TemplateDictionary dictionary => dictionary.Count,
        TemplateView view => view.Dictionary.Count,
        TemplateRange range => range.Count,
        TemplateUndefined => 0,
        TemplateLoop loop => loop.Length(this),
        _ => null,
    };

    public static bool IsIterable(object? value) =>
        value is TemplateText or List<object?> or TemplateTuple or TemplateDictionary or TemplateView or TemplateRange or TemplateIterator or TemplateUndefined or TemplateLoop;

    /// <summary>The items of a value, one by one; each is charged when it is read.</summary>
    public IEnumerable<object?> Iterate(object? value)
    {
        IEnumerable<object?> items = value switch
        {
            List<object?> list => list,
            TemplateTuple tuple => tuple.Items,
            TemplateText text => text.AsMarkup(false).Characters(),
            TemplateDictionary dictionary => dictionary.Entries.Select(entry => entry.Key),
            TemplateView view => view.Items(),
            TemplateRange range => range.Items(),
            TemplateIterator iterator => iterator.Rest(),
            TemplateUndefined => [],
            TemplateLoop => throw Error("the items of 'loop' are not supported"),
            _ => throw Error($"{Describe(value)} has no items"),
        };
        // An item is an object, which takes the time and memory of several characters; each character becomes a string of its own.
        return Charged(items, value is TemplateText ? 32 : 8);
    }

    public List<object?> Items(object? value) => [.. Iterate(value)];

    public static string Describe(object? value) => value switch
    {
        null => "none",
        bool => "a truth value",
        BigInteger => "an integer",
        double => "a floating-point number",
        TemplateText => "a string",
        List<object?> => "a list",
        TemplateTuple => "a tuple",
        TemplateDictionary => "a dictionary",
        TemplateUndefined undefined => $"undefined ({undefined.Message})",
        TemplateNamespace => "a namespace",
        TemplateRange => "a range",
        TemplateView view => $"the {view.Kind} of a dictionary",
        TemplateIterator => "an iterator",
        TemplateMacro => "a macro",
        TemplateFunction function => $"the function '{function.Name}'",
        TemplateLoop => "the loop",
        TemplateBlocks => "'self'",
        _ => "an object",
    };

    private IEnumerable<object?> Charged(IEnumerable<object?> items, int cost)
    {
        foreach (object? item in items)
        {
            Charge(cost);
            yield return item;
        }
    }
}

/// <summary>The variables that are visible at one place: those of the template, and of each loop, macro and other block around it.</summary>
internal sealed class TemplateScope(TemplateRun run, TemplateScope? parent)
{
    private readonly TemplateScope? _parent = parent;
    private Dictionary<string, object?>? _variables;

    public TemplateRun Run { get; } = run;

    /// <summary>The outermost scope of the template.</summary>
    public TemplateScope Root => _parent is null || _parent.IsGlobal ? this : _parent.Root;

    public bool IsGlobal { get; init; }

    public void Set(string name, object? value) => (_variables ??= [])[name] = value;

    public object? Get(string name)
    {
        for (TemplateScope? scope = this; scope is not null; scope = scope._parent)
        {
            if (scope._variables is { } variables && variables.TryGetValue(name, out object? value))
            {
                return value;
            }
        }
        return TemplateUndefined.Name(name);
    }

    public TemplateScope Inner() => new(Run, this);
}
