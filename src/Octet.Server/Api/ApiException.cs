namespace Octet.Server.Api;

/// <summary>A request is answered with an error, as OpenAI's API writes them.</summary>
/// <param name="status">The status: 4xx where the client can mend it, 5xx where it may try again.</param>
/// <param name="message">What is wrong, and what would be right.</param>
internal sealed class ApiException(int status, string message) : Exception(message)
{
    /// <summary>The HTTP status.</summary>
    public int Status => status;

    /// <summary>The field that is at fault; null: none.</summary>
    public string? Field { get; init; }

    /// <summary>A name of the error that programs compare; null: none.</summary>
    public string? Code { get; init; }

    /// <summary>Seconds after which it is worth another try; null: nothing is said.</summary>
    public int? RetryAfter { get; init; }

    /// <summary>The kind of error that OpenAI's API writes for the status.</summary>
    public string Type => status switch
    {
        StatusCodes.Status401Unauthorized => "authentication_error",
        StatusCodes.Status429TooManyRequests => "rate_limit_error",
        StatusCodes.Status503ServiceUnavailable => "service_unavailable_error",
        StatusCodes.Status504GatewayTimeout => "timeout_error",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };

    /// <summary>A field is not what it must be.</summary>
    public static ApiException BadField(string field, string problem) => new(StatusCodes.Status400BadRequest, $"{field}: {problem}") { Field = field };

    /// <summary>The prompt, or the prompt and what was asked for, is longer than the context.</summary>
    public static ApiException TooLong(string field, int prompt, int? asked, int context) => new(
        StatusCodes.Status400BadRequest,
        $"the model's context is {context} tokens, the prompt has {prompt}"
        + (asked is null ? ": no room is left for an answer" : $" and {asked} more were asked for in {field}"))
    {
        Field = field,
        Code = "context_length_exceeded",
    };

    /// <summary>It cannot be served now, but later.</summary>
    public static ApiException Unavailable(string message, int retryAfter = 1) =>
        new(StatusCodes.Status503ServiceUnavailable, message) { RetryAfter = retryAfter };
}
