using System.Numerics;

namespace Octet.Inference.Loading.Templates;

/// <summary>The filters: <c>value | name(arguments)</c>. Here are those of numbers and of any value; those of texts and of sequences have files of their own.</summary>
internal static partial class TemplateFilters
{
    private static readonly Dictionary<string, Func<TemplateRun, TemplateArguments, object?>> All = new()
    {
        ["abs"] = (run, arguments) => arguments.BindPositional(run, "abs", 1, 1)[0] switch
        {
            double number => Math.Abs(number),
            var value => PythonNumbers.AsInteger(value) is { } number ? BigInteger.Abs(number) : throw run.Error($"'abs' takes a number, not {TemplateRun.Describe(value)}"),
        },
        ["attr"] = Attribute,
        ["batch"] = Batch,
        ["capitalize"] = (run, arguments) => PythonCase.Capitalize(run, Soft(run, arguments, "capitalize", "s")),
        ["center"] = Center,
        ["count"] = Length,
        ["d"] = Default,
        ["default"] = Default,
        ["dictsort"] = SortDictionary,
        ["e"] = Escape,
        ["escape"] = Escape,
        ["filesizeformat"] = FileSize,
        ["first"] = (run, arguments) => First(run, run.Iterate(arguments.Bind(run, "first", 1, "seq")[0])),
        ["float"] = ToFloat,
        ["forceescape"] = (run, arguments) => TemplateHtml.Escape(run, run.Text(arguments.Bind(run, "forceescape", 1, "value")[0])),
        ["format"] = Format,
        ["groupby"] = GroupBy,
        ["indent"] = Indent,
        ["int"] = ToInteger,
        ["items"] = Items,
        ["join"] = Join,
        ["last"] = (run, arguments) => First(run, Reversed(run, arguments.Bind(run, "last", 1, "seq")[0]) ?? throw run.Error("'last' takes something that can be read backwards")),
        ["length"] = Length,
        ["list"] = (run, arguments) => run.Items(arguments.Bind(run, "list", 1, "value")[0]),
        ["lower"] = (run, arguments) => PythonCase.Lower(run, Soft(run, arguments, "lower", "s")),
        ["map"] = Map,
        ["max"] = (run, arguments) => Extreme(run, arguments, "max"),
        ["min"] = (run, arguments) => Extreme(run, arguments, "min"),
        ["pprint"] = (run, arguments) => PythonPrettyPrint.Format(run, arguments.Bind(run, "pprint", 1, "value")[0]),
        ["reject"] = (run, arguments) => Select(run, arguments, "reject", selects: false, byAttribute: false),
        ["rejectattr"] = (run, arguments) => Select(run, arguments, "rejectattr", selects: false, byAttribute: true),
        ["replace"] = Replace,
        ["reverse"] = Reverse,
        ["round"] = Round,
        ["safe"] = (run, arguments) => run.SoftText(arguments.Bind(run, "safe", 1, "value")[0]).AsMarkup(true),
        ["select"] = (run, arguments) => Select(run, arguments, "select", selects: true, byAttribute: false),
        ["selectattr"] = (run, arguments) => Select(run, arguments, "selectattr", selects: true, byAttribute: true),
        ["slice"] = Slice,
        ["sort"] = Sort,
        ["string"] = (run, arguments) => run.SoftText(arguments.BindPositional(run, "string", 1, 1)[0]),
        ["striptags"] = (run, arguments) => TemplateHtml.StripTags(run, run.Text(arguments.Bind(run, "striptags", 1, "value")[0])),
        ["sum"] = Sum,
        ["title"] = Title,
        ["tojson"] = PythonJson.Filter,
        ["trim"] = Trim,
        ["truncate"] = Truncate,
        ["unique"] = Unique,
        ["upper"] = (run, arguments) => PythonCase.Upper(run, Soft(run, arguments, "upper", "s")),
        ["urlencode"] = UrlEncode,
        ["urlize"] = TemplateLinks.Urlize,
        ["wordcount"] = CountWords,
        ["wordwrap"] = TemplateWrapping.WordWrap,
        ["xmlattr"] = XmlAttributes,
    };

    /// <summary>The filter of a name, or null; its first argument is the value.</summary>
    public static Func<TemplateRun, TemplateArguments, object?>? Find(string name) => All.GetValueOrDefault(name);

    private static TemplateText Soft(TemplateRun run, TemplateArguments arguments, string name, string parameter) =>
        run.SoftText(arguments.Bind(run, name, 1, parameter)[0]);

