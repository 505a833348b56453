using System.Globalization;
using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The expressions, one method per level of precedence.</summary>
internal sealed partial class TemplateParser
{
    private static readonly string[] Comparisons = ["==", "!=", "<", "<=", ">", ">="];

    private TemplateExpression ParseExpression() => Bounded(ParseConditional);

    private TemplateExpression Bounded(Func<TemplateExpression> parse)
    {
        _operations = _expressions == 0 ? 0 : _operations;
        Enter();
        _expressions++;
        TemplateExpression expression = parse();
        _expressions--;
        _depth--;
        return expression;
    }

    // One expression, or several with commas between as a tuple, which may end with one.
    private TemplateExpression ParseTuple(bool withCondition)
    {
        TemplateExpression first = Bounded(withCondition ? ParseConditional : ParseOr);
        if (!IsOperator(","))
        {
            return first;
        }
        var items = new List<TemplateExpression> { first };
        while (AcceptOperator(","))
        {
            if (Current.Kind == TemplateTokenKind.EndTag || IsOperator(")"))
            {
                break;
            }
            items.Add(Bounded(withCondition ? ParseConditional : ParseOr));
        }
        return scope => new TemplateTuple(items.ConvertAll(item => item(scope)));
    }

    private TemplateExpression ParseConditional()
    {
        bool soft = _isSoft;
        // What comes before an 'if' is known only behind it; being lenient there is what Jinja is too.
        TemplateExpression value = ParseLeft();
        while (IsWord("if"))
        {
            int position = Current.Position;
            _next++;
            _isSoft = true;
            TemplateExpression condition = ParseOr();
            TemplateExpression otherwise = AcceptWord("else")
                ? Bounded(ParseConditional)
                : _ => new TemplateUndefined("a condition without 'else' does not hold, so its value is undefined");
            _isSoft = soft;
            TemplateExpression then = value;
            value = scope =>
            {
                bool holds = scope.Run.Truth(condition(scope));
                scope.Run.Position = position;
                return holds ? then(scope) : otherwise(scope);
            };
            CountOperation();
        }
        return value;
    }

    private TemplateExpression ParseLeft()
    {
        bool soft = _isSoft;
        int begin = _next;
        _isSoft = soft || HasConditionAhead(begin);
        TemplateExpression value = ParseOr();
        _isSoft = soft;
        return value;
    }

    // Whether an 'if' follows on this level.
    private bool HasConditionAhead(int at)
    {
        int open = 0;
        for (; _tokens[at].Kind is not (TemplateTokenKind.EndTag or TemplateTokenKind.EndOfTemplate); at++)
        {
            if (_tokens[at].Kind == TemplateTokenKind.Operator)
            {
                open += _tokens[at].Text is "(" or "[" or "{" ? 1 : _tokens[at].Text is ")" or "]" or "}" ? -1 : 0;
                if (open < 0 || (open == 0 && _tokens[at].Text == ","))
                {
                    return false;
                }
            }
            else if (open == 0 && _tokens[at] is { Kind: TemplateTokenKind.Name, Text: "if" })
            {
                return true;
            }
        }
        return false;
    }

    private TemplateExpression ParseOr()
    {
        TemplateExpression value = ParseAnd();
        while (AcceptWord("or"))
        {
            TemplateExpression left = value;
            TemplateExpression right = ParseAnd();
            value = scope => left(scope) is var first && scope.Run.Truth(first) ? first : right(scope);
            CountOperation();
        }
        return value;
    }

    private TemplateExpression ParseAnd()
    {
        TemplateExpression value = ParseNot();
        while (AcceptWord("and"))
        {
            TemplateExpression left = value;
            TemplateExpression right = ParseNot();
            value = scope => left(scope) is var first && !scope.Run.Truth(first) ? first : right(scope);
            CountOperation();
        }
        return value;
    }

    private TemplateExpression ParseNot()
    {
        bool negated = false;
        bool any = false;
        while (AcceptWord("not"))
        {
            negated = !negated;
            any = true;
        }
        TemplateExpression value = ParseComparison();
        return any ? scope => scope.Run.Truth(value(scope)) != negated : value;
    }

