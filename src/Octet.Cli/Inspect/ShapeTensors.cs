using System.IO.MemoryMappedFiles;
using Octet.Inference.Loading;

namespace Octet.Cli.Inspect;

/// <summary>
/// A checkpoint of shapes alone: it has whatever tensor is asked for in the shape asked for, projections in FP8 with block scales and the
/// rest in BF16, none that is optional, and nothing to read.
/// </summary>
internal sealed class ShapeTensors : ITensorSource, IDisposable
{
    private readonly SafeTensorsFile _file = new(CheckpointFile.Open(new NoFile(), "shapes alone"));

    public SafeTensor? Find(string name) => null;

    public SafeTensor TakePlain(string name, params ReadOnlySpan<long> shape) => Make(name, SafeTensorType.BFloat16, shape);

    public MatrixSource TakeProjection(string name, long n, long k)
    {
        var matrix = new MatrixSource { Values = Make($"{name}.weight", SafeTensorType.Float8E4M3, [n, k]), N = n, K = k };
        return matrix with { Scales = TakeScales(matrix.Values) };
    }

    public SafeTensor TakeScales(SafeTensor values) => Make(
        $"{values.Name}_scale_inv", SafeTensorType.BFloat16, [MatrixSource.Blocks(values.Shape[0]), MatrixSource.Blocks(values.Shape[1])]);

    public void Dispose() => _file.Dispose();

    private SafeTensor Make(string name, SafeTensorType type, ReadOnlySpan<long> shape) =>
        new(_file, name, type, shape.ToArray(), 0, SafeTensorsHeader.SizeInBytes(type, shape)!.Value);

    // A file without tensors.
    private sealed class NoFile : IFileSource, IFileReader
    {
        private static ReadOnlySpan<byte> Content => [2, 0, 0, 0, 0, 0, 0, 0, (byte)'{', (byte)'}'];

        public long Length => Content.Length;

        public DateTime LastWrite => DateTime.UnixEpoch;

        public IFileReader Open(string path) => this;

        public bool IsRemote(string path) => true;

        public int Read(Span<byte> destination, long offset)
        {
            var rest = Content[(int)offset..];
            var count = Math.Min(rest.Length, destination.Length);
            rest[..count].CopyTo(destination);
            return count;
        }

        public MemoryMappedFile Map() => throw new NotSupportedException("there is nothing to map");

        public void Dispose()
        {
        }
    }
}
