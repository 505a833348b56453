using System.Globalization;

namespace Octet.Inference.Loading;

/// <content>Expressions, with Jinja's precedences: if-else, or, and, not, comparison, + -, ~, * // %, unary -, then . [] | is.</content>
internal sealed partial class TemplateParser
{
    private TemplateExpression ParseExpression() => Bounded(ParseConditional);

    private TemplateExpression Bounded(Func<TemplateExpression> parse)
    {
        int outer = _expressionBegin;
        _expressionBegin = _next;
        TemplateExpression expression = parse();
        _expressionBegin = outer;
        return expression;
    }

    private TemplateExpression ParseConditional()
    {
        Enter();
        TemplateExpression value = ParseOr();
        while (Accept("if"))
        {
            TemplateExpression then = value;
            TemplateExpression condition = ParseOr();
            TemplateExpression otherwise = Accept("else") ? ParseConditional() : _ => new TemplateUndefined("the value of an 'if' without 'else'");
            value = scope => TemplateRun.Truth(condition(scope)) ? then(scope) : otherwise(scope);
        }
        _depth--;
        return value;
    }

    private TemplateExpression ParseOr()
    {
        TemplateExpression left = ParseAnd();
        while (Accept("or"))
        {
            TemplateExpression a = left;
            TemplateExpression b = ParseAnd();
            left = scope => a(scope) is var value && TemplateRun.Truth(value) ? value : b(scope);
        }
        return left;
    }

    private TemplateExpression ParseAnd()
    {
        TemplateExpression left = ParseNot();
        while (Accept("and"))
        {
            TemplateExpression a = left;
            TemplateExpression b = ParseNot();
            left = scope => a(scope) is var value && !TemplateRun.Truth(value) ? value : b(scope);
        }
        return left;
    }

    private TemplateExpression ParseNot()
    {
        bool negated = false;
        bool any = false;
        while (Accept("not"))
        {
            negated = !negated;
            any = true;
        }
        TemplateExpression value = ParseComparison();
        return any ? scope => TemplateRun.Truth(value(scope)) != negated : value;
    }

    private TemplateExpression ParseComparison()
    {
        TemplateExpression left = ParseBinary(0);
        if (ComparisonOperator() is not { } comparison)
        {
            return left;
        }
        int position = Current.Position;
        TemplateExpression right = ParseBinary(0);
        return ComparisonOperator() is null
            ? scope => scope.Run.Compare(comparison, left(scope), right(scope), position)
            : throw Unsupported("a chain of comparisons is not supported");
    }

