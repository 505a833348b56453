using System.Globalization;

namespace Octet.Inference.Planning;

/// <summary>Writes numbers of GPUs and nodes in short.</summary>
internal static class NumberList
{
    /// <summary><c>2-5, 7</c>: ascending, each once, runs of three and more by their ends.</summary>
    public static string Write(IEnumerable<int> numbers)
    {
        int[] sorted = [.. numbers.Distinct().Order()];
        var parts = new List<string>();
        for (int i = 0; i < sorted.Length;)
        {
            int end = i;
            while (end + 1 < sorted.Length && sorted[end + 1] == sorted[end] + 1)
            {
                end++;
            }
            if (end - i < 2)
            {
                end = i;
            }
            parts.Add(end == i ? Text(sorted[i]) : $"{Text(sorted[i])}-{Text(sorted[end])}");
            i = end + 1;
        }
        return string.Join(", ", parts);
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
