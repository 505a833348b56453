using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>What the operators do.</summary>
internal static class TemplateOperations
{
    public static bool Compare(TemplateRun run, string operation, object? a, object? b) => operation switch
    {
        "==" => PythonEquality.Equal(run, a, b),
        "!=" => !PythonEquality.Equal(run, a, b),
        "in" => PythonEquality.Contains(run, b, a),
        "not in" => !PythonEquality.Contains(run, b, a),
        _ => PythonEquality.Holds(run, operation, a, b),
    };

    public static object? Binary(TemplateRun run, string operation, object? a, object? b)
    {
        run.Charge(0);
        switch (operation, a, b)
        {
            case ("%", TemplateText format, _):
                return PythonFormatting.Percent(run, format, b);
            case (_, TemplateUndefined undefined, _):
                throw run.Error(undefined);
            case (_, _, TemplateUndefined undefined):
                throw run.Error(undefined);
            case ("+", TemplateText first, TemplateText second):
                bool isMarkup = first.IsMarkup || second.IsMarkup;
                return PythonStrings.Join(run, TemplateText.Empty, isMarkup ? [TemplateHtml.Escape(run, first), TemplateHtml.Escape(run, second)] : [first, second], isMarkup);
            case ("+", List<object?> list, List<object?> more):
                run.Charge(8L * (list.Count + more.Count));
                return list.Concat(more).ToList();
            case ("+", TemplateTuple tuple, TemplateTuple more):
                run.Charge(8L * (tuple.Items.Count + more.Items.Count));
                return new TemplateTuple([.. tuple.Items, .. more.Items]);
            case ("*", _, _) when PythonNumbers.AsInteger(b) is { } times && a is TemplateText or List<object?> or TemplateTuple:
                return Repeat(run, a, times);
            case ("*", _, _) when PythonNumbers.AsInteger(a) is { } times && b is TemplateText or List<object?> or TemplateTuple:
                return Repeat(run, b, times);
        }
        if (!PythonNumbers.IsNumber(a) || !PythonNumbers.IsNumber(b))
        {
            throw run.Error($"'{operation}' is not for {TemplateRun.Describe(a)} and {TemplateRun.Describe(b)}");
        }
        return PythonNumbers.Arithmetic(run, operation, a, b);
    }

    public static object? Unary(TemplateRun run, string operation, object? value)
    {
        if (!PythonNumbers.IsNumber(value))
        {
            throw run.Error(value is TemplateUndefined undefined ? undefined.Message : $"'{operation}' is not for {TemplateRun.Describe(value)}");
        }
        return operation == "-" ? PythonNumbers.Negate(value) : value is double ? value : PythonNumbers.AsInteger(value);
    }

    private static object Repeat(TemplateRun run, object? value, BigInteger times)
    {
        const int Most = 1 << 28;
        if (times > long.MaxValue || times < long.MinValue)
        {
            throw run.Error("something is repeated more often than 64 bits can say");
        }
        int count = (int)BigInteger.Clamp(times, 0, Most);
        long size = (value as TemplateText)?.Units ?? 8L * ((value as List<object?>) ?? ((TemplateTuple)value!).Items).Count;
        run.Charge(size * count);
        count = size == 0 ? Math.Min(count, 1) : count;
        if (value is TemplateText text)
        {
            return PythonStrings.Join(run, TemplateText.Empty, Enumerable.Repeat(text, count), text.IsMarkup);
        }
        List<object?> items = value as List<object?> ?? ((TemplateTuple)value!).Items;
        List<object?> repeated = [.. Enumerable.Repeat(items, count).SelectMany(item => item)];
        return value is TemplateTuple ? new TemplateTuple(repeated) : repeated;
    }
}
