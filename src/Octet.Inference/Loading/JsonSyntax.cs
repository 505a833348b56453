using System.Text;
using System.Text.Json;

namespace Octet.Inference.Loading;

/// <summary>Finds what is wrong with a JSON text and says it with line and column: cut short, edited by hand, written by Python, or no JSON at all.</summary>
internal static class JsonSyntax
{
    private static readonly string[] PythonNumbers = ["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"];
    private static readonly string[] PythonWords = ["None", "True", "False"];

    /// <summary>Reads the whole text. Afterwards every string in it is known to be valid, with whole surrogate pairs.</summary>
    /// <exception cref="ModelFormatException">It is not JSON.</exception>
    public static void Check(string file, ReadOnlySpan<byte> json)
    {
        // NOTE: as if more were to come: then the end of the text is no error of syntax, and what is one is none of a text cut short.
        var reader = new Utf8JsonReader(json, isFinalBlock: false, state: default);
        try
        {
            while (reader.Read())
            {
                // JsonElement notices half surrogate pairs only when a string is taken out; found here, every later access is safe.
                if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName && reader.ValueIsEscaped)
                {
                    _ = reader.GetString();
                }
            }
        }
        catch (JsonException cause)
        {
            throw Invalid(file, json, Offset(json, cause), cause);
        }
        catch (InvalidOperationException cause)
        {
            throw new ModelFormatException(
                $"{file}: is not valid JSON: the string at {ModelText.Position(json, reader.TokenStartIndex)} holds half of a surrogate pair (\\ud800 to \\udfff), which is no character", cause);
        }
        if (reader.TokenType == JsonTokenType.None && json.IndexOfAnyExcept(" \t\r\n"u8) < 0)
        {
            throw new ModelFormatException($"{file}: is not valid JSON: it holds nothing but white space");
        }
        bool unread = json[(int)reader.BytesConsumed..].ContainsAnyExcept(" \t\r\n"u8);
        if (reader.CurrentDepth > 0 || unread || reader.TokenType == JsonTokenType.None)
        {
            throw new ModelFormatException(
                $"{file}: is not valid JSON: the text ends before its value does, at {ModelText.Position(json, json.Length)}; fetch it again, or close the bracket or quote if it was edited");
        }
    }

    /// <summary>What a parser said, without the position in its own words.</summary>
    public static string Reason(JsonException cause)
    {
        if (cause.Message.StartsWith("Duplicate property ", StringComparison.Ordinal) && cause.Message.LastIndexOf('\'') is var quote and > 0)
        {
            return $"the property {cause.Message["Duplicate property ".Length..(quote + 1)]} stands twice in one object; keep one of them";
        }
        int end = cause.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
        return (end < 0 ? cause.Message : cause.Message[..end]).TrimEnd('.', ' ');
    }

    private static ModelFormatException Invalid(string file, ReadOnlySpan<byte> json, int at, JsonException cause)
    {
        var (start, word) = Word(json, at);
        ReadOnlySpan<byte> trimmed = json.TrimStart(" \t\r\n"u8);
        byte found = at < json.Length ? json[at] : (byte)0;
        string problem;
        if (trimmed is [(byte)'<', ..])
        {
            return new ModelFormatException($"{file}: is not valid JSON: it begins with '<', as a web page does; fetch the file itself");
        }
        if (json.Contains((byte)0))
        {
            (start, problem) = (json.IndexOf((byte)0), "a zero byte, which no text has; fetch it again");
        }
        else if (PythonNumbers.Contains(word))
        {
            problem = $"'{word}' is Python's; JSON has no such number: put a number or null in its place";
        }
        else if (PythonWords.Contains(word))
        {
            problem = $"'{word}' is Python's; JSON has {(word == "None" ? "null" : word.ToLowerInvariant())}";
        }
        else if (found is (byte)'/' or (byte)'#')
        {
            (start, problem) = (at, "a comment, which JSON does not have: remove it");
        }
        else if (found == (byte)'\'')
        {
            (start, problem) = (at, "a string in single quotes; JSON has double quotes");
        }
        else if (found is (byte)'}' or (byte)']' && json[..at].TrimEnd(" \t\r\n"u8) is [.., (byte)','])
        {
            (start, problem) = (at, $"a comma before '{(char)found}': remove it");
        }
        else
        {
            (start, problem) = (at, Reason(cause));
        }
        return new ModelFormatException($"{file}: is not valid JSON at {ModelText.Position(json, start)}: {problem}", cause);
    }

    // The word around a byte: readers stop at the first letter that cannot be one of null, true or false, or behind a minus.
    private static (int Start, string Word) Word(ReadOnlySpan<byte> json, int at)
    {
        static bool InWord(byte b) => char.IsAsciiLetter((char)b) || b == (byte)'-';
        int start = Math.Min(at, json.Length);
        while (start > 0 && InWord(json[start - 1]))
        {
            start--;
        }
        int end = start;
        while (end < json.Length && InWord(json[end]))
        {
            end++;
        }
        return (start, Encoding.ASCII.GetString(json[start..end]));
    }

    private static int Offset(ReadOnlySpan<byte> json, JsonException cause)
    {
        int line = 0;
        for (long i = 0; i < (cause.LineNumber ?? 0); i++)
        {
            line += json[line..].IndexOf((byte)'\n') + 1;
        }
        return (int)Math.Min(json.Length, line + (cause.BytePositionInLine ?? 0));
    }
}
