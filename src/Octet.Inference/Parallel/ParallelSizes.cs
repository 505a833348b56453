using Octet.Inference.Models;

namespace Octet.Inference.Parallel;

/// <summary>How a model is laid over the devices of a group: the one place where the options are checked.</summary>
internal static class ParallelSizes
{
    /// <summary>The sizes there can be, for messages.</summary>
    public const string Sizes = "1, 2, 4 or 8";

    /// <summary>Whether it is one of <see cref="Sizes"/>.</summary>
    public static bool IsSize(int size) => size is 1 or 2 or 4 or 8;

    /// <exception cref="ArgumentException">The sizes are none there can be, or the devices are not as many.</exception>
    public static void Check(LanguageModelOptions options, DeviceGroup devices)
    {
        var (dp, tp, ep) = (options.DataParallel, options.TensorParallel, options.ExpertParallel);
        var sizes = $"DataParallel = {dp}, TensorParallel = {tp}, ExpertParallel = {ep}";
        if (!IsSize(dp) || !IsSize(tp) || !IsSize(ep))
        {
            throw new ArgumentException($"{sizes}: each must be {Sizes}");
        }

        if (tp % ep != 0)
        {
            throw new ArgumentException($"{sizes}: the experts are divided among the devices of a tensor parallel group, so ExpertParallel must divide TensorParallel");
        }

        if (devices.Devices.Count != dp * tp)
        {
            throw new ArgumentException(
                $"{sizes}: DataParallel x TensorParallel are {dp * tp} devices, and {devices.Name} {(devices.Devices.Count == 1 ? "is 1" : $"are {devices.Devices.Count}")}; "
                + "open a group of as many (hip:0-3, cpu*4), or change the sizes");
        }

        if (options.Collectives == Collectives.Rccl && tp == 1)
        {
            throw new ArgumentException($"{sizes}, Collectives = {options.Collectives}: one device adds nothing with others; take TensorParallel 2, 4 or 8, or Collectives.Octet");
        }

        if (options.RankTimeout < TimeSpan.FromMilliseconds(1) || options.RankTimeout > TimeSpan.FromHours(1))
        {
            throw new ArgumentException($"RankTimeout = {options.RankTimeout} must be a millisecond to an hour");
        }
    }
}
