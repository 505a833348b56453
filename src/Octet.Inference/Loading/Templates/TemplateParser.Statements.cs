using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The statements. Each rule begins behind the statement's word and ends before the end of its last tag.</summary>
internal sealed partial class TemplateParser
{
    private delegate void Assignment(TemplateScope scope, object? value);

    private TemplateStatement ParseStatement(string keyword, int position) => keyword switch
    {
        "if" => ParseIf(position),
        "for" => ParseFor(position),
        "set" => ParseSet(position),
        "macro" => ParseMacro(position),
        "call" => ParseCallBlock(position),
        "filter" => ParseFilterBlock(position),
        "with" => ParseWith(position),
        "block" => ParseBlock(position),
        "generation" => InnerScope(ParseScope("generation", position, endsLoops: true)),
        "print" => ParsePrint(position),
        "break" => ParseJump(TemplateFlow.Break, keyword, position),
        _ => ParseJump(TemplateFlow.Continue, keyword, position),
    };

    private static TemplateStatement InnerScope(TemplateStatement body) => scope => body(scope.Inner());

    private TemplateStatement ParseIf(int position)
    {
        bool soft = _isSoft;
        _isSoft = true;
        var branches = new List<(TemplateExpression? Condition, TemplateStatement Body)>();
        string end = "";
        while (end != "endif")
        {
            TemplateExpression? condition = end == "else" ? null : ParseTuple(withCondition: false);
            string[] ends = condition is null ? ["endif"] : ["elif", "else", "endif"];
            branches.Add((condition, ParseBody("if", position, out end, ends)));
        }
        _isSoft = soft;
        return scope =>
        {
            foreach (var (test, body) in branches)
            {
                if (test is null || scope.Run.Truth(test(scope)))
                {
                    return body(scope);
                }
            }
            return TemplateFlow.Next;
        };
    }

    private TemplateStatement ParseFor(int position)
    {
        Assignment assign = ParseTarget(isFor: true, allowsMember: false);
        if (!AcceptWord("in"))
        {
            throw Unsupported("expected 'in'");
        }
        TemplateExpression sequence = ParseTuple(withCondition: false);
        TemplateExpression? filter = AcceptWord("if") ? ParseExpression() : null;
        bool recursive = AcceptWord("recursive");
        bool soft = _isSoft;
        int loops = _loops;
        _isSoft = false;
        _loops = recursive ? 1 : loops + 1;
        TemplateStatement body = ParseBody("for", position, out string end, "endfor", "else");
        _loops = recursive ? 0 : loops;
        TemplateStatement? otherwise = end == "else" ? InnerScope(ParseBody("for", position, out _, "endfor")) : null;
        _isSoft = soft;
        _loops = loops;
        return scope => RunLoop(scope, sequence(scope), depth: 0);

        TemplateFlow RunLoop(TemplateScope scope, object? value, int depth)
        {
            TemplateRun run = scope.Run;
            run.Position = position;
            IEnumerable<object?> items = run.Iterate(value);
            if (filter is not null)
            {
                items = items.Where(item =>
                {
                    TemplateScope inner = scope.Inner();
                    assign(inner, item);
                    return run.Truth(filter(inner));
                });
            }
            BigInteger? length = filter is null && value is not TemplateLoop ? run.Count(value) : null;
            Func<object?, int, object?>? recurse = recursive ? (inner, level) => run.Capture(() => RunLoop(scope, inner, level)) : null;
            var loop = new TemplateLoop(items, length, depth, recurse);
            bool completed = false;
            while (loop.Advance(out object? item))
            {
                TemplateScope inner = scope.Inner();
                run.Position = position;
                inner.Set("loop", loop);
                assign(inner, item);
                TemplateFlow flow = body(inner);
                if (flow == TemplateFlow.Break)
                {
                    break;
                }
                // As in Jinja, else is for a loop of which no turn came to its end.
                completed |= flow == TemplateFlow.Next;
            }
            return completed || otherwise is null ? TemplateFlow.Next : otherwise(scope);
        }
    }

