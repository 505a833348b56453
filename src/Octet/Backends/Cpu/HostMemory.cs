using System.Globalization;

namespace Octet.Backends;

/// <summary>How much memory this process can still take from the machine it runs on, or from the container it is confined to.</summary>
internal static class HostMemory
{
    // A limit that is none: cgroup v1 writes the largest multiple of a page.
    private const long NoLimit = long.MaxValue - (1 << 20);

    /// <summary>
    /// Bytes free: what the kernel calls available (page cache can be taken back), within the limit of every memory cgroup (v2 or v1) the
    /// process is in, less what that group uses beside page cache.
    /// </summary>
    /// <param name="root">The folder that holds proc and sys.</param>
    public static long Free(string root = "/")
    {
        if (Available(root) is not { } free)
        {
            // Not Linux, or /proc is closed: what the runtime knows.
            var memory = GC.GetGCMemoryInfo();
            free = memory.TotalAvailableMemoryBytes - memory.MemoryLoadBytes;
        }

        foreach (var (group, isVersion2) in Groups(root))
        {
            free = Math.Min(free, FreeOf(group, isVersion2));
        }

        return Math.Max(free, 0);
    }

    private static long? Available(string root)
    {
        foreach (var line in Lines(Path.Combine(root, "proc/meminfo")))
        {
            // MemAvailable:   22284312 kB
            if (line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) is ["MemAvailable:", var kilobytes, ..] && Number(kilobytes) is { } number)
            {
                return number << 10;
            }
        }

        return null;
    }

    // Of each memory controller the process's group and those above it. A container sees its own group as the root of the mount,
    // under whatever path the host calls it: folders that are not there are passed over.
    private static IEnumerable<(string Folder, bool IsVersion2)> Groups(string root)
    {
        foreach (var line in Lines(Path.Combine(root, "proc/self/cgroup")))
        {
            // 0::/user.slice (version 2), 4:memory:/docker/4751 (version 1)
            if (line.Split(':', 3) is not [var id, var controllers, var path])
            {
                continue;
            }

            var isVersion2 = id == "0" && controllers.Length == 0;
            if (!isVersion2 && !controllers.Split(',').Contains("memory"))
            {
                continue;
            }

            var mount = Path.Combine(root, isVersion2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
            for (var names = path.Split('/', StringSplitOptions.RemoveEmptyEntries); ; names = names[..^1])
            {
                yield return (Path.Combine([mount, .. names]), isVersion2);
                if (names.Length == 0)
                {
                    break;
                }
            }
        }
    }

    private static long FreeOf(string group, bool isVersion2)
    {
        // "max" is no number, and so no limit.
        var limit = Lines(Path.Combine(group, isVersion2 ? "memory.max" : "memory.limit_in_bytes")).Select(Number).FirstOrDefault();
        var used = Lines(Path.Combine(group, isVersion2 ? "memory.current" : "memory.usage_in_bytes")).Select(Number).FirstOrDefault();
        if (limit is not < NoLimit || used is null)
        {
            return long.MaxValue;
        }

        string[] reclaimable = isVersion2 ? ["active_file", "inactive_file", "slab_reclaimable"] : ["total_active_file", "total_inactive_file"];
        var cache = Lines(Path.Combine(group, "memory.stat"))
            .Select(line => line.Split(' '))
            .Where(fields => fields.Length == 2 && reclaimable.Contains(fields[0]))
            .Sum(fields => Number(fields[1]) ?? 0);
        return limit.Value - Math.Max(used.Value - cache, 0);
    }

    private static long? Number(string text) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    private static string[] Lines(string path)
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
