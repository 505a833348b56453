using System.Runtime.InteropServices;

namespace Octet.Cli;

/// <summary>
/// stdout, so that every way it can fail is told apart. .NET's own stream takes a reader that is gone for success (the command
/// would go on writing for nobody) and calls a closed stdout a path without access.
/// </summary>
internal sealed partial class StandardOutput : Stream
{
    private const int Descriptor = 1;
    private const int Interrupted = 4, BadDescriptor = 9, WouldBlock = 11, BrokenPipe = 32;
    private const int GetDescriptorFlags = 1, CloseOnExec = 1;
    private const short CanWriteNow = 4, Error = 8, HungUp = 16;

    private StandardOutput()
    {
    }

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Makes this the stream behind <see cref="Console.Out"/>.</summary>
    public static void Install()
    {
        if (!OperatingSystem.IsWindows())
        {
            Console.SetOut(TextWriter.Synchronized(new StreamWriter(new StandardOutput(), Console.OutputEncoding) { AutoFlush = true }));
        }
    }

    /// <summary>
    /// For commands that work long for what they print: calls <paramref name="gone"/> once nobody reads stdout any more, whether
    /// or not anything is written meanwhile.
    /// </summary>
    /// <exception cref="StandardOutputException">stdout is closed.</exception>
    public static void WatchReader(Action gone)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        RequireOpen();
        var thread = new Thread(() =>
        {
            var poll = new Poll { Descriptor = Descriptor };
            while (poll_(ref poll, 1, -1) < 0 && Marshal.GetLastPInvokeError() == Interrupted)
            {
            }

            if ((poll.Happened & (Error | HungUp)) != 0)
            {
                gone();
            }
        })
        { IsBackground = true, Name = "Octet stdout" };
        thread.Start();
    }

    public override unsafe void Write(ReadOnlySpan<byte> buffer)
    {
        RequireOpen();
        while (!buffer.IsEmpty)
        {
            nint written;
            fixed (byte* bytes = buffer)
            {
                written = write(Descriptor, bytes, (nuint)buffer.Length);
            }

            if (written >= 0)
            {
                buffer = buffer[(int)written..];
                continue;
            }

            var error = Marshal.GetLastPInvokeError();
            if (error == WouldBlock)
            {
                // Whoever started the command made stdout non-blocking: wait for room.
                var poll = new Poll { Descriptor = Descriptor, Wanted = CanWriteNow };
                _ = poll_(ref poll, 1, -1);
            }
            else if (error != Interrupted)
            {
                throw new StandardOutputException(
                    error == BadDescriptor ? "stdout is not open for writing" : $"stdout cannot be written: {Marshal.GetPInvokeErrorMessage(error)}",
                    readerIsGone: error == BrokenPipe);
            }
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Whether the process was started without a standard stream: 0 is stdin, 1 stdout.</summary>
    /// <remarks>
    /// The first file the runtime opens gets the free number. It closes on exec, as nothing does that a process was started with; to
    /// use it would be to wait for, or to damage, what the runtime keeps there.
    /// </remarks>
    public static bool IsClosed(int descriptor) =>
        !OperatingSystem.IsWindows() && fcntl(descriptor, GetDescriptorFlags) is var flags && (flags < 0 || (flags & CloseOnExec) != 0);

    private static void RequireOpen()
    {
        if (IsClosed(Descriptor))
        {
            throw new StandardOutputException("stdout is closed", readerIsGone: false);
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static unsafe partial nint write(int descriptor, byte* bytes, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(int descriptor, int command);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int poll_(ref Poll descriptors, nuint count, int timeoutMs);

    /// <summary><c>struct pollfd</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Poll
    {
        public int Descriptor;
        public short Wanted;
        public short Happened;
    }
}

/// <summary>stdout cannot be written.</summary>
internal sealed class StandardOutputException(string message, bool readerIsGone) : IOException(message)
{
    /// <summary>Whether it is a pipe that nobody reads any more: no failure, but a wish to hear no more.</summary>
    public bool ReaderIsGone { get; } = readerIsGone;
}