    private TemplateStatement ParseSet(int position)
    {
        Assignment assign = ParseTarget(isFor: false, allowsMember: true);
        if (AcceptOperator("="))
        {
            TemplateExpression value = ParseTuple(withCondition: true);
            return scope =>
            {
                object? assigned = value(scope);
                scope.Run.Position = position;
                assign(scope, assigned);
                return TemplateFlow.Next;
            };
        }
        Func<TemplateScope, object?, object?> filter = ParseBlockFilters();
        TemplateStatement body = ParseScope("set", position, endsLoops: false);
        return scope =>
        {
            var flow = TemplateFlow.Next;
            TemplateText text = scope.Run.Capture(() => flow = body(scope.Inner()));
            if (flow == TemplateFlow.Next)
            {
                object? filtered = filter(scope, text);
                scope.Run.Position = position;
                assign(scope, filtered);
            }
            return flow;
        };
    }

    // Names to assign to: one, or a tuple of them, which may be nested; with a member of a namespace where that is allowed.
    private Assignment ParseTarget(bool isFor, bool allowsMember)
    {
        if (allowsMember && Current.Kind == TemplateTokenKind.Name && Following is { Kind: TemplateTokenKind.Operator, Text: "." })
        {
            string space = ExpectName();
            _next++;
            string member = ExpectName();
            return (scope, value) =>
            {
                if (scope.Get(space) is not TemplateNamespace changed)
                {
                    throw scope.Run.Error($"{TemplateRun.Describe(scope.Get(space))} cannot be changed, only a namespace");
                }
                changed.Members.Set(member, value);
            };
        }
        var targets = new List<Assignment>();
        bool isTuple = false;
        do
        {
            if (targets.Count > 0 && (IsOperator(")") || Current.Kind == TemplateTokenKind.EndTag))
            {
                break;
            }
            if (AcceptOperator("("))
            {
                Enter();
                targets.Add(ParseTarget(isFor, allowsMember: false));
                _depth--;
                ExpectOperator(")");
            }
            else
            {
                targets.Add(ParseName(isFor));
            }
            isTuple |= IsOperator(",");
        }
        while (AcceptOperator(","));
        return isTuple ? (scope, value) => Unpack(scope, value, targets) : targets[0];
    }

    private Assignment ParseName(bool isFor)
    {
        int position = Current.Position;
        string name = ExpectName();
        if (name is "true" or "false" or "none" or "True" or "False" or "None" || (isFor && name == "loop"))
        {
            throw _source.Bad(position, $"'{name}' cannot be assigned to");
        }
        return (scope, value) => scope.Set(name, value);
    }

    private static void Unpack(TemplateScope scope, object? value, List<Assignment> targets)
    {
        List<object?> items = scope.Run.Items(value);
        if (items.Count != targets.Count)
        {
            throw scope.Run.Error($"{TemplateRun.Describe(value)} of {items.Count} is assigned to {targets.Count} names");
        }
        for (int i = 0; i < items.Count; i++)
        {
            targets[i](scope, items[i]);
        }
    }

    private TemplateStatement ParseMacro(int position)
    {
        string name = ExpectName();
        ExpectOperator("(");
        TemplateMacroDefinition definition = ParseMacroBody(name, "macro", position, ParseParameters());
        return scope =>
        {
            scope.Set(name, new TemplateMacro(definition, scope));
            return TemplateFlow.Next;
        };
    }

    private TemplateStatement ParseCallBlock(int position)
    {
        var parameters = AcceptOperator("(") ? ParseParameters() : ([], []);
        int callPosition = Current.Position;
        TemplateExpression call = ParseExpression();
        if (_lastCall is not { } last || last.Expression != call)
        {
            throw _source.Bad(callPosition, "'call' is not followed by a call");
        }
        TemplateMacroDefinition definition = ParseMacroBody(null, "call", position, parameters);
        return scope =>
        {
            object? callee = last.Callee(scope);
            TemplateArguments arguments = last.Arguments(scope);
            arguments.Named.Add(new("caller", new TemplateMacro(definition, scope)));
            scope.Run.Position = callPosition;
            scope.Run.Write(scope.Run.Text(scope.Run.Call(callee, arguments)));
            return TemplateFlow.Next;
        };
    }

