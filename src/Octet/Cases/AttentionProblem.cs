namespace Octet.Cases;

/// <summary>
/// What prefill and decode cases share: sequences of given contexts whose blocks lie scattered over a cache, and the reference.
/// Block numbers behind a context, which nobody may follow, lie outside the cache.
/// </summary>
internal sealed class AttentionProblem
{
    /// <summary>P and the output are rounded to BF16: 3e-7 of calc_diff each.</summary>
    public const double Tolerance = 1e-5;

    private readonly CaseContext _context;
    private readonly int[] _table;
    private readonly int _tableStride;

    public AttentionProblem(CaseContext context, AttentionShape shape, int[] contexts)
    {
        (_context, Shape, Contexts) = (context, shape, contexts);
        var blocks = contexts.Select(length => (length + shape.BlockSize - 1) / shape.BlockSize).ToArray();
        Pages = new CachePages(
            context, blocks.Sum() + 2, shape.KvHeads, shape.BlockSize, shape.HeadDim, shape.Fp8, shape.ScalePerHead, shape.FirstBlock);
        _tableStride = blocks.DefaultIfEmpty().Max() + 3;
        _table = new int[contexts.Length * _tableStride];
        var numbers = Enumerable.Range(shape.FirstBlock, Pages.Blocks).ToArray();
        context.Random.Shuffle(numbers);
        var next = 0;
        for (var sequence = 0; sequence < contexts.Length; sequence++)
        {
            for (var i = 0; i < _tableStride; i++)
            {
                _table[sequence * _tableStride + i] = i < blocks[sequence] ? numbers[next++] : i % 2 == 0 ? -1 : int.MaxValue;
            }

            for (var i = 0; i < blocks[sequence]; i++)
            {
                Pages.Fill(Block(sequence, i), Math.Min(shape.BlockSize, contexts[sequence] - i * shape.BlockSize));
            }
        }

        Sinks = shape.Sinks ? context.Normal(shape.QHeads, 2) : null;
    }

    public AttentionShape Shape { get; }

    public int[] Contexts { get; }

    public CachePages Pages { get; }

    public float[]? Sinks { get; }

    public float Scale { get; } = 0.11f;

    public long MaxContext => Contexts.DefaultIfEmpty().Max();

    /// <summary>Replaces a block number of a sequence, that of its i-th block.</summary>
    public void SetBlock(int sequence, int i, int number) => _table[sequence * _tableStride + i] = number;

    /// <summary>Where a position of a sequence lies in <see cref="Pages"/>; negative or beyond if nowhere.</summary>
    public long Block(int sequence, int i) => _table[sequence * _tableStride + i] - (long)Shape.FirstBlock;

    /// <summary>The block table on the device.</summary>
    public TensorView BlockTable() => _context.Input(_table, Contexts.Length, _tableStride);

    /// <summary>Normal queries.</summary>
    public BFloat16[] Queries(int rows) => _context.NormalBFloat16((long)rows * Shape.QHeads * Shape.HeadDim);

    /// <summary>softmax(scale q.k (, sink)) v over the positions seen by the query of one head at a position; zeros if none.</summary>
    public void Reference(int sequence, long position, int head, ReadOnlySpan<BFloat16> q, Span<double> output)
    {
        var (kvHead, first) = (head / (Shape.QHeads / Shape.KvHeads), Shape.Window > 0 ? position - Shape.Window + 1 : 0);
        var seen = Enumerable.Range(0, Contexts[sequence])
            .Where(p => p >= first && p <= position && Block(sequence, p / Shape.BlockSize) is >= 0 and var block && block < Pages.Blocks).ToArray();
        var scores = new double[seen.Length];
        for (var i = 0; i < seen.Length; i++)
        {
            for (var dim = 0; dim < q.Length; dim++)
            {
                scores[i] += Scale * q[dim] * Pages.KValue(Block(sequence, seen[i] / Shape.BlockSize), kvHead, seen[i] % Shape.BlockSize, dim);
            }
        }

        output.Clear();
        var largest = scores.DefaultIfEmpty().Max();
        var sum = scores.Sum(s => Math.Exp(s - largest)) + (Sinks is null || seen.Length == 0 ? 0 : Math.Exp(Sinks[head] - largest));
        for (var i = 0; i < seen.Length; i++)
        {
            for (var dim = 0; dim < q.Length; dim++)
            {
                output[dim] += Math.Exp(scores[i] - largest) / sum
                    * Pages.VValue(Block(sequence, seen[i] / Shape.BlockSize), kvHead, seen[i] % Shape.BlockSize, dim);
            }
        }
    }

    /// <summary>The reference of whole rows: [rows, q_heads * head_dim].</summary>
    public double[] References(IReadOnlyList<(int Sequence, long Position)> rows, BFloat16[] q)
    {
        var expected = new double[q.Length];
        for (var i = 0; i < rows.Count * Shape.QHeads; i++)
        {
            var (sequence, position) = rows[i / Shape.QHeads];
            var (start, length) = (i * Shape.HeadDim, Shape.HeadDim);
            Reference(sequence, position, i % Shape.QHeads, q.AsSpan(start, length), expected.AsSpan(start, length));
        }

        return expected;
    }

    /// <summary>The reference of rows that follow each other, and the values to hold to it: those of every <paramref name="stride"/>-th row and head.</summary>
    /// <param name="rows">Sequence and position of each row; sequence -1: a row nobody writes, it stays as it was (0).</param>
    /// <param name="q">[rows, q_heads, head_dim].</param>
    /// <param name="actual">[rows, q_heads, head_dim].</param>
    /// <param name="stride">Of the sample.</param>
    public void Compare(IReadOnlyList<(int Sequence, long Position)> rows, BFloat16[] q, double[] actual, int stride)
    {
        var (expected, values) = (new List<double>(), new List<double>());
        var output = new double[Shape.HeadDim];
        for (var i = 0; i < rows.Count * Shape.QHeads; i += stride)
        {
            var (sequence, position) = rows[i / Shape.QHeads];
            output.AsSpan().Clear();
            if (sequence >= 0)
            {
                Reference(sequence, position, i % Shape.QHeads, q.AsSpan(i * Shape.HeadDim, Shape.HeadDim), output);
            }

            expected.AddRange(output);
            values.AddRange(actual.AsSpan(i * Shape.HeadDim, Shape.HeadDim));
        }

        _context.Compare("output", [.. values], [.. expected], Tolerance);
    }
}

/// <summary>What does not change from sequence to sequence of an attention case.</summary>
internal sealed record AttentionShape(int QHeads, int KvHeads)
{
    public int HeadDim { get; init; } = 128;

    public int BlockSize { get; init; } = 16;

    public bool Fp8 { get; init; } = true;

    public bool ScalePerHead { get; init; }

    public int Window { get; init; }

    public bool Sinks { get; init; }

    /// <summary>Blocks claimed before the first that exists.</summary>
    public int FirstBlock { get; init; }
}
