using System.Globalization;
using Octet.Backends;

namespace Octet.Tests.Backends.Cpu;

public sealed class HostMemoryTests : IDisposable
{
    private const long GiB = 1L << 30;

    private readonly string _root = Directory.CreateTempSubdirectory("octet-host-").FullName;

    public HostMemoryTests() => Write("proc/meminfo", "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\nBuffers: 5 kB\n");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Without_a_cgroup_what_the_kernel_calls_available_is_free() => Assert.Equal(32 * GiB, HostMemory.Free(_root));

    [Fact]
    public void A_cgroup_v2_leaves_its_limit_less_what_is_used_beside_page_cache()
    {
        Write("proc/self/cgroup", "0::/\n");
        Write("sys/fs/cgroup/memory.max", $"{8 * GiB}\n");
        Write("sys/fs/cgroup/memory.current", $"{5 * GiB}\n");
        Write("sys/fs/cgroup/memory.stat", $"anon {2 * GiB}\nfile {3 * GiB}\nactive_file {1 * GiB}\ninactive_file {2 * GiB}\nslab_reclaimable 4096\n");
        Assert.Equal(6 * GiB + 4096, HostMemory.Free(_root));
    }

    [Fact]
    public void The_tightest_of_the_groups_above_counts()
    {
        Write("proc/self/cgroup", "0::/user.slice/session\n");
        Write("sys/fs/cgroup/user.slice/memory.max", $"{4 * GiB}\n");
        Write("sys/fs/cgroup/user.slice/memory.current", $"{3 * GiB}\n");
        Write("sys/fs/cgroup/user.slice/session/memory.max", "max\n");
        Write("sys/fs/cgroup/user.slice/session/memory.current", $"{1 * GiB}\n");
        Assert.Equal(1 * GiB, HostMemory.Free(_root));
    }

    [Fact]
    public void A_cgroup_v1_counts_under_its_own_names_and_in_a_container_at_the_root_of_the_mount()
    {
        Write("proc/self/cgroup", "4:cpu,memory:/docker/0123\n1:cpu:/elsewhere\n");
        Write("sys/fs/cgroup/memory/memory.limit_in_bytes", $"{2 * GiB}\n");
        Write("sys/fs/cgroup/memory/memory.usage_in_bytes", $"{2 * GiB}\n");
        Write("sys/fs/cgroup/memory/memory.stat", $"cache 5\ntotal_inactive_file {GiB / 2}\ntotal_active_file {GiB / 4}\n");
        Assert.Equal(GiB * 3 / 4, HostMemory.Free(_root));
    }

    [Theory]
    [InlineData("max")]
    [InlineData("9223372036854771712")]
    [InlineData("")]
    public void A_limit_that_is_none_limits_nothing(string limit)
    {
        Write("proc/self/cgroup", "0::/\n4:memory:/\n");
        foreach (var (folder, max, used) in new[] { ("sys/fs/cgroup", "memory.max", "memory.current"), ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes") })
        {
            Write($"{folder}/{max}", limit + "\n");
            Write($"{folder}/{used}", "5\n");
        }

        Assert.Equal(32 * GiB, HostMemory.Free(_root));
    }

    [Fact]
    public void A_group_over_its_limit_has_nothing_free()
    {
        Write("proc/self/cgroup", "0::/\n");
        Write("sys/fs/cgroup/memory.max", "1000\n");
        Write("sys/fs/cgroup/memory.current", "2000\n");
        Assert.Equal(0, HostMemory.Free(_root));
    }

    [Fact]
    public void Cpu_has_what_this_machine_has_free()
    {
        using var device = Device.Open("cpu");
        Assert.True(device.Properties.UsesHostMemory);
        Assert.InRange(device.FreeMemory, 1, long.MaxValue >> 10);
    }

    [Fact]
    public void Zeros_of_cpu_take_memory_only_where_they_are_touched()
    {
        using var device = Device.Open("cpu");
        foreach (var size in new long[] { 1, 1000, 3 << 20 })
        {
            using var small = Tensor.Zeros(device, DType.Byte, size);
            Assert.Equal(0, small.Address % 256);
            Assert.Equal(-1, small.ToArray<byte>().AsSpan().IndexOfAnyExcept((byte)0));
            Assert.Equal(size, device.LiveBytes);
        }

        using var large = Tensor.Zeros(device, DType.Byte, GiB);
        Assert.Equal(0, large.Address % 256);
        Assert.InRange(Resident(large), 0, GiB / 64);
        var last = large.Slice(0, GiB - 100, 100);
        device.Stream.Fill(last, 7);
        Assert.All(last.ToArray<byte>(), x => Assert.Equal(7, x));
        Assert.InRange(Resident(large), 100, GiB / 64);
    }

    // Bytes in RAM of the mappings a tensor lies in.
    private static long Resident(Tensor tensor)
    {
        var (first, end, within, sum) = ((long)tensor.Address, (long)tensor.Address + tensor.SizeInBytes, false, 0L);
        foreach (var line in File.ReadLines("/proc/self/smaps"))
        {
            var fields = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (fields[0].Split('-') is [var from, var to] && long.TryParse(from, NumberStyles.HexNumber, null, out var start))
            {
                within = start < end && long.Parse(to, NumberStyles.HexNumber, null) > first;
            }
            else if (within && fields[0] == "Rss:")
            {
                sum += long.Parse(fields[1], CultureInfo.InvariantCulture) << 10;
            }
        }

        return sum;
    }

    private void Write(string path, string text)
    {
        var file = Path.Combine(_root, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text);
    }
}
