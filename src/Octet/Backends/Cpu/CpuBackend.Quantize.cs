using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Octet.Backends;

internal sealed unsafe partial class CpuBackend
{
    public override void Quantize(DeviceStream stream, in QuantizeArgs args)
    {
        var (rows, columns) = (args.X.Shape[0], args.X.Shape[1]);
        QuantizeBlocks(args.X, args.Output.Values, args.Output.Scales, rows, columns, 1);
    }

    public override void QuantizeWeight(DeviceStream stream, in QuantizeWeightArgs args)
    {
        // A stack of one expert is a matrix behind one more dimension: the last two count.
        var (rows, columns) = (args.X.Shape[0], args.X.Shape[1]);
        QuantizeBlocks(args.X, args.Output.Values, args.Output.Scales, rows, columns, Octet.Float8.Block);
    }

    public override void Repack(DeviceStream stream, in RepackArgs args)
    {
        const int piece = 1 << 16;
        var task = new RepackTask
        {
            X = Pointer<byte>(args.Values),
            Output = Pointer<byte>(args.OutputValues),
            Count = args.Values.ElementCount,
            Piece = piece,
        };
        threads.For((task.Count + piece - 1) / piece, task.Count, task);
        var from = Pointer<float>(args.Scales);
        var to = Pointer<float>(args.OutputScales);
        for (long i = 0; i < args.Scales.ElementCount; i++)
        {
            to[i] = from[i] * 2f;
        }
    }

    private void QuantizeBlocks(TensorView x, TensorView output, TensorView scales, long rows, long columns, int blockRows)
    {
        var task = new QuantizeTask
        {
            X = Pointer<byte>(x),
            Output = Pointer<byte>(output),
            Scales = Pointer<float>(scales),
            Rows = rows,
            Columns = columns,
            XStride = x.Strides[0],
            OutputStride = output.Strides[^2],
            ScaleStride = scales.Strides[^2],
            BlockRows = blockRows,
            XType = x.DType,
            OutputType = output.DType,
        };
        threads.For((rows + blockRows - 1) / blockRows, rows * columns * 4, task);
    }

    /// <summary>One row of a block to FP8: codes of value * 1/scale by exact division; NaN and infinities become the NaN code.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow(float* values, int count, float scale, DType type, byte* codes)
    {
        var limit = Octet.Float8.Limit(type);
        var done = 0;
        for (; done + Vector256<float>.Count <= count; done += Vector256<float>.Count)
        {
            Narrow(Vector256.Load(values + done), scale, type, limit, codes + done);
        }

        for (; done < count; done++)
        {
            codes[done] = float.IsFinite(values[done])
                ? Octet.Float8.Narrow(values[done] / scale, type, limit)
                : Octet.Float8.NaNCode(type);
        }
    }

    /// <summary>The same as <see cref="Octet.Float8.Narrow"/>, which says why, for eight.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Narrow(Vector256<float> values, float scale, DType type, float limit, byte* codes)
    {
        var isFnuz = type == DType.Float8E4M3Fnuz;
        var smallestNormal = Vector256.Create(isFnuz ? 0.0078125f : 0.015625f);
        var quotient = values / Vector256.Create(scale);
        var magnitude = Vector256.Min(Vector256.Abs(quotient), Vector256.Create(limit));
        var anchor = smallestNormal * Vector256.Create(1048576f);
        var subnormal = (magnitude + anchor).AsUInt32() - anchor.AsUInt32();
        var bits = magnitude.AsUInt32();
        bits += Vector256.Create(0x7FFFFu) + (Vector256.ShiftRightLogical(bits, 20) & Vector256<uint>.One);
        var normal = Vector256.ShiftRightLogical(bits, 20) - Vector256.Create((uint)((isFnuz ? 119 : 120) << 3));
        var code = Vector256.ConditionalSelect(Vector256.LessThan(magnitude, smallestNormal).AsUInt32(), subnormal, normal);
        var sign = Vector256.ShiftRightLogical(quotient.AsUInt32(), 24) & Vector256.Create(0x80u);
        sign = isFnuz ? Vector256.AndNot(sign, Vector256.Equals(code, Vector256<uint>.Zero)) : sign;
        var isFinite = Vector256.LessThan(Vector256.Abs(values), Vector256.Create(float.PositiveInfinity)).AsUInt32();
        code = Vector256.ConditionalSelect(isFinite, code | sign, Vector256.Create((uint)Octet.Float8.NaNCode(type)));
        *(ulong*)codes = Vector128.Narrow(Vector128.Narrow(code.GetLower(), code.GetUpper()), Vector128<ushort>.Zero).AsUInt64().ToScalar();
    }