    private TemplateMacroDefinition ParseMacroBody(string? name, string block, int position, (string[] Names, TemplateExpression[] Defaults) parameters)
    {
        HashSet<string> outer = _used;
        _used = [];
        TemplateStatement body = ParseScope(block, position, endsLoops: true);
        HashSet<string> used = [.. _used.Except(parameters.Names)];
        int callerAt = Array.IndexOf(parameters.Names, "caller");
        if (_used.Contains("caller") && callerAt >= 0 && callerAt < parameters.Names.Length - parameters.Defaults.Length)
        {
            throw _source.Bad(position, "the parameter 'caller' of a macro needs a default");
        }
        _used = [.. outer, .. used];
        return new TemplateMacroDefinition(name, parameters.Names, parameters.Defaults, body, used.Contains("caller"), used.Contains("varargs"), used.Contains("kwargs"));
    }

    private (string[] Names, TemplateExpression[] Defaults) ParseParameters()
    {
        var names = new List<string>();
        var defaults = new List<TemplateExpression>();
        while (!AcceptOperator(")"))
        {
            if (names.Count > 0)
            {
                ExpectOperator(",");
            }
            int position = Current.Position;
            string name = ExpectName();
            if (names.Contains(name))
            {
                throw _source.Bad(position, $"the parameter '{name}' is named twice");
            }
            names.Add(name);
            if (AcceptOperator("="))
            {
                defaults.Add(ParseExpression());
            }
            else if (defaults.Count > 0)
            {
                throw Unsupported($"the parameter '{names[^1]}' has no default, but one before it has");
            }
        }
        return ([.. names], [.. defaults]);
    }

    private TemplateStatement ParseFilterBlock(int position)
    {
        Func<TemplateScope, object?, object?> filter = ParseFilters(isBlock: true);
        TemplateStatement body = ParseScope("filter", position, endsLoops: false);
        return scope =>
        {
            var flow = TemplateFlow.Next;
            TemplateText text = scope.Run.Capture(() => flow = body(scope.Inner()));
            if (flow == TemplateFlow.Next)
            {
                object? filtered = filter(scope, text);
                scope.Run.Position = position;
                scope.Run.Write(filtered as TemplateText ?? throw scope.Run.Error($"the filter of a block gives {TemplateRun.Describe(filtered)}, expected a string"));
            }
            return flow;
        };
    }

    private Func<TemplateScope, object?, object?> ParseBlockFilters() => IsOperator("|") ? ParseFilters(isBlock: false) : (_, value) => value;

    private TemplateStatement ParseWith(int position)
    {
        var values = new List<(Assignment Assign, TemplateExpression Value)>();
        while (Current.Kind != TemplateTokenKind.EndTag)
        {
            if (values.Count > 0)
            {
                ExpectOperator(",");
            }
            Assignment assign = ParseTarget(isFor: false, allowsMember: false);
            ExpectOperator("=");
            values.Add((assign, ParseExpression()));
        }
        TemplateStatement body = ParseScope("with", position, endsLoops: false);
        return scope =>
        {
            TemplateScope inner = scope.Inner();
            foreach (var (assign, value) in values)
            {
                assign(inner, value(scope));
            }
            return body(inner);
        };
    }

    // Without templates that extend this one, a block is written where it stands. It sees the variables of the template only.
    private TemplateStatement ParseBlock(int position)
    {
        string name = ExpectName();
        bool isScoped = AcceptWord("scoped");
        if (IsWord("required"))
        {
            throw Unsupported("a block that is required is not supported: a chat template is one file");
        }
        if (!_blocks.Add(name))
        {
            throw _source.Bad(position, $"the block '{name}' is defined twice");
        }
        TemplateStatement body = ParseScope("block", position, endsLoops: true);
        _ = AcceptWord(name);
        return scope => body(isScoped ? scope.Inner() : scope.Root.Inner());
    }

    private TemplateStatement ParsePrint(int position)
    {
        var outputs = new List<TemplateStatement>();
        while (Current.Kind != TemplateTokenKind.EndTag)
        {
            if (outputs.Count > 0)
            {
                ExpectOperator(",");
            }
            outputs.Add(Output(ParseExpression(), position));
        }
        return scope =>
        {
            outputs.ForEach(output => output(scope));
            return TemplateFlow.Next;
        };
    }

    private TemplateStatement ParseJump(TemplateFlow flow, string keyword, int position) =>
        _loops > 0 ? _ => flow : throw _source.Bad(position, $"'{keyword}' is in no loop");
}
