using System.Text;

namespace Octet.Benchmarks;

/// <summary>Writes the few ONNX messages the comparison needs, as protocol buffers: field numbers are those of onnx.proto.</summary>
internal sealed class OnnxModel : IDisposable
{
    private const int Float = 1;
    private const int UInt8 = 2;

    private readonly MemoryStream _graph = new();

    /// <summary>The whole model; x [rows, k] is its input, y its output.</summary>
    public byte[] Build(long k, long n)
    {
        Field(_graph, 2, "g"u8);
        Field(_graph, 11, ValueInfo("x", k));
        Field(_graph, 12, ValueInfo("y", n));
        var model = new MemoryStream();
        Field(model, 1, 8);
        Field(model, 8, Message(m => { Field(m, 1, ""u8); Field(m, 2, 17); }));
        Field(model, 8, Message(m => { Field(m, 1, "com.microsoft"u8); Field(m, 2, 1); }));
        Field(model, 7, _graph.ToArray());
        return model.ToArray();
    }

    /// <summary>y = x w, w f32 [k, n].</summary>
    public void MatMul(string x, string y, long k, long n, ReadOnlySpan<byte> weight)
    {
        Initializer($"{y}_w", Float, [k, n], weight);
        Node("MatMul", "", [x, $"{y}_w"], y);
    }

    /// <summary>y = x w^T, w in 8 bits with one scale for 128 columns: weight-only quantisation as ONNX Runtime does it.</summary>
    public void MatMulNBits(string x, string y, long k, long n, ReadOnlySpan<byte> weight, ReadOnlySpan<byte> scales)
    {
        Initializer($"{y}_w", UInt8, [n, k / 128, 128], weight);
        Initializer($"{y}_s", Float, [n * (k / 128)], scales);

        // accuracy_level 4: activations in 8 bits too, its fastest.
        Node("MatMulNBits", "com.microsoft", [x, $"{y}_w", $"{y}_s"], y, ("K", k), ("N", n), ("bits", 8), ("block_size", 128), ("accuracy_level", 4));
    }

    public void Dispose() => _graph.Dispose();

    /// <summary>An op of the default domain.</summary>
    public void Node(string op, string[] inputs, string output) => Node(op, "", inputs, output);

    private void Node(string op, string domain, string[] inputs, string output, params (string Name, long Value)[] attributes) =>
        Field(_graph, 1, Message(node =>
        {
            foreach (var input in inputs)
            {
                Field(node, 1, Encoding.UTF8.GetBytes(input));
            }

            Field(node, 2, Encoding.UTF8.GetBytes(output));
            Field(node, 3, Encoding.UTF8.GetBytes(output));
            Field(node, 4, Encoding.UTF8.GetBytes(op));
            foreach (var (name, value) in attributes)
            {
                Field(node, 5, Message(a => { Field(a, 1, Encoding.UTF8.GetBytes(name)); Field(a, 3, value); Field(a, 20, 2); }));
            }

            Field(node, 7, Encoding.UTF8.GetBytes(domain));
        }));

    private void Initializer(string name, int type, long[] dimensions, ReadOnlySpan<byte> data)
    {
        var tensor = new MemoryStream();
        foreach (var dimension in dimensions)
        {
            Field(tensor, 1, dimension);
        }

        Field(tensor, 2, type);
        Field(tensor, 8, Encoding.UTF8.GetBytes(name));
        Field(tensor, 9, data);
        Field(_graph, 5, tensor.ToArray());
    }

    private static byte[] ValueInfo(string name, long columns) => Message(info =>
    {
        Field(info, 1, Encoding.UTF8.GetBytes(name));
        Field(info, 2, Message(type => Field(type, 1, Message(tensor =>
        {
            Field(tensor, 1, Float);
            Field(tensor, 2, Message(shape =>
            {
                Field(shape, 1, Message(rows => Field(rows, 2, "rows"u8)));
                Field(shape, 1, Message(dimension => Field(dimension, 1, columns)));
            }));
        }))));
    });

    private static byte[] Message(Action<MemoryStream> body)
    {
        var stream = new MemoryStream();
        body(stream);
        return stream.ToArray();
    }

    private static void Field(MemoryStream stream, int number, long value)
    {
        Variable(stream, (ulong)number << 3);
        Variable(stream, (ulong)value);
    }

    private static void Field(MemoryStream stream, int number, ReadOnlySpan<byte> bytes)
    {
        Variable(stream, ((ulong)number << 3) | 2);
        Variable(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }

    private static void Variable(MemoryStream stream, ulong value)
    {
        for (; value > 127; value >>= 7)
        {
            stream.WriteByte((byte)(value | 128));
        }

        stream.WriteByte((byte)value);
    }
}
