namespace Octet.Inference.Loading.Templates;

/// <summary>Calls, and the filters and tests behind a value.</summary>
internal sealed partial class TemplateParser
{
    // The call that was read last, for the block 'call'.
    private (TemplateExpression Expression, TemplateExpression Callee, Func<TemplateScope, TemplateArguments> Arguments)? _lastCall;

    private TemplateExpression ParseCall(TemplateExpression callee)
    {
        int position = Current.Position;
        Func<TemplateScope, TemplateArguments> arguments = ParseArguments();
        TemplateExpression call = scope =>
        {
            object? called = callee(scope);
            TemplateArguments given = arguments(scope);
            scope.Run.Position = position;
            return scope.Run.Call(called, given);
        };
        _lastCall = (call, callee, arguments);
        return call;
    }

    // (a, b, *c, d=e, **f)
    private Func<TemplateScope, TemplateArguments> ParseArguments()
    {
        ExpectOperator("(");
        var positional = new List<TemplateExpression>();
        var named = new List<(string Name, TemplateExpression Value)>();
        TemplateExpression? morePositional = null;
        TemplateExpression? moreNamed = null;
        bool first = true;
        while (!AcceptOperator(")"))
        {
            if (!first)
            {
                ExpectOperator(",");
                if (AcceptOperator(")"))
                {
                    break;
                }
            }
            first = false;
            int position = Current.Position;
            bool inOrder;
            if (AcceptOperator("*"))
            {
                inOrder = morePositional is null && moreNamed is null;
                morePositional = ParseExpression();
            }
            else if (AcceptOperator("**"))
            {
                inOrder = moreNamed is null;
                moreNamed = ParseExpression();
            }
            else if (Current.Kind == TemplateTokenKind.Name && Following is { Kind: TemplateTokenKind.Operator, Text: "=" })
            {
                string name = ExpectName();
                _next++;
                inOrder = moreNamed is null && !named.Exists(argument => argument.Name == name);
                named.Add((name, ParseExpression()));
            }
            else
            {
                inOrder = morePositional is null && moreNamed is null && named.Count == 0;
                positional.Add(ParseExpression());
            }
            if (!inOrder)
            {
                throw _source.Bad(position, "an argument that is out of order or given twice");
            }
        }
        return scope =>
        {
            List<object?> values = positional.ConvertAll(argument => argument(scope));
            List<KeyValuePair<string, object?>> names = named.ConvertAll(argument => new KeyValuePair<string, object?>(argument.Name, argument.Value(scope)));
            if (morePositional is not null)
            {
                values.AddRange(scope.Run.Iterate(morePositional(scope)));
            }
            if (moreNamed is not null)
            {
                Spread(scope.Run, moreNamed(scope), names);
            }
            return new TemplateArguments(values, names);
        };
    }

    private static void Spread(TemplateRun run, object? value, List<KeyValuePair<string, object?>> names)
    {
        if (value is not TemplateDictionary dictionary)
        {
            throw run.Error($"'**' takes a dictionary, not {TemplateRun.Describe(value)}");
        }
        foreach (var (key, member) in dictionary.Entries)
        {
            if (key is not TemplateText name || names.Exists(argument => argument.Key == name.Value))
            {
                throw run.Error("the names of arguments are strings, each given once");
            }
            names.Add(new(name.Value, member));
        }
    }

    private TemplateExpression ParseFiltersAndTests(TemplateExpression value)
    {
        while (true)
        {
            if (IsOperator("|"))
            {
                TemplateExpression filtered = value;
                Func<TemplateScope, object?, object?> filter = ParseFilters(isBlock: false);
                value = scope => filter(scope, filtered(scope));
            }
            else if (AcceptWord("is"))
            {
                value = ParseTest(value);
            }
            else if (IsOperator("("))
            {
                value = ParseCall(value);
            }
            else
            {
                return value;
            }
            CountOperation();
        }
    }

    // "| a | b(c)", or without the first bar in a filter block.
    private Func<TemplateScope, object?, object?> ParseFilters(bool isBlock)
    {
        Func<TemplateScope, object?, object?>? all = null;
        while (AcceptOperator("|") || (isBlock && all is null))
        {
            int position = Current.Position;
            string name = ParseDottedName();
            Func<TemplateScope, TemplateArguments>? arguments = IsOperator("(") ? ParseArguments() : null;
            Func<TemplateRun, TemplateArguments, object?> filter = TemplateFilters.Find(name) ?? Unknown<object?>(position, $"the filter '{name}' is not supported");
            Func<TemplateScope, object?, object?>? before = all;
            all = (scope, value) =>
            {
                value = before is null ? value : before(scope, value);
                TemplateArguments given = (arguments is null ? TemplateArguments.None : arguments(scope)).After(value);
                scope.Run.Position = position;
                return filter(scope.Run, given);
            };
            CountOperation();
        }
        return all!;
    }

    private TemplateExpression ParseTest(TemplateExpression value)
    {
        bool negated = AcceptWord("not");
        int position = Current.Position;
        string name = ParseDottedName();
        Func<TemplateScope, TemplateArguments>? arguments = null;
        if (IsOperator("("))
        {
            arguments = ParseArguments();
        }
        else if (Current.Kind is TemplateTokenKind.String or TemplateTokenKind.Integer or TemplateTokenKind.Float || IsOperator("[") || IsOperator("{")
            || (Current.Kind == TemplateTokenKind.Name && Current.Text is not ("else" or "or" or "and")))
        {
            if (IsWord("is"))
            {
                throw Unsupported("'is' follows a test: put the first one in parentheses");
            }
            TemplateExpression argument = ParsePostfix(ParsePrimary());
            arguments = scope => new TemplateArguments([argument(scope)], []);
        }
        Func<TemplateRun, TemplateArguments, bool> test = TemplateTests.Find(name) ?? Unknown<bool>(position, $"the test '{name}' is not supported");
        return scope =>
        {
            object? tested = value(scope);
            TemplateArguments given = (arguments is null ? TemplateArguments.None : arguments(scope)).After(tested);
            scope.Run.Position = position;
            return test(scope.Run, given) != negated;
        };
    }

    // As in Jinja, what may not be reached is refused only when it is.
    private Func<TemplateRun, TemplateArguments, T> Unknown<T>(int position, string problem) =>
        _isSoft ? (run, _) => throw run.Error(problem) : throw _source.Bad(position, problem);

    private string ParseDottedName()
    {
        string name = ExpectName();
        while (AcceptOperator("."))
        {
            name += "." + ExpectName();
        }
        return name;
    }
}
