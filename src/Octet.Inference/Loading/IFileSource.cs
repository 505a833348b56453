using System.IO.MemoryMappedFiles;

namespace Octet.Inference.Loading;

/// <summary>Where the files of a checkpoint are opened: the disk, or what a test puts in its place.</summary>
internal interface IFileSource
{
    /// <summary>Opens a file for reading.</summary>
    IFileReader Open(string path);

    /// <summary>Whether a file lies on another machine, or behind a process that may fail: such files are read and never mapped.</summary>
    bool IsRemote(string path);
}

/// <summary>An open file. Any number of threads may read at once.</summary>
internal interface IFileReader : IDisposable
{
    /// <summary>The size in bytes as it is now.</summary>
    long Length { get; }

    /// <summary>When it was last written, as it is now.</summary>
    DateTime LastWrite { get; }

    /// <summary>Reads bytes from an offset on: gives how many, which may be fewer than asked for, and 0 at the end.</summary>
    int Read(Span<byte> destination, long offset);

    /// <summary>Maps the whole file.</summary>
    MemoryMappedFile Map();
}
