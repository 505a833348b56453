using Octet.Inference.Loading;

namespace Octet.Inference.Parallel;

/// <summary>The progress of one of several groups that load the same bytes one after the other, as part of the whole.</summary>
/// <param name="whole">Told of the whole.</param>
/// <param name="part">Which group it is.</param>
/// <param name="parts">Groups in all.</param>
internal sealed class PartProgress(IProgress<LoadProgress> whole, int part, int parts) : IProgress<LoadProgress>
{
    public void Report(LoadProgress value) =>
        whole.Report(new LoadProgress(value.TotalBytes * part + value.LoadedBytes, value.TotalBytes * parts));
}
