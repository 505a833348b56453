using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace Octet.Benchmarks;

/// <summary>ONNX Runtime's CPU provider on one linear layer or one expert, with random weights.</summary>
internal sealed class OnnxProduct : IDisposable
{
    private readonly InferenceSession _session;
    private readonly RunOptions _run = new();
    private readonly int _k;

    private OnnxProduct(byte[] model, int k, int threads)
    {
        _k = k;
        using var options = new SessionOptions { IntraOpNumThreads = threads, InterOpNumThreads = 1 };

        // NOTE: its threads would go on spinning after a run and take the processors from whoever is measured next.
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        _session = new InferenceSession(model, options);
    }

    /// <summary>[rows, k] times [k, n].</summary>
    public static OnnxProduct Linear(int k, int n, bool eightBit, int threads, Random random)
    {
        using var model = new OnnxModel();
        Add(model, "x", "y", k, n, eightBit, random);
        return new OnnxProduct(model.Build(k, n), k, threads);
    }

    /// <summary>An expert: down(silu(gate(x)) * up(x)).</summary>
    public static OnnxProduct Expert(int hidden, int intermediate, bool eightBit, int threads, Random random)
    {
        using var model = new OnnxModel();
        Add(model, "x", "g", hidden, intermediate, eightBit, random);
        Add(model, "x", "u", hidden, intermediate, eightBit, random);
        model.Node("Sigmoid", ["g"], "s");
        model.Node("Mul", ["g", "s"], "a");
        model.Node("Mul", ["a", "u"], "h");
        Add(model, "h", "y", intermediate, hidden, eightBit, random);
        return new OnnxProduct(model.Build(hidden, hidden), hidden, threads);
    }

    /// <summary>Runs on so many rows, input and output kept.</summary>
    public Action On(int rows)
    {
        var input = OrtValue.CreateTensorValueFromMemory([.. Enumerable.Range(0, rows * _k).Select(i => (i % 17 / 8f) - 1)], [rows, _k]);
        return () =>
        {
            using var outputs = _session.Run(_run, ["x"], [input], ["y"]);
        };
    }

    public void Dispose()
    {
        _session.Dispose();
        _run.Dispose();
    }

    private static void Add(OnnxModel model, string x, string y, int k, int n, bool eightBit, Random random)
    {
        if (eightBit)
        {
            var codes = new byte[(long)k * n];
            random.NextBytes(codes);
            var scales = Enumerable.Repeat(0.001f, n * (k / 128)).ToArray();
            model.MatMulNBits(x, y, k, n, codes, MemoryMarshal.AsBytes(scales.AsSpan()));
            return;
        }

        var weight = new float[(long)k * n];
        for (var i = 0; i < weight.Length; i++)
        {
            weight[i] = ((i * 7919) % 1021 / 510f) - 1;
        }

        model.MatMul(x, y, k, n, MemoryMarshal.AsBytes(weight.AsSpan()));
    }
}
