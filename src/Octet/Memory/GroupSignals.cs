namespace Octet;

/// <summary>The counters through which the ranks of a group wait for one another (<see cref="Ops.GroupSync"/>).</summary>
public static class GroupSignals
{
    /// <summary>The most ranks of a group.</summary>
    public const int MaxRanks = 8;

    /// <summary>Elements between the counters of a rank: 64 bytes, so that no two share a line.</summary>
    public const int Stride = 16;

    /// <summary>No count: 0xFFFFFFFF.</summary>
    internal const int PoisonValue = -1;

    /// <summary>Counters of one rank, all zeros, in memory that peers see without a cache between: [channels, 8, 16] i32.</summary>
    /// <param name="device">The rank's device.</param>
    /// <param name="channels">Groups of counters that are used independently: one for each stream that synchronises.</param>
    /// <exception cref="OctetException">The device has no such memory left.</exception>
    public static Tensor Create(Device device, int channels = 1)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(channels);
        return Tensor.Signals(device, channels, MaxRanks, Stride);
    }

    /// <summary>Stops a rank: the sync it waits in, and every later one, ends with <see cref="GroupStatus.Poisoned"/>.</summary>
    /// <param name="stream">A stream of the rank's device on which no sync is enqueued.</param>
    /// <param name="signals">The rank's counters, [8, 16].</param>
    /// <param name="rank">The rank.</param>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Poison(DeviceStream stream, in TensorView signals, int rank)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentOutOfRangeException.ThrowIfNegative(rank);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(rank, MaxRanks);
        stream.Write<int>(signals.View(MaxRanks * Stride).Slice(0, (long)rank * Stride, 1), [PoisonValue]);
    }
}
