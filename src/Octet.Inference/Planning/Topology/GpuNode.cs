using System.Globalization;

namespace Octet.Inference.Planning.Topology;

/// <summary>How two GPUs are joined.</summary>
public enum GpuLink
{
    /// <summary>No link is listed: nothing is known of the road, so it counts as the worst.</summary>
    None,

    /// <summary>Through PCIe.</summary>
    Pcie,

    /// <summary>Through xGMI, in one hop or more.</summary>
    Xgmi,
}

/// <summary>One GPU, or one partition of one.</summary>
/// <param name="Ordinal">Its number among the GPUs a process sees, as <c>HIP_VISIBLE_DEVICES</c> counts them: those that Octet does not run on count too.</param>
/// <param name="Node">Its KFD node.</param>
/// <param name="Target">The compiler's target, such as gfx942.</param>
/// <param name="MemoryBytes">Memory, or zero if not readable.</param>
/// <param name="NumaNode">The NUMA node of its socket, or -1 if not known.</param>
/// <param name="Device">The physical device: partitions of one share it.</param>
/// <param name="Integrated">Whether it is part of a processor and of a kind that Octet does not run on.</param>
public sealed record GpuNode(int Ordinal, int Node, string Target, ulong MemoryBytes, int NumaNode, string Device, bool Integrated = false)
{
    /// <summary>The target of a GPU whose kernel states none.</summary>
    public const string UnknownTarget = "unknown";

    // Sizes of one product differ by what firmware keeps back and, in partitions, by where a range ends; products differ by more.
    private const double SameMemory = 0.02;

    /// <summary>Whether Octet has kernels for it; only such GPUs are placed.</summary>
    public bool IsSupported => Target is "gfx942" or "gfx950";

    /// <summary>Whether it may share a group with another: the same target, and memory of the same size within 2 %.</summary>
    public bool IsLike(GpuNode other)
    {
        ArgumentNullException.ThrowIfNull(other);
        (ulong less, ulong more) = MemoryBytes < other.MemoryBytes ? (MemoryBytes, other.MemoryBytes) : (other.MemoryBytes, MemoryBytes);
        return Target == other.Target && (less == more || (less > 0 && more - less <= more * SameMemory));
    }

    /// <summary>Its memory for a reader: <c>206.1 GB</c>.</summary>
    internal string Memory => MemoryBytes > 0 ? string.Create(CultureInfo.InvariantCulture, $"{MemoryBytes / 1e9:F1} GB") : "memory not known";
}
