using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

// BF16 in and out of the ops, which work in singles: what BFloat16's operators do, eight at a time.
internal sealed unsafe partial class CpuBackend
{
    /// <summary>y = x, exactly.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Widen(BFloat16* x, long count, float* y)
    {
        long done = 0;
        for (; done + Vector128<ushort>.Count <= count; done += Vector128<ushort>.Count)
        {
            var (low, high) = Vector128.Widen(Vector128.Load((ushort*)x + done));
            Vector256.ShiftLeft(Vector256.Create(low, high), 16).AsSingle().Store(y + done);
        }

        for (; done < count; done++)
        {
            y[done] = x[done];
        }
    }

    /// <summary>y = x, to the nearest, ties to even; NaN keeps its sign and upper bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Round(float* x, long count, BFloat16* y)
    {
        long done = 0;
        for (; done + Vector256<float>.Count <= count; done += Vector256<float>.Count)
        {
            var value = Vector256.Load(x + done);
            var bits = value.AsUInt32();
            var upper = Vector256.ShiftRightLogical(bits, 16);
            var rounded = Vector256.ShiftRightLogical(bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One), 16);
            var result = Vector256.ConditionalSelect(Vector256.Equals(value, value).AsUInt32(), rounded, upper | Vector256.Create(0x40u));
            Vector128.Narrow(result.GetLower(), result.GetUpper()).Store((ushort*)y + done);
        }

        for (; done < count; done++)
        {
            y[done] = (BFloat16)x[done];
        }
    }
}
