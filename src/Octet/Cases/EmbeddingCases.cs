namespace Octet.Cases;

/// <summary>embedding: a copy, so the reference is exact.</summary>
internal static class EmbeddingCases
{
    public static IEnumerable<Case> All =>
    [
        Embedding("regular 4 x 256 of 64", 64, 256, [0, 63, 7, 7]),
        Embedding("tail 1 x 17 of 5", 5, 17, [4]),
        Embedding("tail 3 x 129 of 9", 9, 129, [8, 0, 3]),
        Embedding("corner ids outside the vocabulary give zeros", 10, 128, [-1, 10, 5, int.MinValue, int.MaxValue]),
        Embedding("corner no tokens", 10, 128, []),
        Embedding("model hidden 4096", 300, 4096, [.. Enumerable.Range(0, 17).Select(i => i * 17)]),
    ];

    private static Case Embedding(string name, int vocabulary, int hidden, int[] ids) => new("embedding", name, context =>
    {
        var table = context.NormalBFloat16((long)vocabulary * hidden);
        var output = context.Output(DType.BFloat16, ids.Length, hidden);
        var args = new EmbeddingArgs
        {
            Table = context.Input(table, vocabulary, hidden),
            Ids = context.Input(ids, ids.Length),
            Output = output,
        };
        return new CaseBody(() => Ops.Embedding(context.Stream, args), () =>
        {
            var expected = new double[ids.Length * hidden];
            for (var i = 0; i < expected.Length; i++)
            {
                var id = ids[i / hidden];
                expected[i] = id >= 0 && id < vocabulary ? (float)table[(long)id * hidden + i % hidden] : 0;
            }

            context.Equal<double>("output", context.Values(output), expected);
        });
    })
    {
        Bytes = 4.0 * ids.Length * hidden,
    };
}