    private string? ComparisonOperator()
    {
        if (Current.Kind == TemplateTokenKind.Operator && Current.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
        {
            return _tokens[_next++].Text;
        }
        if (Current is { Kind: TemplateTokenKind.Name, Text: "not" } && _tokens[_next + 1].Text == "in")
        {
            _next += 2;
            return "not in";
        }
        return Accept("in") ? "in" : null;
    }

    private TemplateExpression ParseBinary(int level)
    {
        string[][] levels = [["+", "-"], ["~"], ["*", "//", "%", "/", "**"]];
        if (level == levels.Length)
        {
            return ParseUnary();
        }
        TemplateExpression left = ParseBinary(level + 1);
        while (Current.Kind == TemplateTokenKind.Operator && levels[level].Contains(Current.Text))
        {
            CheckLength();
            TemplateToken operation = Current;
            if (operation.Text is "/" or "**")
            {
                throw Unsupported($"the operator '{operation.Text}' is not supported");
            }
            _next++;
            TemplateExpression a = left;
            TemplateExpression b = ParseBinary(level + 1);
            left = scope => scope.Run.Binary(operation.Text, a(scope), b(scope), operation.Position);
        }
        return left;
    }

    private TemplateExpression ParseUnary()
    {
        int position = Current.Position;
        bool negative = Accept("-");
        TemplateExpression value = ParsePostfix(ParsePrimary(), tests: !negative);
        // A filter or test behind it applies to the negative value.
        return negative ? ParsePostfix(scope => scope.Run.Binary("-", 0L, value(scope), position), tests: true) : value;
    }

    private TemplateExpression ParsePrimary()
    {
        TemplateToken token = Current;
        _next++;
        switch (token.Kind)
        {
            case TemplateTokenKind.String:
                string text = token.Text;
                while (Current.Kind == TemplateTokenKind.String)
                {
                    text += _tokens[_next++].Text;
                }
                return _ => text;
            case TemplateTokenKind.Integer:
                return long.TryParse(token.Text, NumberStyles.None, CultureInfo.InvariantCulture, out long number)
                    ? _ => number
                    : throw _source.Bad(token.Position, "a number is too large");
            case TemplateTokenKind.Operator when token.Text == "(":
                TemplateExpression inner = ParseConditional();
                ExpectOperator(")");
                return inner;
            case TemplateTokenKind.Operator when token.Text == "[":
                TemplateExpression[] items = [.. ParseList("]")];
                return scope => items.Select(item => item(scope)).ToList();
            case TemplateTokenKind.Name:
                return ParseName(token);
            default:
                throw _source.Bad(token.Position, "expected a value");
        }
    }

    private TemplateExpression ParseName(TemplateToken token)
    {
        switch (token.Text)
        {
            case "true" or "True":
                return _ => true;
            case "false" or "False":
                return _ => false;
            case "none" or "None":
                return _ => null;
            case "namespace" when Accept("("):
                var members = new List<(string Name, TemplateExpression Value)>();
                while (!Accept(")"))
                {
                    string name = ExpectName();
                    ExpectOperator("=");
                    members.Add((name, ParseConditional()));
                    if (Current.Text != ")")
                    {
                        ExpectOperator(",");
                    }
                }
                return scope => new TemplateNamespace(members.Select(member => KeyValuePair.Create(member.Name, member.Value(scope))));
            case "raise_exception" when Accept("("):
                TemplateExpression message = ParseConditional();
                ExpectOperator(")");
                return scope => throw _source.Bad(token.Position, $"the template refuses these messages: {scope.Run.Text(message(scope), token.Position)}");
            default:
                return Current is { Kind: TemplateTokenKind.Operator, Text: "(" }
                    ? throw _source.Bad(token.Position, $"the function '{token.Text}' is not supported")
                    : scope => scope.Get(token.Text);
        }
    }

    private TemplateExpression ParsePostfix(TemplateExpression value, bool tests)
    {
        while (true)
        {
            CheckLength();
            TemplateExpression subject = value;
            int position = Current.Position;
            if (Accept("."))
            {
                string name = ExpectName();
                TemplateExpression[]? arguments = Accept("(") ? [.. ParseList(")")] : null;
                value = arguments is null
                    ? scope => scope.Run.Member(subject(scope), name, position)
                    : scope => scope.Run.Method(subject(scope), name, Evaluate(arguments, scope), position);
            }
            else if (Accept("["))
            {
                value = ParseSubscript(subject, position);
            }
            else if (tests && Accept("|"))
            {
                string name = ExpectName();
                TemplateExpression[] arguments = Accept("(") ? [.. ParseList(")")] : [];
                TemplateBuiltins.CheckFilter(name, arguments.Length, _source, position);
                value = scope => TemplateBuiltins.Filter(name, subject(scope), Evaluate(arguments, scope), scope.Run, position);
            }
            else if (tests && Accept("is"))
            {
                bool expected = !Accept("not");
                string name = ExpectName();
                TemplateBuiltins.CheckTest(name, _source, position);
                // Jinja takes a value behind a test as its argument, even the word "if".
                if (Current is { Kind: TemplateTokenKind.String or TemplateTokenKind.Integer } or { Kind: TemplateTokenKind.Name, Text: not ("and" or "or" or "else") } or { Kind: TemplateTokenKind.Operator, Text: "(" or "[" or "{" })
                {
                    throw Unsupported($"the test '{name}' with an argument is not supported");
                }
                value = scope => TemplateBuiltins.Test(name, subject(scope)) == expected;
            }
            else if (Current is { Kind: TemplateTokenKind.Operator, Text: "(" })
            {
                throw Unsupported("a call of a value is not supported");
            }
            else
            {
                return value;
            }
        }
    }

    private TemplateExpression ParseSubscript(TemplateExpression subject, int position)
    {
        var parts = new TemplateExpression?[3];
        int count = 0;
        while (!Accept("]"))
        {
            if (count < 2 && Accept(":"))
            {
                count++;
            }
            else
            {
                parts[count] = parts[count] is null ? ParseConditional() : throw Unsupported("expected ']'");
            }
        }
        if (count == 0)
        {
            TemplateExpression index = parts[0] ?? throw _source.Bad(position, "an index is missing");
            return scope => scope.Run.Index(subject(scope), index(scope), position);
        }
        return scope => scope.Run.Slice(subject(scope), parts[0]?.Invoke(scope), parts[1]?.Invoke(scope), parts[2]?.Invoke(scope), position);
    }

    private List<TemplateExpression> ParseList(string close)
    {
        var items = new List<TemplateExpression>();
        while (!Accept(close))
        {
            items.Add(ParseConditional());
            if (Current.Text != close)
            {
                ExpectOperator(",");
            }
        }
        return items;
    }

    private static object?[] Evaluate(TemplateExpression[] arguments, TemplateScope scope) => Array.ConvertAll(arguments, argument => argument(scope));
}
