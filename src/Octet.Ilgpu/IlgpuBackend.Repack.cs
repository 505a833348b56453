using ILGPU;

namespace Octet.Ilgpu;

public sealed unsafe partial class IlgpuBackend
{
    /// <inheritdoc/>
    public override void Repack(DeviceStream stream, in RepackArgs args)
    {
        var kernel = new RepackKernel
        {
            Codes = View<byte>(args.Values),
            Scales = View<float>(args.Scales),
            OutputCodes = View<byte>(args.OutputValues),
            OutputScales = View<float>(args.OutputScales),
        };
        var elements = Math.Max(kernel.Codes.Length, kernel.Scales.Length);
        _repack.Launch(Stream(stream), (elements + RepackKernel.Piece - 1) / RepackKernel.Piece, _shape.Threads, kernel);
    }
}

/// <summary>OCP codes and scales to FNUZ: 0x80 (-0) becomes 0, NaN 0x80, scales double. A group for each piece of the elements.</summary>
internal struct RepackKernel
{
    /// <summary>Elements a group takes at a time.</summary>
    public const long Piece = 4096;

    public ArrayView<byte> Codes, OutputCodes;   // may be the same memory
    public ArrayView<float> Scales, OutputScales; // may be the same memory

    public static void Run(RepackKernel args)
    {
        var elements = args.Codes.Length > args.Scales.Length ? args.Codes.Length : args.Scales.Length;
        for (var first = Grid.IdxX * Piece; first < elements; first += Grid.DimX * Piece)
        {
            for (var i = first + Group.IdxX; i < first + Piece; i += Group.DimX)
            {
                if (i < args.Codes.Length)
                {
                    var code = args.Codes[i];
                    var isNaN = (code & 0x7F) == 0x7F;
                    args.OutputCodes[i] = isNaN ? (byte)0x80 : code == 0x80 ? (byte)0 : code;
                }

                if (i < args.Scales.Length)
                {
                    args.OutputScales[i] = args.Scales[i] * 2f;
                }
            }
        }
    }
}
