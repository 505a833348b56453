using System.Buffers;
using System.Text;
using System.Text.Json;

namespace Octet.Inference.Chat;

/// <summary>What stands before the arguments of a tool call: <c>{"name": "f", "arguments": </c>.</summary>
/// <param name="Name">The tool.</param>
/// <param name="Length">Its characters.</param>
/// <param name="HasArguments">Whether arguments follow.</param>
internal readonly record struct ToolCallHead(string Name, int Length, bool HasArguments)
{
    public enum Result
    {
        /// <summary>More characters may complete it.</summary>
        Incomplete,

        /// <summary>It is one.</summary>
        Complete,

        /// <summary>It is none, whatever follows.</summary>
        Malformed,
    }

    /// <summary>Reads the beginning of a call.</summary>
    public static Result Read(string text, out ToolCallHead head)
    {
        head = default;
        var bytes = Encoding.UTF8.GetBytes(text);
        var reader = new Utf8JsonReader(bytes, isFinalBlock: false, default);
        string? name = null;
        try
        {
            if (!reader.Read())
            {
                return Result.Incomplete;
            }

            if (reader.TokenType != JsonTokenType.StartObject)
            {
                return Result.Malformed;
            }

            while (reader.Read())
            {
                if (reader.TokenType == JsonTokenType.EndObject)
                {
                    return Found(name, hasArguments: false, reader.BytesConsumed, bytes, out head);
                }

                if (reader.ValueTextEquals("arguments"u8) || reader.ValueTextEquals("parameters"u8))
                {
                    return BehindColon(bytes, (int)reader.BytesConsumed) is { } start
                        ? Found(name, hasArguments: true, start, bytes, out head)
                        : Result.Incomplete;
                }

                var isName = reader.ValueTextEquals("name"u8);
                if (!reader.Read())
                {
                    return Result.Incomplete;
                }

                if (isName && reader.TokenType == JsonTokenType.String)
                {
                    name = reader.GetString();
                }
                else if (!reader.TrySkip())
                {
                    return Result.Incomplete;
                }
            }

            return Result.Incomplete;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return Result.Malformed;
        }
    }

    // A call without a name before its arguments cannot be passed on as it comes.
    private static Result Found(string? name, bool hasArguments, long end, byte[] bytes, out ToolCallHead head)
    {
        head = name is null ? default : new(name, Encoding.UTF8.GetCharCount(bytes, 0, (int)end), hasArguments);
        return name is null ? Result.Malformed : Result.Complete;
    }

    // Where the value begins; null: not here yet. A reader may or may not have taken the colon with the name.
    private static int? BehindColon(byte[] bytes, int at)
    {
        var space = SearchValues.Create(" \t\r\n:"u8);
        var start = bytes.AsSpan(at).IndexOfAnyExcept(space);
        return start < 0 ? null : at + start;
    }
}
