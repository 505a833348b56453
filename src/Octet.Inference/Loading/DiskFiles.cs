using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

namespace Octet.Inference.Loading;

/// <summary>Files of the disk, read by position: no two reads share a place in the file, so none waits for another.</summary>
internal sealed class DiskFiles : IFileSource
{
    /// <summary>The only one.</summary>
    public static DiskFiles Instance { get; } = new();

    public IFileReader Open(string path) => new Reader(File.OpenHandle(path));

    public bool IsRemote(string path) => NetworkFileSystem.Holds(path);

    private sealed class Reader(SafeFileHandle handle) : IFileReader
    {
        public long Length => RandomAccess.GetLength(handle);

        public DateTime LastWrite => File.GetLastWriteTimeUtc(handle);

        public int Read(Span<byte> destination, long offset) => RandomAccess.Read(handle, destination, offset);

        public MemoryMappedFile Map() =>
            MemoryMappedFile.CreateFromFile(handle, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);

        public void Dispose() => handle.Dispose();
    }
}
