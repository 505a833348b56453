namespace Octet.Inference.Loading;

/// <summary>Where layers take their tensors from: a checkpoint, or what has the shapes of one alone.</summary>
internal interface ITensorSource
{
    /// <summary>The tensor called <paramref name="name"/>, or null.</summary>
    SafeTensor? Find(string name);

    /// <summary>The tensor called <paramref name="name"/>, of exactly this shape, BF16, F16 or F32.</summary>
    /// <exception cref="ModelFormatException">It is missing, or of another type or shape.</exception>
    SafeTensor TakePlain(string name, params ReadOnlySpan<long> shape);

    /// <summary>The projection [n, k] called <paramref name="name"/> (without ".weight"): FP8 with block scales, or plain.</summary>
    /// <exception cref="ModelFormatException">It or its scales are missing, or of another type or shape.</exception>
    MatrixSource TakeProjection(string name, long n, long k);

    /// <summary>The scales of an FP8 tensor, by whichever name they go.</summary>
    /// <exception cref="ModelFormatException">There are none, or two.</exception>
    SafeTensor TakeScales(SafeTensor values);
}
