using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace Octet.Cli;

/// <summary>
/// A bar on stderr for work that takes a while; silent where stderr is not a terminal. It leaves the line before anything else is
/// written there, before a signal ends the process, and when the work is done.
/// </summary>
internal sealed class ProgressBar : IDisposable
{
    private const int Widest = 30;
    private const int Narrowest = 5;

    // What a terminal shows of Ctrl-C.
    private const int EchoColumns = 2;

    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(300);
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(50);

    private readonly Lock _lock = new();
    private readonly string _what;
    private readonly TextWriter? _terminal; // null: none
    private readonly Func<int> _columns;
    private readonly TimeSpan _wait;
    private readonly TimeSpan _pause;
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly List<IDisposable> _owned = [];
    private readonly Action _restore = () => { };
    private long _lastDrawn;
    private int _drawn;       // columns on the line
    private bool _midLine;    // somebody else's line is not ended
    private bool _stopped;

    public ProgressBar(string what)
        : this(what, Console.IsErrorRedirected ? null : Console.Error, Terminal.Width, s_patience, s_pause)
    {
        if (_terminal is null)
        {
            return;
        }

        var (output, error) = (Console.Out, Console.Error);
        Console.SetError(Before(error));
        if (!Console.IsOutputRedirected)
        {
            Console.SetOut(Before(output));
        }

        _restore = () =>
        {
            Console.SetError(error);
            Console.SetOut(output);
        };
        foreach (var signal in (PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP])
        {
            _owned.Add(PosixSignalRegistration.Create(signal, _ => Stop()));
        }
    }

    /// <summary>A bar on any terminal.</summary>
    /// <param name="what">The words before it.</param>
    /// <param name="terminal">Where it is drawn; null: nowhere.</param>
    /// <param name="columns">How wide that is now.</param>
    /// <param name="wait">How long the work goes on before the bar shows.</param>
    /// <param name="pause">The least time between two drawings.</param>
    internal ProgressBar(string what, TextWriter? terminal, Func<int> columns, TimeSpan wait, TimeSpan pause) =>
        (_what, _terminal, _columns, _wait, _pause) = (what, terminal, columns, wait, pause);

    /// <summary>A receiver of progress that is drawn at once, on the reporting thread.</summary>
    public IProgress<T> Report<T>(Func<T, (long Done, long Total)> measure) => new Receiver<T>(this, measure);

    /// <summary>A writer to the same terminal before whose text the bar leaves.</summary>
    internal TextWriter Before(TextWriter inner) => new ClearingWriter(this, inner);

    /// <summary>Takes the bar away for good.</summary>
    public void Dispose()
    {
        Stop();
        _owned.ForEach(o => o.Dispose());
        _restore();
    }

    /// <summary>Takes the bar away; it is not drawn again.</summary>
    internal void Stop()
    {
        lock (_lock)
        {
            Clear();
            _stopped = true;
        }
    }

    private void Draw(long done, long total)
    {
        lock (_lock)
        {
            if (_terminal is null || _stopped || _midLine || total <= 0 || Stopwatch.GetElapsedTime(_start) < _wait
                || (_lastDrawn != 0 && Stopwatch.GetElapsedTime(_lastDrawn) < _pause))
            {
                return;
            }

            var text = Text(_what, Math.Clamp((double)done / total, 0, 1), _columns() - 1);
            var pad = Math.Clamp(_drawn - text.Length, 0, Math.Max(_columns() - 1 - text.Length, 0));
            _terminal.Write($"\r{text}{new string(' ', pad)}");
            _terminal.Flush();
            (_drawn, _lastDrawn) = (text.Length + pad, Stopwatch.GetTimestamp());
        }
    }

    /// <summary>The bar in so many columns: shorter, then the share alone, where there are few.</summary>
    internal static string Text(string what, double share, int columns)
    {
        var percent = $"{share,5:P0}";
        var width = Math.Min(Widest, columns - what.Length - " [] ".Length - percent.Length);
        if (width >= Narrowest)
        {
            var filled = (int)(share * width);
            return $"{what} [{new string('#', filled)}{new string('.', width - filled)}] {percent}";
        }

        var words = $"{what} {percent}";
        return words.Length <= columns ? words : percent.Length <= columns ? percent : "";
    }

    private void Clear()
    {
        if (_drawn > 0)
        {
            _terminal!.Write($"\r{new string(' ', Math.Max(Math.Min(_drawn + EchoColumns, _columns() - 1), 0))}\r");
            _terminal.Flush();
            _drawn = 0;
        }
    }

    private sealed class Receiver<T>(ProgressBar bar, Func<T, (long Done, long Total)> measure) : IProgress<T>
    {
        public void Report(T value)
        {
            var (done, total) = measure(value);
            bar.Draw(done, total);
        }
    }

    private sealed class ClearingWriter(ProgressBar bar, TextWriter inner) : TextWriter
    {
        public override Encoding Encoding => inner.Encoding;

        public override void Write(char value) => Write([value]);

        public override void Write(string? value) => Write(value.AsSpan());

        public override void Write(char[] buffer, int index, int count) => Write(buffer.AsSpan(index, count));

        public override void WriteLine(string? value) => Write($"{value}{NewLine}".AsSpan());

        public override void Write(ReadOnlySpan<char> buffer)
        {
            if (buffer.IsEmpty)
            {
                return;
            }

            lock (bar._lock)
            {
                bar.Clear();
                inner.Write(buffer);
                bar._midLine = buffer[^1] != '\n';
            }
        }

        public override void Flush() => inner.Flush();
    }
}
