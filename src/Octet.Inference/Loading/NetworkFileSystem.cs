using System.Collections.Frozen;
using System.Runtime.InteropServices;

namespace Octet.Inference.Loading;

/// <summary>
/// Tells which files lie on another machine or behind a process of the user. A page of a mapped file that cannot be fetched ends the
/// process; a read of it is an error that can be told.
/// </summary>
internal static partial class NetworkFileSystem
{
    // More than any struct statfs has; its first word is the kind.
    private const int StatBytes = 512;

    // The numbers statfs gives: linux/magic.h, and those of file systems outside the kernel as GNU stat names them.
    private static readonly FrozenDictionary<uint, string> Names = new Dictionary<uint, string>
    {
        [0x00006969] = "NFS",
        [0x0000517B] = "SMB",
        [0xFF534D42] = "CIFS",
        [0xFE534D42] = "SMB2",
        [0x65735546] = "FUSE",
        [0x0BD00BD0] = "Lustre",
        [0x01021997] = "9P",
        [0x00C36400] = "Ceph",
        [0x47504653] = "GPFS",
        [0x19830326] = "BeeGFS",
        [0x5346414F] = "AFS",
        [0x6B414653] = "kAFS",
        [0x73757245] = "Coda",
        [0x0000564C] = "NCP",
        [0x20030528] = "OrangeFS",
        [0x7461636F] = "OCFS2",
        [0x01161970] = "GFS2",
        [0xAAD7AAEA] = "PanFS",
        [0xBEEFDEAD] = "SNFS",
        [0x013111A8] = "IBRIX",
        [0x61636673] = "ACFS",
        [0x786F4256] = "VBOXSF",
        [0xBACBACBC] = "VMHGFS",
        [0x7C7C6673] = "PRLFS",
    }.ToFrozenDictionary();

    /// <summary>The name of a network file system by the number statfs gives for its kind; null: a file system of this machine.</summary>
    public static string? NameOf(uint kind) => Names.GetValueOrDefault(kind);

    /// <summary>Whether a file lies on a network file system. One of which that cannot be found out counts as one.</summary>
    public static bool Holds(string path)
    {
        try
        {
            return OperatingSystem.IsLinux() && Environment.Is64BitProcess
                ? KindOf(path) is not { } kind || NameOf(kind) is not null
                : new DriveInfo(Path.GetPathRoot(Path.GetFullPath(path))!).DriveType == DriveType.Network;
        }
        catch (Exception cause) when (cause is ArgumentException or IOException or UnauthorizedAccessException or DllNotFoundException)
        {
            return true;
        }
    }

    private static unsafe uint? KindOf(string path)
    {
        var stat = stackalloc ulong[StatBytes / sizeof(ulong)];
        return StatFileSystem(path, stat) == 0 ? (uint)stat[0] : null;
    }

    [LibraryImport("libc", EntryPoint = "statfs", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int StatFileSystem(string path, ulong* stat);
}
