namespace Octet.Inference.Loading.Templates;

/// <summary>A compiled expression of a template.</summary>
internal delegate object? TemplateExpression(TemplateScope scope);

/// <summary>A compiled statement, or a sequence of them.</summary>
internal delegate TemplateFlow TemplateStatement(TemplateScope scope);

/// <summary>Compiles a template by recursive descent. Here are the means of all rules, and the sequence of statements.</summary>
internal sealed partial class TemplateParser
{
    // What is compiled is evaluated recursively, so the depth of both has to be bounded: chains like a + a + ... nest as deep as parentheses do.
    private const int DeepestNesting = 60;
    private const int MostOperations = 400;

    private static readonly string[] Keywords = ["if", "for", "set", "macro", "call", "filter", "with", "block", "generation", "print", "break", "continue"];
    private static readonly string[] OtherFiles = ["import", "from", "include", "extends"];

    private readonly TemplateSource _source;
    private readonly List<TemplateToken> _tokens;
    private readonly HashSet<string> _blocks = [];
    private int _next;
    private int _depth;
    private int _expressions;
    private int _operations;

    // How many loops are around, up to the next macro: what break and continue can end.
    private int _loops;

    // Whether what stands here may never be reached, so that unknown filters and tests are an error only where they are.
    private bool _isSoft;

    // Which of caller, varargs and kwargs the macro around uses.
    private HashSet<string> _used = [];

    public TemplateParser(TemplateSource source)
    {
        _source = source;
        _tokens = TemplateLexer.Tokenize(source);
    }

    private TemplateToken Current => _tokens[_next];

    private TemplateToken Following => _tokens[Math.Min(_next + 1, _tokens.Count - 1)];

    public TemplateStatement Parse()
    {
        TemplateStatement body = ParseSequence([]);
        return Current.Kind == TemplateTokenKind.EndOfTemplate ? body : throw Unsupported("a block is ended that is not begun");
    }

    // From the end of the tag that begins a block up to one of the words that end it, which is read too, without the end of its tag.
    private TemplateStatement ParseBody(string block, int position, out string end, params string[] ends)
    {
        _ = AcceptOperator(":");
        ExpectEndTag();
        TemplateStatement body = ParseSequence(ends);
        if (Current.Kind == TemplateTokenKind.EndOfTemplate)
        {
            throw _source.Bad(position, $"the block '{block}' is not ended");
        }
        end = Following.Text;
        _next += 2;
        return body;
    }

    // The body of a block with variables of its own.
    private TemplateStatement ParseScope(string block, int position, bool endsLoops)
    {
        bool soft = _isSoft;
        int loops = _loops;
        _isSoft = false;
        _loops = endsLoops ? 0 : loops;
        TemplateStatement body = ParseBody(block, position, out _, "end" + block);
        _isSoft = soft;
        _loops = loops;
        return body;
    }

    // Up to the end of the template or to a statement whose word is one of these.
    private TemplateStatement ParseSequence(string[] ends)
    {
        Enter();
        var statements = new List<TemplateStatement>();
        while (Current.Kind != TemplateTokenKind.EndOfTemplate && !(Current.Kind == TemplateTokenKind.BeginStatement && Following.Kind == TemplateTokenKind.Name && ends.Contains(Following.Text)))
        {
            statements.Add(ParseOne());
        }
        _depth--;
        TemplateStatement[] all = [.. statements];
        return scope =>
        {
            foreach (TemplateStatement statement in all)
            {
                TemplateFlow flow = statement(scope);
                if (flow != TemplateFlow.Next)
                {
                    return flow;
                }
            }
            return TemplateFlow.Next;
        };
    }

    private TemplateStatement ParseOne()
    {
        TemplateToken token = Current;
        _next++;
        if (token.Kind == TemplateTokenKind.Text)
        {
            var text = TemplateText.Of(token.Text);
            return scope =>
            {
                scope.Run.Position = token.Position;
                scope.Run.Write(text);
                return TemplateFlow.Next;
            };
        }
        if (token.Kind == TemplateTokenKind.BeginOutput)
        {
            TemplateExpression value = ParseTuple(withCondition: true);
            ExpectEndTag();
            return Output(value, token.Position);
        }
        string keyword = Current.Text;
        if (Current.Kind != TemplateTokenKind.Name || !Keywords.Contains(keyword))
        {
            throw _source.Bad(token.Position, OtherFiles.Contains(keyword)
                ? $"the statement '{keyword}' is not supported: a chat template is one file"
                : keyword.StartsWith("end", StringComparison.Ordinal) || keyword is "else" or "elif"
                ? $"'{keyword}' ends or continues nothing"
                : $"the statement '{keyword}' is not supported");
        }
        _next++;
        TemplateStatement statement = ParseStatement(keyword, token.Position);
        ExpectEndTag();
        return statement;
    }

    private static TemplateStatement Output(TemplateExpression value, int position) => scope =>
    {
        object? written = value(scope);
        scope.Run.Position = position;
        scope.Run.Write(scope.Run.Text(written));
        return TemplateFlow.Next;
    };

    private void Enter()
    {
        if (++_depth > DeepestNesting)
        {
            throw Unsupported($"more than {DeepestNesting} levels of nesting");
        }
    }

    // Counts the operations of an expression, those of the expressions in it included.
    private void CountOperation()
    {
        if (++_operations > MostOperations)
        {
            throw Unsupported($"an expression of more than {MostOperations} operations");
        }
    }

    private bool IsOperator(string text) => Current.Kind == TemplateTokenKind.Operator && Current.Text == text;

    private bool IsWord(string text) => Current.Kind == TemplateTokenKind.Name && Current.Text == text;

    private bool AcceptOperator(string text)
    {
        bool found = IsOperator(text);
        _next += found ? 1 : 0;
        return found;
    }

    private bool AcceptWord(string text)
    {
        bool found = IsWord(text);
        _next += found ? 1 : 0;
        return found;
    }

    private string ExpectName() => Current.Kind == TemplateTokenKind.Name ? _tokens[_next++].Text : throw Unsupported("expected a name");

    private void ExpectOperator(string text)
    {
        if (!AcceptOperator(text))
        {
            throw Unsupported($"expected '{text}'");
        }
    }

    private void ExpectEndTag()
    {
        if (Current.Kind != TemplateTokenKind.EndTag)
        {
            throw Unsupported("expected the end of the tag");
        }
        _next++;
    }

    private ModelFormatException Unsupported(string problem) => _source.Bad(Current.Position, problem);
}