    /// <summary>The largest finite magnitude, at least <paramref name="amax"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float LargestMagnitude(float* values, int count, float amax)
    {
        var largest = Vector256.Create(amax);
        var done = 0;
        for (; done + Vector256<float>.Count <= count; done += Vector256<float>.Count)
        {
            var magnitude = Vector256.Abs(Vector256.Load(values + done));
            var isFinite = Vector256.LessThan(magnitude, Vector256.Create(float.PositiveInfinity));
            largest = Vector256.Max(largest, magnitude & isFinite);
        }

        for (var i = 0; i < Vector256<float>.Count; i++)
        {
            amax = Math.Max(amax, largest[i]);
        }

        for (; done < count; done++)
        {
            var magnitude = MathF.Abs(values[done]);
            if (magnitude > amax && float.IsFinite(magnitude))
            {
                amax = magnitude;
            }
        }

        return amax;
    }

    /// <summary>A row of singles to FP8 with a scale for each 128 columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void QuantizeRow(float* values, long columns, DType type, byte* codes, float* scales)
    {
        for (long start = 0; start < columns; start += Octet.Float8.Block)
        {
            var count = (int)Math.Min(Octet.Float8.Block, columns - start);
            var scale = Octet.Float8.Scale(LargestMagnitude(values + start, count, 0f), type);
            scales[start / Octet.Float8.Block] = scale;
            Narrow(values + start, count, scale, type, codes + start);
        }
    }

    /// <summary>One row of blocks: blocks of BlockRows x 128, 1 for activations and 128 for weights.</summary>
    private struct QuantizeTask : ICpuTask
    {
        public byte* X, Output;
        public float* Scales;
        public long Rows, Columns, XStride, OutputStride, ScaleStride;
        public int BlockRows;
        public DType XType, OutputType;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var (first, end) = (index * BlockRows, Math.Min(Rows, (index + 1) * BlockRows));
            var values = stackalloc float[Octet.Float8.Block];
            for (long start = 0; start < Columns; start += Octet.Float8.Block)
            {
                var count = (int)Math.Min(Octet.Float8.Block, Columns - start);
                var amax = 0f;
                for (var row = first; row < end; row++)
                {
                    Load((row * XStride) + start, count, values);
                    amax = LargestMagnitude(values, count, amax);
                }

                var scale = Octet.Float8.Scale(amax, OutputType);
                Scales[(index * ScaleStride) + (start / Octet.Float8.Block)] = scale;
                for (var row = first; row < end; row++)
                {
                    Load((row * XStride) + start, count, values);
                    Narrow(values, count, scale, OutputType, Output + (row * OutputStride) + start);
                }
            }
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private readonly void Load(long index, int count, float* values)
        {
            if (XType == DType.Float32)
            {
                new Span<float>((float*)X + index, count).CopyTo(new(values, count));
            }
            else
            {
                Widen((BFloat16*)X + index, count, values);
            }
        }
    }

    private struct RepackTask : ICpuTask
    {
        public byte* X, Output;
        public long Count, Piece;

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public readonly void Run(long index, CpuWorker worker)
        {
            var end = Math.Min(Count, (index + 1) * Piece);
            for (var i = index * Piece; i < end; i++)
            {
                Output[i] = X[i] switch
                {
                    0x80 => 0x00,
                    0x7F or 0xFF => 0x80,
                    var code => code,
                };
            }
        }
    }
}
