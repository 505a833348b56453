using System.Diagnostics;

namespace Octet.Tests.Cli.Serving;

/// <summary>octet serve with the small model on cpu, in a process of its own.</summary>
internal sealed class OctetServer : IAsyncDisposable
{
    private readonly Process _process;

    private OctetServer(Process process, string address) => (_process, Address) = (process, address);

    public string Address { get; }

    /// <summary>Starts it on a free port, and returns when it is ready.</summary>
    public static async Task<OctetServer> StartAsync(params string[] options)
    {
        var process = OctetProcess.Start(["serve", "--device", "cpu", "--port", "0", .. options]);
        string? address = null;
        while (await process.StandardError.ReadLineAsync() is { } line)
        {
            address ??= line.Contains(" at http", StringComparison.Ordinal) ? line[(line.IndexOf(" at http", StringComparison.Ordinal) + 4)..] : null;
            if (line.Contains("is ready", StringComparison.Ordinal))
            {
                // What it says from here on must not fill the pipe.
                _ = process.StandardError.ReadToEndAsync();
                return new(process, address!);
            }
        }

        throw new InvalidOperationException("octet serve ended before it was ready");
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
