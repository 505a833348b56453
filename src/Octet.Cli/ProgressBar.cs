using System.Diagnostics;

namespace Octet.Cli;

/// <summary>A bar on stderr for work that takes a while; silent where stderr is not a terminal, gone when it is done.</summary>
internal sealed class ProgressBar(string what) : IDisposable
{
    private const int Width = 30;
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(300);

    private readonly bool _visible = !Console.IsErrorRedirected;
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _lastDrawn;
    private bool _drawn;

    /// <summary>A receiver of progress that is drawn at once, on the reporting thread.</summary>
    public IProgress<T> Report<T>(Func<T, (long Done, long Total)> measure) => new Receiver<T>(this, measure);

    public void Dispose()
    {
        if (_drawn)
        {
            Console.Error.Write($"\r{new string(' ', what.Length + Width + 12)}\r");
        }
    }

    private void Draw(long done, long total)
    {
        if (!_visible || total <= 0 || Stopwatch.GetElapsedTime(_start) < Patience
            || (_drawn && Stopwatch.GetElapsedTime(_lastDrawn).TotalMilliseconds < 50))
        {
            return;
        }

        var share = Math.Clamp((double)done / total, 0, 1);
        var filled = (int)(share * Width);
        Console.Error.Write($"\r{what} [{new string('#', filled)}{new string('.', Width - filled)}] {share,4:P0}");
        (_drawn, _lastDrawn) = (true, Stopwatch.GetTimestamp());
    }

    private sealed class Receiver<T>(ProgressBar bar, Func<T, (long Done, long Total)> measure) : IProgress<T>
    {
        public void Report(T value)
        {
            var (done, total) = measure(value);
            bar.Draw(done, total);
        }
    }
}
