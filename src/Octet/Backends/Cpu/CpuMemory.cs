using System.Runtime.InteropServices;

namespace Octet.Backends;

/// <summary>Native memory for tensors and for the threads' scratch: aligned, and in large pages where it is large.</summary>
internal static unsafe partial class CpuMemory
{
    private const long LargePage = 2 << 20;
    private const nuint Alignment = 256;
    private const int MadviseHugePage = 14;

    /// <summary>At least one byte, aligned to 256.</summary>
    /// <exception cref="OutOfMemoryException">There is not that much.</exception>
    public static nint Allocate(long sizeInBytes)
    {
        if (sizeInBytes < 2 * LargePage || !OperatingSystem.IsLinux())
        {
            return (nint)NativeMemory.AlignedAlloc((nuint)sizeInBytes, Alignment);
        }

        // NOTE: a weight is read once per token, so every 4 KiB page costs a walk of the page tables, in a virtual machine of two.
        // The advice is no more than that: where the kernel will not hear it, pages stay small.
        var address = NativeMemory.AlignedAlloc((nuint)sizeInBytes, (nuint)LargePage);
        _ = Madvise(address, (nuint)(sizeInBytes / LargePage * LargePage), MadviseHugePage);
        return (nint)address;
    }

    /// <summary>At least one byte of zeros, aligned to 256; where there are many, the system gives a page when it is first touched.</summary>
    /// <returns>The address, and what <see cref="FreeZeros"/> wants.</returns>
    /// <exception cref="OutOfMemoryException">There are not as many addresses.</exception>
    public static (nint Address, nint Allocation) AllocateZeros(long sizeInBytes)
    {
        var isLarge = sizeInBytes >= 2 * LargePage && OperatingSystem.IsLinux();
        var alignment = isLarge ? (nuint)LargePage : Alignment;
        var allocation = (nuint)NativeMemory.AllocZeroed(checked((nuint)sizeInBytes + alignment));
        var address = (allocation + alignment - 1) / alignment * alignment;
        if (isLarge)
        {
            _ = Madvise((void*)address, (nuint)(sizeInBytes / LargePage * LargePage), MadviseHugePage);
        }

        return ((nint)address, (nint)allocation);
    }

    /// <summary>Frees what <see cref="AllocateZeros"/> gave.</summary>
    public static void FreeZeros(nint allocation) => NativeMemory.Free((void*)allocation);

    /// <summary>Frees what <see cref="Allocate"/> gave.</summary>
    public static void Free(nint address) => NativeMemory.AlignedFree((void*)address);

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Madvise(void* address, nuint length, int advice);
}
