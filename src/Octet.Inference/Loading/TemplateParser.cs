namespace Octet.Inference.Loading;

/// <summary>A compiled expression of a template.</summary>
internal delegate object? TemplateExpression(TemplateScope scope);

/// <summary>A compiled statement, or a sequence of them.</summary>
internal delegate void TemplateStatement(TemplateScope scope);

/// <summary>Compiles a template by recursive descent.</summary>
internal sealed partial class TemplateParser
{
    // What is compiled is evaluated recursively, so the depth of both has to be bounded: chains like a + a + ... nest as deep as parentheses do.
    private const int DeepestNesting = 40;
    private const int LongestExpression = 400;

    private readonly TemplateSource _source;
    private readonly List<TemplateToken> _tokens;
    private int _next;
    private int _depth;
    private int _expressionBegin;

    public TemplateParser(TemplateSource source)
    {
        _source = source;
        _tokens = TemplateLexer.Tokenize(source);
    }

    private TemplateToken Current => _tokens[_next];

    public TemplateStatement Parse()
    {
        TemplateStatement body = ParseBody();
        return Current.Kind == TemplateTokenKind.EndOfTemplate ? body : throw Unsupported($"'{_tokens[_next + 1].Text}' ends or continues nothing");
    }

    // Up to the end or to a statement that is not the beginning of one: endif, else, endfor.
    private TemplateStatement ParseBody()
    {
        Enter();
        var statements = new List<TemplateStatement>();
        while (ParseStatement() is { } statement)
        {
            statements.Add(statement);
        }
        _depth--;
        TemplateStatement[] all = [.. statements];
        return scope =>
        {
            foreach (TemplateStatement statement in all)
            {
                statement(scope);
            }
        };
    }

    private TemplateStatement? ParseStatement()
    {
        TemplateToken token = Current;
        switch (token.Kind)
        {
            case TemplateTokenKind.Text:
                _next++;
                return scope => scope.Run.Write(token.Text, token.Position);
            case TemplateTokenKind.BeginOutput:
                _next++;
                TemplateExpression value = ParseExpression();
                Expect(TemplateTokenKind.EndTag, "");
                return scope => scope.Run.Write(scope.Run.Text(value(scope), token.Position), token.Position);
            case TemplateTokenKind.BeginStatement when _tokens[_next + 1].Text is "if" or "for" or "set":
                string keyword = _tokens[_next + 1].Text;
                _next += 2;
                return keyword switch { "if" => ParseIf(), "for" => ParseFor(), _ => ParseSet() };
            case TemplateTokenKind.BeginStatement when _tokens[_next + 1].Text is not ("elif" or "else" or "endif" or "endfor"):
                throw _source.Bad(token.Position, $"the statement '{_tokens[_next + 1].Text}' is not supported");
            default:
                return null;
        }
    }

    private TemplateStatement ParseIf()
    {
        var branches = new List<(TemplateExpression? Condition, TemplateStatement Body)>();
        TemplateExpression? condition = ParseExpression();
        while (true)
        {
            Expect(TemplateTokenKind.EndTag, "");
            branches.Add((condition, ParseBody()));
            Expect(TemplateTokenKind.BeginStatement, "{%");
            if (Accept("endif"))
            {
                Expect(TemplateTokenKind.EndTag, "");
                break;
            }
            if (condition is null || !(Accept("elif") || Current.Text == "else"))
            {
                throw Unsupported("expected endif");
            }
            condition = Accept("else") ? null : ParseExpression();
        }
        return scope =>
        {
            foreach (var (test, body) in branches)
            {
                if (test is null || TemplateRun.Truth(test(scope)))
                {
                    body(scope);
                    return;
                }
            }
        };
    }

    private TemplateStatement ParseFor()
    {
        int position = Current.Position;
        string name = ExpectName();
        if (!Accept("in"))
        {
            throw Unsupported("expected 'in': only one loop variable is supported");
        }
        // Without the if-else form: an if here filters the items.
        TemplateExpression sequence = Bounded(ParseOr);
        TemplateExpression? filter = Accept("if") ? ParseExpression() : null;
        Expect(TemplateTokenKind.EndTag, "");
        TemplateStatement body = ParseBody();
        TemplateStatement? otherwise = null;
        Expect(TemplateTokenKind.BeginStatement, "{%");
        if (Accept("else"))
        {
            Expect(TemplateTokenKind.EndTag, "");
            otherwise = ParseBody();
            Expect(TemplateTokenKind.BeginStatement, "{%");
        }
        if (!Accept("endfor"))
        {
            throw Unsupported("expected endfor");
        }
        Expect(TemplateTokenKind.EndTag, "");
        return scope =>
        {
            List<object?> items = scope.Run.Items(sequence(scope), position);
            if (filter is not null)
            {
                items = items.FindAll(item => TemplateRun.Truth(filter(scope.Inner(name, item))));
            }
            for (int i = 0; i < items.Count; i++)
            {
                scope.Run.Charge(1, position);
                TemplateScope inner = scope.Inner(name, items[i]);
                inner.Set("loop", new TemplateLoop(items, i));
                body(inner);
            }
            if (items.Count == 0)
            {
                otherwise?.Invoke(scope);
            }
        };
    }

    private TemplateStatement ParseSet()
    {
        int position = Current.Position;
        string name = ExpectName();
        string? member = Accept(".") ? ExpectName() : null;
        if (!Accept("="))
        {
            throw Unsupported("expected '=': only the assignment of one value is supported");
        }
        TemplateExpression value = ParseExpression();
        Expect(TemplateTokenKind.EndTag, "");
        return member is null
            ? scope => scope.Set(name, value(scope))
            : scope => scope.Run.SetMember(scope.Get(name), member, value(scope), position);
    }

    private void Enter()
    {
        if (++_depth > DeepestNesting)
        {
            throw Unsupported($"more than {DeepestNesting} levels of nesting");
        }
    }

    private void CheckLength()
    {
        if (_next - _expressionBegin > LongestExpression)
        {
            throw Unsupported($"an expression of more than {LongestExpression} words");
        }
    }

    private bool Accept(string text)
    {
        if (Current.Kind is TemplateTokenKind.Operator or TemplateTokenKind.Name && Current.Text == text)
        {
            _next++;
            return true;
        }
        return false;
    }

    private string ExpectName() => Current.Kind == TemplateTokenKind.Name ? _tokens[_next++].Text : throw Unsupported("expected a name");

    private void ExpectOperator(string text)
    {
        if (!Accept(text))
        {
            throw Unsupported($"expected '{text}'");
        }
    }

    private void Expect(TemplateTokenKind kind, string text)
    {
        if (Current.Kind != kind || Current.Text != text)
        {
            throw Unsupported(kind == TemplateTokenKind.EndTag ? "expected the end of the tag" : "a block is not ended");
        }
        _next++;
    }

    private ModelFormatException Unsupported(string problem) => _source.Bad(Current.Position, problem);
}