    // a < b < c holds if both do; b is evaluated once.
    private TemplateExpression ParseComparison()
    {
        TemplateExpression first = ParseSum();
        var rest = new List<(string Operation, int Position, TemplateExpression Value)>();
        while (true)
        {
            int position = Current.Position;
            string? operation = Current.Kind == TemplateTokenKind.Operator && Comparisons.Contains(Current.Text) ? Current.Text
                : IsWord("in") ? "in"
                : IsWord("not") && Following is { Kind: TemplateTokenKind.Name, Text: "in" } ? "not in"
                : null;
            if (operation is null)
            {
                break;
            }
            _next += operation == "not in" ? 2 : 1;
            rest.Add((operation, position, ParseSum()));
            CountOperation();
        }
        return rest.Count == 0 ? first : scope =>
        {
            object? left = first(scope);
            foreach (var (operation, position, value) in rest)
            {
                object? right = value(scope);
                scope.Run.Position = position;
                if (!TemplateOperations.Compare(scope.Run, operation, left, right))
                {
                    return false;
                }
                left = right;
            }
            return true;
        };
    }

    private TemplateExpression ParseSum() => ParseBinary(ParseConcatenation, "+", "-");

    private TemplateExpression ParseConcatenation()
    {
        int position = Current.Position;
        TemplateExpression first = ParseProduct();
        if (!IsOperator("~"))
        {
            return first;
        }
        var parts = new List<TemplateExpression> { first };
        while (AcceptOperator("~"))
        {
            parts.Add(ParseProduct());
            CountOperation();
        }
        return scope =>
        {
            List<object?> values = parts.ConvertAll(part => part(scope));
            scope.Run.Position = position;
            return PythonStrings.Join(scope.Run, TemplateText.Empty, values.Select(scope.Run.Text));
        };
    }

    private TemplateExpression ParseProduct() => ParseBinary(ParsePower, "*", "/", "//", "%");

    private TemplateExpression ParsePower() => ParseBinary(ParseUnary, "**");

    private TemplateExpression ParseBinary(Func<TemplateExpression> operand, params string[] operations)
    {
        TemplateExpression value = operand();
        while (Current.Kind == TemplateTokenKind.Operator && operations.Contains(Current.Text))
        {
            TemplateToken operation = Current;
            _next++;
            TemplateExpression left = value;
            TemplateExpression right = operand();
            value = scope =>
            {
                object? first = left(scope);
                object? second = right(scope);
                scope.Run.Position = operation.Position;
                return TemplateOperations.Binary(scope.Run, operation.Text, first, second);
            };
            CountOperation();
        }
        return value;
    }

    private TemplateExpression ParseUnary() => ParseFiltersAndTests(ParseSigned());

    private TemplateExpression ParseSigned()
    {
        if (!IsOperator("-") && !IsOperator("+"))
        {
            return ParsePostfix(ParsePrimary());
        }
        TemplateToken sign = Current;
        _next++;
        Enter();
        TemplateExpression value = ParseSigned();
        _depth--;
        return ParsePostfix(scope =>
        {
            object? signed = value(scope);
            scope.Run.Position = sign.Position;
            return TemplateOperations.Unary(scope.Run, sign.Text, signed);
        });
    }

    private TemplateExpression ParsePrimary()
    {
        TemplateToken token = Current;
        _next++;
        switch (token.Kind)
        {
            case TemplateTokenKind.Name:
                return Constant(token.Text, out object? constant) ? _ => constant : ParseVariable(token);
            case TemplateTokenKind.String:
                string text = token.Text;
                while (Current.Kind == TemplateTokenKind.String)
                {
                    text += _tokens[_next++].Text;
                    CountOperation();
                }
                object literal = TemplateText.Of(text);
                return _ => literal;
            case TemplateTokenKind.Integer:
                object integer = PythonNumbers.ParseInteger(token.Text, 0) ?? throw _source.Bad(token.Position, "an integer with too many digits");
                return _ => integer;
            case TemplateTokenKind.Float:
                object number = double.Parse(token.Text, CultureInfo.InvariantCulture);
                return _ => number;
            case TemplateTokenKind.Operator when token.Text == "(":
                if (AcceptOperator(")"))
                {
                    return _ => new TemplateTuple([]);
                }
                TemplateExpression inner = ParseTuple(withCondition: true);
                ExpectOperator(")");
                return inner;
            case TemplateTokenKind.Operator when token.Text == "[":
                List<TemplateExpression> items = ParseItems("]", ParseExpression);
                return scope => items.ConvertAll(item => item(scope));
            case TemplateTokenKind.Operator when token.Text == "{":
                return ParseDictionary(token.Position);
            default:
                _next--;
                throw Unsupported("expected a value");
        }
    }

