namespace Octet.Inference.Loading;

/// <summary>Hands out the tensors of a checkpoint by their names, checks their shapes and remembers which were taken.</summary>
internal sealed class CheckpointTensors(CheckpointFiles files) : ITensorSource
{
    // After the name of a matrix. Both kinds multiply: the inverse is that of what the quantiser multiplied by.
    private static readonly string[] ScaleEndings =
        ["_scale_inv", "_scale", ".weight_scale_inv", ".weight_scale", "_weight_scale_inv", "_weight_scale"];

    private readonly HashSet<string> _taken = [];

    /// <summary>Where they are from.</summary>
    public CheckpointFiles Files => files;

    /// <summary>The names of all that was not taken, in order.</summary>
    public string[] Left => [.. files.Names.Where(name => !_taken.Contains(name)).Order(StringComparer.Ordinal)];

    /// <summary>The tensor called <paramref name="name"/>, or null; it counts as taken.</summary>
    public SafeTensor? Find(string name)
    {
        if (files.Find(name) is not { } tensor)
        {
            return null;
        }

        _taken.Add(name);
        return tensor;
    }

    /// <inheritdoc/>
    public SafeTensor TakePlain(string name, params ReadOnlySpan<long> shape)
    {
        var tensor = Find(name) ?? files[name];
        CheckType(tensor, float8: false);
        return tensor.Shape.SequenceEqual(shape)
            ? tensor
            : throw new ModelFormatException($"{tensor.File}: tensor {tensor} must have the shape {Shape(shape)} by config.json");
    }

    /// <inheritdoc/>
    public MatrixSource TakeProjection(string name, long n, long k)
    {
        var values = Find($"{name}.weight") ?? files[$"{name}.weight"];
        CheckType(values, float8: true);
        if (!values.Shape.SequenceEqual([n, k]))
        {
            throw new ModelFormatException($"{values.File}: tensor {values} must have the shape {Shape([n, k])} by config.json");
        }

        var source = new MatrixSource { Values = values, N = n, K = k };
        if (values.Type != SafeTensorType.Float8E4M3)
        {
            return source;
        }

        var scales = TakeScales(values);
        return scales.Shape.SequenceEqual([source.ScaleRows, source.ScaleColumns])
            ? source with { Scales = scales }
            : throw BadGrid(scales, values, [source.ScaleRows, source.ScaleColumns]);
    }

    /// <inheritdoc/>
    public SafeTensor TakeScales(SafeTensor values)
    {
        var name = values.Name.EndsWith(".weight", StringComparison.Ordinal) ? values.Name[..^".weight".Length] : values.Name;
        string[] found = [.. ScaleEndings.Select(ending => name + ending).Where(candidate => files.Find(candidate) is not null)];
        return found.Length switch
        {
            1 => Find(found[0])!,
            0 => throw new ModelFormatException($"{values.File}: tensor {values} has no scales: neither '{name}.weight_scale_inv' nor '{name}.weight_scale' is in the checkpoint"),
            _ => throw new ModelFormatException($"{values.File}: tensor {values} has scales by {found.Length} names, '{found[0]}' and '{found[1]}'; remove one"),
        };
    }

    /// <summary>Refuses a tensor that is neither BF16, F16 or F32 nor, where it may be, FP8 E4M3.</summary>
    public static void CheckType(SafeTensor tensor, bool float8)
    {
        if (tensor.Type is not (SafeTensorType.BFloat16 or SafeTensorType.Float16 or SafeTensorType.Float32)
            && !(float8 && tensor.Type == SafeTensorType.Float8E4M3))
        {
            throw new ModelFormatException($"{tensor.File}: tensor {tensor} must be {(float8 ? "F8_E4M3, " : "")}BF16, F16 or F32");
        }
    }

    /// <summary>Says of scales that are not one for each block what they are.</summary>
    /// <param name="scales">The scales.</param>
    /// <param name="values">What they are of: a matrix, or a stack of them.</param>
    /// <param name="grids">The shapes block scales could have.</param>
    public static ModelFormatException BadGrid(SafeTensor scales, SafeTensor values, params long[][] grids)
    {
        var expected = $"one scale for each block of 128 x 128, {string.Join(" or ", grids.Select(grid => Shape(grid)))}";
        var stack = values.Shape.Length == 3;
        var (experts, n, k) = (stack ? values.Shape[0] : 1, values.Shape[^2], values.Shape[^1]);
        var kind = scales.ElementCount == experts ? $"one scale for {(stack ? "each expert" : "the whole tensor")} (per-tensor)"
            : scales.ElementCount == experts * n ? "one scale for each output row (per-channel)"
            : scales.ElementCount == experts * k ? "one scale for each column (per-channel)"
            : scales.ElementCount == n * k * experts / 16 || scales.ElementCount == n * k * experts / 32 ? "one scale for each group of elements"
            : null;
        return new(kind is null
            ? $"{scales.File}: tensor {scales} holds the scales of {values}, which need {expected}"
            : $"{scales.File}: tensor {scales} holds {kind} of {values}, but only {expected}, is supported; take a checkpoint quantised in such blocks, or the BF16 one");
    }

    /// <summary>"[2, 3]".</summary>
    public static string Shape(ReadOnlySpan<long> shape) => $"[{string.Join(", ", shape.ToArray())}]";
}
