namespace Octet.Inference.Loading.Templates;

/// <summary>Python's <c>sorted()</c>: stable, also in reverse, and an error where two keys have no order.</summary>
internal static class TemplateSorting
{
    public static List<T> Sort<T>(TemplateRun run, IReadOnlyList<T> items, Func<T, object?> key, bool reverse)
    {
        var keyed = items.Select(item => (Item: item, Key: key(item))).ToArray();
        if (keyed.Length > 1)
        {
            // A merge sort asks for the order of neighbours, so that keys without an order are noticed whatever the others are.
            MergeSort(run, keyed, new (T, object?)[keyed.Length], 0, keyed.Length, reverse);
        }
        return [.. keyed.Select(entry => entry.Item)];
    }

    private static void MergeSort<T>(TemplateRun run, (T Item, object? Key)[] items, (T Item, object? Key)[] spare, int begin, int end, bool reverse)
    {
        if (end - begin < 2)
        {
            return;
        }
        int middle = begin + ((end - begin) / 2);
        MergeSort(run, items, spare, begin, middle, reverse);
        MergeSort(run, items, spare, middle, end, reverse);
        int left = begin;
        int right = middle;
        for (int i = begin; i < end; i++)
        {
            bool takesLeft = right == end
                || (left < middle && !(reverse ? PythonEquality.Holds(run, "<", items[left].Key, items[right].Key) : PythonEquality.Holds(run, "<", items[right].Key, items[left].Key)));
            spare[i] = takesLeft ? items[left++] : items[right++];
        }
        Array.Copy(spare, begin, items, begin, end - begin);
    }
}