    private static bool Constant(string name, out object? value)
    {
        value = name switch { "true" or "True" => true, "false" or "False" => false, _ => null };
        return value is not null || name is "none" or "None";
    }

    private TemplateExpression ParseVariable(TemplateToken token)
    {
        if (token.Text is "caller" or "varargs" or "kwargs")
        {
            _used.Add(token.Text);
        }
        return scope => scope.Get(token.Text);
    }

    private List<T> ParseItems<T>(string close, Func<T> parse)
    {
        var items = new List<T>();
        while (!AcceptOperator(close))
        {
            if (items.Count > 0)
            {
                ExpectOperator(",");
                if (AcceptOperator(close))
                {
                    break;
                }
            }
            items.Add(parse());
        }
        return items;
    }

    private TemplateExpression ParseDictionary(int position)
    {
        List<(TemplateExpression Key, TemplateExpression Value)> entries = ParseItems("}", () =>
        {
            TemplateExpression key = ParseExpression();
            ExpectOperator(":");
            return (key, ParseExpression());
        });
        return scope =>
        {
            var dictionary = new TemplateDictionary();
            foreach (var (key, value) in entries)
            {
                object? evaluated = key(scope);
                object? member = value(scope);
                scope.Run.Position = position;
                PythonEquality.CheckHashable(scope.Run, evaluated);
                dictionary.Set(evaluated, member);
            }
            return dictionary;
        };
    }

    private TemplateExpression ParsePostfix(TemplateExpression value)
    {
        while (true)
        {
            int position = Current.Position;
            if (AcceptOperator("."))
            {
                value = ParseMember(value, position);
            }
            else if (AcceptOperator("["))
            {
                value = ParseSubscript(value, position);
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

    private TemplateExpression ParseMember(TemplateExpression value, int position)
    {
        if (Current.Kind == TemplateTokenKind.Integer)
        {
            object index = PythonNumbers.ParseInteger(_tokens[_next++].Text, 0) ?? throw _source.Bad(position, "an integer with too many digits");
            return At(scope => TemplateMembers.Item(scope.Run, value(scope), index), position);
        }
        var name = TemplateText.Of(ExpectName());
        return scope =>
        {
            object? owner = value(scope);
            scope.Run.Position = position;
            return TemplateMembers.Attribute(scope.Run, owner, name);
        };
    }

    private static TemplateExpression At(TemplateExpression value, int position) => scope =>
    {
        scope.Run.Position = position;
        return value(scope);
    };

    // a[b], a[b, c] (of a tuple) and a[b:c:d], each bound of which may be absent.
    private TemplateExpression ParseSubscript(TemplateExpression value, int position)
    {
        TemplateExpression? from = IsOperator(":") ? null : ParseExpression();
        if (!AcceptOperator(":"))
        {
            var items = new List<TemplateExpression> { from! };
            bool isTuple = IsOperator(",");
            while (AcceptOperator(",") && !IsOperator("]"))
            {
                items.Add(ParseExpression());
            }
            ExpectOperator("]");
            return scope =>
            {
                object? owner = value(scope);
                List<object?> keys = items.ConvertAll(item => item(scope));
                scope.Run.Position = position;
                return TemplateMembers.Item(scope.Run, owner, isTuple && keys.Count > 1 ? new TemplateTuple(keys) : keys[0]);
            };
        }
        TemplateExpression? to = IsOperator(":") || IsOperator("]") ? null : ParseExpression();
        TemplateExpression? by = AcceptOperator(":") && !IsOperator("]") ? ParseExpression() : null;
        ExpectOperator("]");
        return scope =>
        {
            object? owner = value(scope);
            object? begin = from?.Invoke(scope);
            object? end = to?.Invoke(scope);
            object? step = by?.Invoke(scope);
            scope.Run.Position = position;
            return TemplateMembers.Slice(scope.Run, owner, begin, end, step);
        };
    }
}
