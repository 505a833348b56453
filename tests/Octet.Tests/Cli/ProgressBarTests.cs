using System.Text;
using Octet.Cli;

namespace Octet.Tests.Cli;

public sealed class ProgressBarTests
{
    private const int Columns = 60;

    [Fact]
    public void The_bar_leaves_before_results_and_comes_back_below_them()
    {
        var screen = new Screen(Columns);
        using (var bar = Create(screen))
        {
            var progress = bar.Report<int>(done => (done, 4));
            var output = bar.Before(screen);
            progress.Report(1);
            Assert.Equal("working [#######.......................]  25 %", screen.Lines[^1].TrimEnd());
            output.WriteLine("first result");
            Assert.Equal(["first result", ""], screen.Lines);
            progress.Report(2);
            Assert.StartsWith("working [", screen.Lines[^1], StringComparison.Ordinal);
            output.Write('x');
            output.WriteLine(12);
        }

        Assert.Equal(["first result", "x12", ""], screen.Lines);
    }

    [Fact]
    public void No_bar_is_drawn_into_a_line_that_is_not_ended()
    {
        var screen = new Screen(Columns);
        using var bar = Create(screen);
        bar.Before(screen).Write("half a li");
        bar.Report<int>(done => (done, 4)).Report(1);
        bar.Before(screen).WriteLine("ne");
        Assert.Equal(["half a line", ""], screen.Lines);
    }

    [Fact]
    public void An_error_on_the_way_leaves_nothing_of_the_bar()
    {
        var screen = new Screen(Columns);
        Assert.Throws<InvalidOperationException>(Fail);
        Assert.Equal([""], screen.Lines);

        void Fail()
        {
            using var bar = Create(screen);
            bar.Report<int>(done => (done, 4)).Report(3);
            throw new InvalidOperationException();
        }
    }

    [Fact]
    public void An_interrupt_clears_the_bar_with_what_the_terminal_echoes_and_it_does_not_come_back()
    {
        var screen = new Screen(Columns);
        using var bar = Create(screen);
        bar.Report<int>(done => (done, 4)).Report(3);
        screen.Write("^C");
        bar.Stop();
        bar.Report<int>(done => (done, 4)).Report(4);
        Assert.Equal([""], screen.Lines);
    }

    [Fact]
    public void Without_a_terminal_nothing_is_drawn()
    {
        var screen = new Screen(Columns);
        using (var bar = new ProgressBar("working", null, () => Columns, TimeSpan.Zero, TimeSpan.Zero))
        {
            bar.Report<int>(done => (done, 4)).Report(3);
            bar.Before(screen).WriteLine("result");
        }

        Assert.Equal("result" + Environment.NewLine, screen.Written);
    }

    [Fact]
    public void The_bar_never_fills_the_last_column_however_narrow_the_terminal()
    {
        for (var columns = 1; columns < 90; columns++)
        {
            var width = columns;
            var screen = new Screen(width);
            using (var bar = new ProgressBar("inspecting", screen, () => width, TimeSpan.Zero, TimeSpan.Zero))
            {
                for (var done = 0; done <= 10; done++)
                {
                    bar.Report<int>(d => (d, 10)).Report(done);
                    Assert.Single(screen.Lines);
                }
            }

            Assert.Equal([""], screen.Lines);
        }

        Assert.Equal("a b  50 %", ProgressBar.Text("a b", 0.5, 15));
        Assert.Equal("a b [##...]  50 %", ProgressBar.Text("a b", 0.5, 17));
        Assert.Equal(" 50 %", ProgressBar.Text("a b", 0.5, 8));
        Assert.Equal("", ProgressBar.Text("a b", 0.5, 4));
    }

    private static ProgressBar Create(Screen screen) => new("working", screen, () => Columns, TimeSpan.Zero, TimeSpan.Zero);

    // A terminal that wraps at its last column, as all do.
    private sealed class Screen(int columns) : TextWriter
    {
        private readonly List<StringBuilder> _lines = [new()];
        private readonly StringBuilder _written = new();
        private int _column;

        public override Encoding Encoding => Encoding.UTF8;

        public string Written => _written.ToString();

        public IReadOnlyList<string> Lines => [.. _lines.Select(l => l.ToString().TrimEnd())];

        public override void Write(char value)
        {
            _written.Append(value);
            switch (value)
            {
                case '\r':
                    _column = 0;
                    return;
                case '\n':
                    NewLineBelow();
                    return;
            }

            if (_column == columns)
            {
                NewLineBelow();
            }

            var line = _lines[^1];
            line.Append(' ', Math.Max(_column + 1 - line.Length, 0));
            line[_column++] = value;
        }

        private void NewLineBelow()
        {
            _lines.Add(new());
            _column = 0;
        }
    }
}
