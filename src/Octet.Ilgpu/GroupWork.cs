using ILGPU;
using ILGPU.Algorithms;

namespace Octet.Ilgpu;

/// <summary>
/// How the threads of a group share work: thread t takes elements t, t + threads, ... and results meet in shared memory. With one
/// thread (the CPU accelerator) the same code is a plain loop.
/// </summary>
internal static class GroupWork
{
    /// <summary>Makes what the group has written to shared memory visible to all of it.</summary>
    public static void Sync()
    {
        // NOTE: the CPU accelerator takes microseconds for a barrier even of one thread; the condition is the same for the whole group.
        if (Group.DimX > 1)
        {
            Group.Barrier();
        }
    }

    /// <summary>The sum over the group, the same in every thread; <paramref name="scratch"/> holds one single per thread.</summary>
    public static float Sum(float value, ArrayView<float> scratch)
    {
        Sync();
        scratch[Group.IdxX] = value;
        Sync();
        for (var half = Group.DimX / 2; half > 0; half /= 2)
        {
            if (Group.IdxX < half)
            {
                scratch[Group.IdxX] += scratch[Group.IdxX + half];
            }

            Sync();
        }

        return scratch[0];
    }

    /// <summary>The largest over the group, the same in every thread; a NaN counts as nothing.</summary>
    public static float Largest(float value, ArrayView<float> scratch)
    {
        Sync();
        scratch[Group.IdxX] = value;
        Sync();
        for (var half = Group.DimX / 2; half > 0; half /= 2)
        {
            if (Group.IdxX < half && scratch[Group.IdxX + half] > scratch[Group.IdxX])
            {
                scratch[Group.IdxX] = scratch[Group.IdxX + half];
            }

            Sync();
        }

        return scratch[0];
    }

    /// <summary>max(amax, |value|) for finite values.</summary>
    public static float Amax(float amax, float value)
    {
        var magnitude = Bits.Magnitude(value);
        return magnitude > amax && Bits.IsFinite(value) ? magnitude : amax;
    }

    /// <summary>silu(gate) * up.</summary>
    public static float GatedSilu(float gate, float up) => gate / (1f + XMath.Exp(-gate)) * up;
}
