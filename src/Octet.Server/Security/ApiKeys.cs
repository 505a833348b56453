using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Options;
using Octet.Server.Api;

namespace Octet.Server.Security;

/// <summary>The keys that clients may show. Only their hashes are kept, and every one of them is compared, so that time says nothing of them.</summary>
internal sealed class ApiKeys
{
    private const string Scheme = "Bearer ";
    private readonly List<byte[]> _hashes = [];

    public ApiKeys(IOptions<OctetServerOptions> options)
    {
        IEnumerable<string> keys = options.Value.ApiKeys;
        if (options.Value.ApiKeyFile is { } file)
        {
            keys = keys.Concat(ReadFile(file));
        }

        _hashes.AddRange(keys.Select(key => SHA256.HashData(Encoding.UTF8.GetBytes(key))));
    }

    /// <summary>Whether clients must show one.</summary>
    public bool AreRequired => _hashes.Count > 0;

    /// <summary>Which key a request shows, as a number from 0; -1 where none is required.</summary>
    /// <exception cref="ApiException">It shows none, or another one.</exception>
    public int Check(HttpRequest request)
    {
        if (!AreRequired)
        {
            return -1;
        }

        var header = request.Headers.Authorization.ToString();
        var shown = header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) ? header[Scheme.Length..].Trim() : null;
        if (shown is null)
        {
            throw new ApiException(StatusCodes.Status401Unauthorized, "no API key was sent, expected the header Authorization: Bearer KEY")
            {
                Code = "missing_api_key",
            };
        }

        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(shown), hash);
        var found = -1;
        for (var i = 0; i < _hashes.Count; i++)
        {
            found = CryptographicOperations.FixedTimeEquals(_hashes[i], hash) ? i : found;
        }

        return found >= 0 ? found
            : throw new ApiException(StatusCodes.Status401Unauthorized, "the API key is not one of this server's") { Code = "invalid_api_key" };
    }

    /// <summary>The keys of a file, one in a line.</summary>
    /// <exception cref="ArgumentException">It cannot be read, or has none.</exception>
    public static string[] ReadFile(string file)
    {
        string[] lines;
        try
        {
            lines = File.ReadAllLines(file);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ArgumentException($"the API keys cannot be read: {error.Message}", error);
        }

        string[] keys = [.. lines.Select(line => line.Trim()).Where(line => line.Length > 0 && line[0] != '#')];
        return keys.Length > 0 ? keys : throw new ArgumentException($"{file} has no API key: expected one in a line");
    }
}
