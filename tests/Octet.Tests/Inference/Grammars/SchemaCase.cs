using System.Text.Json;
using Octet.Inference.Grammars;

namespace Octet.Tests.Inference.Grammars;

/// <summary>A schema, with values that its grammar has and values that it has not, as they would be written.</summary>
public sealed record SchemaCase(string Name, string Schema, string[] Written, string[] NotWritten)
{
    internal Grammar Grammar()
    {
        using var json = JsonDocument.Parse(Schema);
        return Octet.Inference.Grammars.Grammar.FromJsonSchema(json.RootElement);
    }

    public override string ToString() => Name;

    public static IReadOnlyList<SchemaCase> All { get; } =
    [
        // Values of one type.
        new("null", """{"type": "null"}""", ["null"], ["nul", "\"null\"", "0"]),
        new("boolean", """{"type": "boolean"}""", ["true", "false"], ["True", "1"]),
        new("string", """{"type": "string"}""", ["\"\"", "\"a\"", "\"é😀\"", """ "\u00e9\ud83d\ude00\n\"\\\/" """, "\"\u007f\""],
            ["\"", "\"\n\"", """ "\ud83d" """, """ "\ude00" """, """ "\ud83d\u0041" """, """ "\x41" """, "a"]),
        new("integer", """{"type": "integer"}""", ["0", "-1", "999999999999999"], ["-0", "01", "1.0", "1e3", "+1", "9999999999999999"]),
        new("number", """{"type": "number"}""", ["0", "-0.5", "1e-7", "12.25E+10", "999999999999999"], [".5", "1.", "00", "1e", "1e999", "NaN"]),
        new("any", "{}", ["null", "[]", "{}", """{"a": [1, {"b": null}]}""", "\"x\"", "-1.5"], ["", "[1,]", "{\"a\":1,}", "[,1]", " 1"]),
        new("true", "true", ["[[1],[2, 3]]", "{\"a\":\"b\"}"], ["[", "{\"a\"}"]),
        new("types", """{"type": ["string", "null", "integer"]}""", ["null", "\"a\"", "3"], ["true", "3.5", "[]"]),
        new("number or string", """{"type": ["number", "string"], "minimum": 2, "maxLength": 2}""", ["2", "2.5", "\"ab\""], ["1", "\"abc\"", "null"]),

        // Strings.
        new("length at least", """{"type": "string", "minLength": 3}""", ["\"abc\"", "\"é😀x\"", "\"日本語\\u0301\"", """ "\"\n\\" """], ["\"ab\"", "\"😀a\""]),
        new("length at most", """{"type": "string", "maxLength": 3}""", ["\"\"", "\"😀😀😀\"", """ "\n\t\"" """], ["\"abcd\"", "\"ééé\u00e9\""]),
        new("length between", """{"type": "string", "minLength": 2, "maxLength": 2}""", ["\"ab\"", "\"日本\""], ["\"a\"", "\"abc\""]),
        new("length 0", """{"type": "string", "maxLength": 0}""", ["\"\""], ["\"a\""]),
        new("long", """{"type": "string", "minLength": 150, "maxLength": 300}""", ["\"" + new string('x', 150) + "\"", "\"" + new string('é', 300) + "\""],
            ["\"" + new string('x', 149) + "\"", "\"" + new string('x', 301) + "\""]),
        new("length without type", """{"minLength": 1}""", ["\"a\""], ["\"\"", "1"]),
        new("date", """{"type": "string", "format": "date"}""", ["\"2024-12-31\"", "\"1999-02-28\""], ["\"2024-13-01\"", "\"2023-02-29\"", "\"2024-04-31\"", "\"24-1-1\""]),
        new("time", """{"type": "string", "format": "time"}""", ["\"23:59:59Z\"", "\"00:00:00.5+02:00\""], ["\"24:00:00Z\"", "\"12:00:00\""]),
        new("date-time", """{"type": "string", "format": "date-time"}""", ["\"2024-12-31T23:59:59Z\""], ["\"2024-12-31\"", "\"2024-12-31 23:59:59Z\""]),
        new("uuid", """{"type": "string", "format": "uuid"}""", ["\"123e4567-e89b-12d3-a456-426614174000\""], ["\"123e4567e89b12d3a456426614174000\""]),
        new("ipv4", """{"type": "string", "format": "ipv4"}""", ["\"192.168.0.255\"", "\"0.0.0.0\""], ["\"256.1.1.1\"", "\"1.2.3\"", "\"01.2.3.4\""]),
        new("email", """{"type": "string", "format": "email"}""", ["\"a.b@example.org\"", "\"x@y.de\""], ["\"a@b\"", "\"@b.org\"", "\"a b@c.org\""]),

        // Constants.
        new("enum", """{"enum": ["red", "green", null, 3, 1.50, true]}""", ["\"red\"", "\"green\"", "null", "3", "1.50", "true"], ["\"re\"", "\"blue\"", "31", "false"]),
        new("enum of a type", """{"type": "string", "enum": ["a", "ab", "abc", 1]}""", ["\"a\"", "\"ab\"", "\"abc\""], ["\"\"", "\"abcd\"", "1"]),
        new("enum within bounds", """{"enum": [1, 5, 9], "minimum": 2, "exclusiveMaximum": 9}""", ["5"], ["1", "9"]),
        new("enum of characters", """{"enum": ["é", "日本", "a\"b", "\\", "\n", "\u0001", "😀"]}""",
            ["\"é\"", "\"日本\"", """ "a\"b" """, """ "\\" """, """ "\n" """, """ "\u0001" """, "\"😀\""], ["\"e\""]),
        new("const object", """{"const": {"a": [1, {"b": null}], "c": "x"}}""", ["""{"a": [1, {"b": null}], "c": "x"}""", """{"a":[1,{"b":null}],"c":"x"}"""],
            ["""{"c": "x", "a": [1, {"b": null}]}""", "{}"]),
        new("const list", """{"const": []}""", ["[]"], ["[1]"]),
        new("const number", """{"const": -12.5e3}""", ["-12.5e3"], ["-12500"]),
        new("const and enum", """{"const": 2, "enum": [1, 2, 3]}""", ["2"], ["1", "3"]),

        // Numbers within bounds.
        new("0 to 255", """{"type": "integer", "minimum": 0, "maximum": 255}""", ["0", "9", "10", "99", "100", "199", "255"], ["256", "-1", "260", "300", "1000", "007"]),
        new("-17 to 42", """{"type": "integer", "minimum": -17, "maximum": 42}""", ["-17", "-9", "0", "42"], ["-18", "43", "-20", "100"]),
        new("negative", """{"type": "integer", "minimum": -250, "maximum": -3}""", ["-3", "-10", "-249", "-250"], ["-2", "-251", "0", "3"]),
        new("exclusive", """{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}""", ["1", "2"], ["0", "3"]),
        new("fractional ends", """{"type": "integer", "minimum": -1.5, "maximum": 2.5}""", ["-1", "0", "2"], ["-2", "3"]),
        new("64 bits", """{"type": "integer", "minimum": -9223372036854775808, "maximum": 9223372036854775807}""",
            ["9223372036854775807", "-9223372036854775808", "5"], ["9223372036854775808", "-9223372036854775809"]),
        new("at least", """{"type": "integer", "minimum": 1000}""", ["1000", "999999999999999"], ["999", "1"]),
        new("at least, large", """{"type": "integer", "minimum": 1e18}""", ["1000000000000000000", "20000000000000000000"], ["999999999999999999"]),
        new("0 to 1", """{"type": "number", "minimum": 0, "maximum": 1}""", ["0", "1", "0.5", "1.0", "0.0001", "0.0"], ["1.1", "-0.1", "2", "1.0001", "1e0"]),
        new("0 to 1, exclusive", """{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}""", ["0.5", "0.001", "0.999"], ["0", "1", "0.0", "0.000"]),
        new("narrow", """{"type": "number", "minimum": 2.345, "maximum": 2.3456}""", ["2.345", "2.3450", "2.34555", "2.3456"], ["2.3449", "2.34561", "2", "2.4"]),
        new("around 0", """{"type": "number", "minimum": -0.25, "exclusiveMaximum": 10.5}""", ["-0.25", "-0.1", "0", "10.4999", "9"], ["-0.26", "10.5", "11"]),
        new("far negative", """{"type": "number", "exclusiveMaximum": -99.5}""", ["-99.6", "-100", "-1000"], ["-99.5", "-99", "99.6", "0"]),
        new("exponents", """{"type": "number", "minimum": 1.5e2, "maximum": 25e1}""", ["150", "250", "199.9"], ["149.9", "250.1"]),

        // Objects.
        new("object", """{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"], "additionalProperties": false}""",
            ["""{"name": "Ada", "age": 36}""", """{"name":"","age":0}"""], ["""{"age": 36, "name": "Ada"}""", """{"name": "Ada"}""", "{}", """{"name": "Ada", "age": 36, "x": 1}"""]),
        new("optional", """{"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}, "required": ["b"], "additionalProperties": false}""",
            ["""{"b": null}""", """{"a": null, "b": null}""", """{"b": null, "c": null}""", """{"a": null, "b": null, "c": null}"""],
            ["{}", """{"a": null}""", """{"b": null, "a": null}""", """{"a": null, "a": null, "b": null}""", """{,"b": null}"""]),
        new("all optional", """{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "additionalProperties": false}""",
            ["{}", """{"a": true}""", """{"b": true}""", """{"a": true, "b": false}"""], ["""{"c": true}""", """{"a": true,}"""]),
        new("free members", """{"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}""",
            ["""{"id": 1}""", """{"id": 1, "x": [1], "id2": "y"}""", """{"id": 1, "i": 1, "idd": 2, "": 0, "é": null}"""],
            ["""{"id": 1, "id": 2}""", """{"id": 1, "x": 1, "x": 2}""", """{"x": 1, "id": 1}""", """{"id": 1, "\u0069d": 2}"""]),
        new("map", """{"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}""",
            ["{}", """{"a": 1, "b": 2}""", """{"日本": 5}"""], ["""{"a": -1}""", """{"a": "x"}""", """{"a": 1, "a": 1}"""]),
        new("required and not declared", """{"type": "object", "required": ["x", "y"], "additionalProperties": {"type": "null"}}""",
            ["""{"x": null, "y": null}""", """{"x": null, "y": null, "z": null}"""], ["{}", """{"x": null}""", """{"x": 1, "y": null}"""]),
        new("names", """{"type": "object", "properties": {"a b": {"type": "null"}, "é": {"type": "null"}, "\"q\"": {"type": "null"}, "": {"type": "null"}}, "required": ["a b", "é", "\"q\"", ""], "additionalProperties": false}""",
            ["""{"a b": null, "é": null, "\"q\"": null, "": null}"""], ["""{"a b": null}"""]),
        new("properties without type", """{"properties": {"a": {"type": "integer"}}, "required": ["a"]}""", ["""{"a": 1}"""], ["1", "[]", "{}"]),
        new("no value of an optional property", """{"type": "object", "properties": {"a": false, "b": true}, "additionalProperties": false}""", ["{}", """{"b": 1}"""], ["""{"a": 1}"""]),
        new("nested", """{"type": "object", "properties": {"user": {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}, "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3}}, "required": ["name"], "additionalProperties": false}}, "required": ["user"], "additionalProperties": false}""",
            ["""{"user": {"name": "x", "tags": ["a", "b"]}}""", """{"user": {"name": "x"}}"""], ["""{"user": {"name": ""}}""", """{"user": {"name": "x", "tags": ["a", "b", "c", "d"]}}"""]),
        new("deep", string.Concat(Enumerable.Repeat("""{"type": "array", "minItems": 1, "maxItems": 2, "items": """, 20)) + """{"type": "integer"}""" + new string('}', 20),
            [new string('[', 20) + "1" + new string(']', 20)], [new string('[', 19) + "1" + new string(']', 19)]),

        // Arrays.
        new("array", """{"type": "array"}""", ["[]", "[1, \"a\", null]"], ["[1 ]", "{}"]),
        new("items", """{"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}""", ["[1, 2]", "[1,2,3,4]"], ["[1]", "[1, 2, 3, 4, 5]", "[1, \"a\"]"]),
        new("no items", """{"type": "array", "maxItems": 0}""", ["[]"], ["[1]"]),
        new("items false", """{"type": "array", "items": false}""", ["[]"], ["[1]"]),
        new("many items", """{"type": "array", "items": {"type": "null"}, "minItems": 40, "maxItems": 41}""",
            ["[" + string.Join(", ", Enumerable.Repeat("null", 40)) + "]", "[" + string.Join(",", Enumerable.Repeat("null", 41)) + "]"],
            ["[" + string.Join(", ", Enumerable.Repeat("null", 39)) + "]", "[" + string.Join(", ", Enumerable.Repeat("null", 42)) + "]"]),
        new("prefix", """{"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false, "minItems": 2}""", ["[\"a\", 1]"], ["[\"a\"]", "[\"a\", 1, 2]", "[1, \"a\"]"]),
        new("prefix and rest", """{"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "null"}, "maxItems": 3}""", ["[]", "[\"a\"]", "[\"a\", null, null]"], ["[null]", "[\"a\", null, null, null]"]),
        new("prefix alone", """{"type": "array", "prefixItems": [{"type": "null"}], "minItems": 1}""", ["[null]", "[null, 5, \"x\"]"], ["[]", "[5]"]),
        new("arrays of arrays", """{"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 1}, "minItems": 1}""", ["[[true], [false, true]]"], ["[]", "[[]]"]),

        // Alternatives.
        new("anyOf", """{"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer", "minimum": 5}]}""", ["\"ab\"", "5"], ["\"abc\"", "4"]),
        new("anyOf with the same beginning", """{"anyOf": [{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["a", "b"], "additionalProperties": false}, {"type": "object", "properties": {"a": {"type": "integer"}, "c": {"type": "null"}}, "required": ["a", "c"], "additionalProperties": false}]}""",
            ["""{"a": 1, "b": null}""", """{"a": 1, "c": null}"""], ["""{"a": 1}""", """{"a": 1, "b": null, "c": null}"""]),
        new("anyOf of strings", """{"anyOf": [{"type": "string", "maxLength": 1}, {"type": "string", "minLength": 4, "maxLength": 5}, {"const": "xyz"}]}""", ["\"\"", "\"a\"", "\"abcd\"", "\"xyz\""], ["\"ab\"", "\"abc\"", "\"abcdef\""]),
        new("anyOf of what is required", """{"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "additionalProperties": false, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}""",
            ["""{"a": 1}""", """{"b": 1}""", """{"a": 1, "b": 2}"""], ["{}"]),
        new("nullable reference", """{"anyOf": [{"$ref": "#/$defs/p"}, {"type": "null"}], "$defs": {"p": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"], "additionalProperties": false}}}""",
            ["null", """{"x": 1.5}"""], ["{}", "1"]),
        new("oneOf by type", """{"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "array", "items": {"type": "null"}}]}""", ["\"a\"", "1.5", "[null]"], ["null", "{}"]),
        new("oneOf by constant", """{"oneOf": [{"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number", "minimum": 0}}, "required": ["kind", "r"], "additionalProperties": false}, {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number", "minimum": 0}}, "required": ["kind", "side"], "additionalProperties": false}]}""",
            ["""{"kind": "circle", "r": 2}""", """{"kind": "square", "side": 2.5}"""], ["""{"kind": "circle", "side": 2}""", """{"kind": "cube"}"""]),
        new("oneOf by property", """{"$schema": "http://json-schema.org/draft-07/schema#", "oneOf": [{"$ref": "#/definitions/a"}, {"$ref": "#/definitions/b"}], "definitions": {"a": {"type": "object", "required": ["x"], "properties": {"x": {}}, "additionalProperties": false}, "b": {"type": "object", "required": ["y"], "properties": {"y": {}}, "additionalProperties": false}}}""",
            ["""{"x": 1}""", """{"y": []}"""], ["{}", """{"x": 1, "y": 1}"""]),
        new("allOf of one", """{"allOf": [{"$ref": "#/$defs/s"}], "description": "x", "$defs": {"s": {"type": "string", "enum": ["u", "v"]}}}""", ["\"u\"", "\"v\""], ["\"w\""]),
        new("allOf of several", """{"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]}""",
            ["""{"a": 1, "b": true}""", """{"a": 1, "b": true, "c": "x"}"""], ["""{"a": 1}""", """{"b": true}"""]),
        new("allOf of bounds", """{"type": "integer", "minimum": 0, "allOf": [{"maximum": 10}, {"maximum": 5}, {"exclusiveMinimum": 0}, true]}""", ["1", "5"], ["0", "6"]),
        new("reference with more", """{"$ref": "#/$defs/n", "maximum": 3, "$defs": {"n": {"type": "integer", "minimum": 1}}}""", ["1", "3"], ["0", "4"]),

        // Schemas that hold themselves.
        new("tree", """{"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value", "children"], "additionalProperties": false}}}""",
            ["""{"value": 1, "children": []}""", """{"value": 1, "children": [{"value": 2, "children": [{"value": 3, "children": []}]}]}"""], ["""{"value": 1}""", """{"value": 1, "children": [{}]}"""]),
        new("list", """{"type": "object", "properties": {"head": {"type": "string"}, "tail": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["head", "tail"], "additionalProperties": false}""",
            ["""{"head": "a", "tail": null}""", """{"head": "a", "tail": {"head": "b", "tail": null}}"""], ["""{"head": "a"}"""]),
        new("expression", """{"$ref": "#/$defs/e", "$defs": {"e": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/op"}]}, "op": {"type": "object", "properties": {"op": {"enum": ["+", "*"]}, "args": {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 2}}, "required": ["op", "args"], "additionalProperties": false}}}""",
            ["1", """{"op": "+", "args": [1, {"op": "*", "args": [2, 3]}]}"""], ["""{"op": "-", "args": [1, 2]}""", """{"op": "+", "args": [1]}"""]),
        new("mutual", """{"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}}, "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "additionalProperties": false}}}""",
            ["[]", """[{}, {"a": [{"a": []}]}]"""], ["[[]]"]),
        new("reference to a property", """{"type": "object", "properties": {"from": {"type": "object", "properties": {"x/y": {"type": "integer"}}, "required": ["x/y"], "additionalProperties": false}, "to": {"$ref": "#/properties/from"}, "n": {"$ref": "#/properties/from/properties/x~1y"}}, "required": ["from", "to", "n"], "additionalProperties": false}""",
            ["""{"from": {"x/y": 1}, "to": {"x/y": 2}, "n": 3}"""], ["""{"from": {"x/y": 1}, "to": 1, "n": 3}"""]),
        new("ambiguous recursion", """{"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "additionalProperties": false}, {"type": "object", "properties": {"x": {"$ref": "#/$defs/b"}}, "required": ["x"], "additionalProperties": false}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "object", "properties": {"x": {"$ref": "#/$defs/b"}, "y": {"type": "null"}}, "required": ["x", "y"], "additionalProperties": false}]}}}""",
            ["{}", """{"x": {"x": {"x": {}}}}""", """{"x": {"x": {"x": {"x": {}}}, "y": null}}"""], ["""{"y": null}"""]),

        // What people send.
        new("weather", """{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Weather", "description": "of a place", "type": "object", "properties": {"location": {"type": "string", "description": "City", "examples": ["Bern"]}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"}}, "required": ["location"], "additionalProperties": false}""",
            ["""{"location": "Bern", "unit": "celsius"}""", """{"location": "Bern"}"""], ["""{"location": "Bern", "unit": "kelvin"}"""]),
        new("steps", """{"type": "object", "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}, "final_answer": {"type": "string"}}, "$defs": {"step": {"type": "object", "properties": {"explanation": {"type": "string"}, "output": {"type": "string"}}, "required": ["explanation", "output"], "additionalProperties": false}}, "required": ["steps", "final_answer"], "additionalProperties": false}""",
            ["""{"steps": [{"explanation": "a", "output": "b"}], "final_answer": "c"}"""], ["""{"steps": []}"""]),
        new("invoice", """{"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}, "date": {"type": "string", "format": "date"}, "lines": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 20}, "count": {"type": "integer", "minimum": 1, "maximum": 99}, "price": {"type": "number", "minimum": 0.01, "maximum": 9999.99}}, "required": ["text", "count", "price"], "additionalProperties": false}}, "paid": {"type": "boolean"}}, "required": ["id", "date", "lines", "paid"], "additionalProperties": false}""",
            ["""{"id": "123e4567-e89b-12d3-a456-426614174000", "date": "2025-01-31", "lines": [{"text": "x", "count": 1, "price": 9.5}], "paid": false}"""], ["{}"]),
    ];
}
