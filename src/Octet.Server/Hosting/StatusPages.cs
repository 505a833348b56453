using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using Octet.Server.Api;

namespace Octet.Server.Hosting;

/// <summary>Short answers for operators, and the page for people.</summary>
internal static class StatusPages
{
    private static readonly byte[] Page = ReadPage();

    // The page's own style and script and no other, nothing from elsewhere, and no text that becomes HTML.
    private static readonly string PagePolicy =
        $"default-src 'none'; style-src {HashOf("style")}; script-src {HashOf("script")}; connect-src 'self'; img-src data:; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

    /// <summary>200, or 503 with what is wrong.</summary>
    public static Task AnswerAsync(HttpContext http, string? problem)
    {
        http.Response.StatusCode = problem is null ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable;
        if (problem is not null)
        {
            http.Response.Headers.RetryAfter = "1";
        }

        return JsonWriting.WriteAsync(
            http.Response,
            json =>
            {
                json.WriteStartObject();
                json.WriteString("status", problem is null ? "ok" : "unavailable");
                if (problem is not null)
                {
                    json.WriteString("reason", problem);
                }

                json.WriteEndObject();
            },
            http.RequestAborted);
    }

    /// <summary>The version of this library.</summary>
    public static Task VersionAsync(HttpContext http) => JsonWriting.WriteAsync(
        http.Response,
        json =>
        {
            json.WriteStartObject();
            json.WriteString("version", Version);
            json.WriteEndObject();
        },
        http.RequestAborted);

    /// <summary>The page: one file, with its style and script; nothing of it comes from elsewhere.</summary>
    public static async Task PageAsync(HttpContext http)
    {
        http.Response.ContentType = "text/html; charset=utf-8";
        http.Response.Headers.ContentSecurityPolicy = PagePolicy;
        http.Response.Headers.XContentTypeOptions = "nosniff";
        http.Response.Headers["Referrer-Policy"] = "no-referrer";
        await http.Response.Body.WriteAsync(Page, http.RequestAborted);
    }

    private static string Version =>
        typeof(StatusPages).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    // What stands in the page's one element of this name.
    private static string HashOf(string element)
    {
        var content = Page.AsSpan()[(Page.AsSpan().IndexOf(Encoding.ASCII.GetBytes($"<{element}>")) + element.Length + 2)..];
        content = content[..content.IndexOf(Encoding.ASCII.GetBytes($"</{element}>"))];
        return $"'sha256-{Convert.ToBase64String(SHA256.HashData(content))}'";
    }

    private static byte[] ReadPage()
    {
        using var stream = typeof(StatusPages).Assembly.GetManifestResourceStream("Page.index.html")!;
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }
}