    private static object? Escape(TemplateRun run, TemplateArguments arguments) => TemplateHtml.Escape(run, arguments.BindPositional(run, "escape", 1, 1)[0]);

    private static object? Length(TemplateRun run, TemplateArguments arguments)
    {
        object? value = arguments.BindPositional(run, "length", 1, 1)[0];
        run.Charge((value as TemplateText)?.Units ?? 0);
        return run.Count(value) ?? throw run.Error($"{TemplateRun.Describe(value)} has no length");
    }

    private static object? Default(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "default", 1, "value", "default_value", "boolean");
        bool replaces = bound[0] is TemplateUndefined || (bound.Truth(2, absent: false) && !run.Truth(bound[0]));
        return !replaces ? bound[0] : bound.Given[1] ? bound[1] : TemplateText.Empty;
    }

    private static object? Attribute(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "attr", 2, "obj", "name");
        TemplateText name = bound.Text(1);
        return TemplateMembers.TryAttribute(run, bound[0], name.Value, out object? member)
            ? member
            : new TemplateUndefined($"{TemplateRun.Describe(bound[0])} has no member '{name}'");
    }

    private static object? ToFloat(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "float", 1, "value", "default");
        return Float(run, bound[0]) ?? (bound.Given[1] ? bound[1] : 0.0);
    }

    private static object? ToInteger(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "int", 1, "value", "default", "base");
        int radix = bound.Integer(2, 10);
        BigInteger? whole = bound[0] switch
        {
            TemplateText text => radix is 0 or (>= 2 and <= 36) ? PythonNumbers.ParseInteger(text.Value, radix) : null,
            var value => PythonNumbers.AsInteger(value),
        };
        if (whole is not null)
        {
            return whole;
        }
        double? number = Float(run, bound[0]);
        if (number is { } infinite && double.IsInfinity(infinite))
        {
            throw run.Error("infinity is no integer");
        }
        return number is { } finite && !double.IsNaN(finite) ? new BigInteger(finite) : bound.Given[1] ? bound[1] : BigInteger.Zero;
    }

    private static double? Float(TemplateRun run, object? value) => value switch
    {
        TemplateUndefined undefined => throw run.Error(undefined),
        TemplateText text => PythonNumbers.ParseFloat(text.Value),
        _ => PythonNumbers.IsNumber(value) ? PythonNumbers.AsDouble(run, value) : null,
    };

    private static object? Round(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "round", 1, "value", "precision", "method");
        string method = bound.Text(2, "common").Value;
        int precision = bound.Integer(1, 0);
        if (!PythonNumbers.IsNumber(bound[0]))
        {
            throw bound.Wrong(0, "a number");
        }
        switch (method)
        {
            case "common":
                return PythonNumbers.Round(run, bound[0], precision);
            case "ceil" or "floor":
                object scale = PythonNumbers.Arithmetic(run, "**", (BigInteger)10, (BigInteger)precision);
                object scaled = PythonNumbers.Arithmetic(run, "*", bound[0], scale);
                if (scaled is double number)
                {
                    scaled = double.IsFinite(number) ? new BigInteger(method == "ceil" ? Math.Ceiling(number) : Math.Floor(number)) : throw run.Error("no finite number is rounded");
                }
                return PythonNumbers.Arithmetic(run, "/", scaled, scale);
            default:
                throw run.Error($"the method of rounding is '{method}', expected common, ceil or floor");
        }
    }

    private static object? FileSize(TemplateRun run, TemplateArguments arguments)
    {
        BoundArguments bound = arguments.Bind(run, "filesizeformat", 1, "value", "binary");
        double bytes = Float(run, bound[0]) ?? throw bound.Wrong(0, "a number");
        bool binary = bound.Truth(1, absent: false);
        double unit = binary ? 1024 : 1000;
        if (bytes == 1)
        {
            return TemplateText.Of("1 Byte");
        }
        if (bytes < unit)
        {
            return TemplateText.Of($"{new BigInteger(bytes)} Bytes");
        }
        if (!double.IsFinite(bytes))
        {
            throw bound.Wrong(0, "a finite number");
        }
        const string Prefixes = "kMGTPEZY";
        double scale = unit;
        int prefix = 0;
        while (bytes >= scale * unit && prefix < Prefixes.Length - 1)
        {
            scale *= unit;
            prefix++;
        }
        var tenth = new PythonFormat { Precision = 1, Type = 'f' };
        string letter = binary && prefix == 0 ? "Ki" : Prefixes[prefix] + (binary ? "i" : "");
        return TemplateText.Of($"{tenth.Number(run, unit * bytes / (scale * unit))} {letter}B");
    }
}
