using System.Globalization;

namespace Octet;

/// <summary>Reads the name of a group of devices: "hip:0-3", "hip:0,2,5", "sim:gfx942*4", "cpu*4", or one device's name. Opens nothing.</summary>
internal static class DeviceGroupNames
{
    /// <summary>The most devices of a group: eight groups of eight.</summary>
    public const int MostDevices = 64;

    // Opened twice, these are two devices; a GPU is itself again.
    private static readonly string[] Repeatable = ["cpu", "sim", "plan"];

    /// <summary>The names of the group's devices, in order.</summary>
    /// <exception cref="ArgumentException">It names no group; the message has what is wrong and the remedy.</exception>
    public static string[] Parse(string group)
    {
        if (group.Contains('*', StringComparison.Ordinal))
        {
            return Repeat(group);
        }

        var items = group.Split(',');
        var colon = items[0].LastIndexOf(':');
        var kind = items[0][..Math.Max(colon, 0)];
        if (items.Length == 1 && (colon < 0 || !items[0].AsSpan(colon + 1).Contains('-')))
        {
            return [group];
        }

        RequireOneKind(group, items);
        var ordinals = new List<int>();
        items[0] = items[0][(colon + 1)..];
        foreach (var item in items)
        {
            AddOrdinals(group, item, ordinals);
        }

        return [.. ordinals.Select(ordinal => string.Create(CultureInfo.InvariantCulture, $"{kind}:{ordinal}"))];
    }

    /// <summary>The name that gives these devices again.</summary>
    public static string Of(IReadOnlyList<string> names)
    {
        if (names.Count == 1)
        {
            return names[0];
        }

        var colon = names[0].LastIndexOf(':') + 1;
        return names.All(name => name == names[0])
            ? string.Create(CultureInfo.InvariantCulture, $"{names[0]}*{names.Count}")
            : names[0][..colon] + string.Join(',', names.Select(name => name[colon..]));
    }

    private static string[] Repeat(string group)
    {
        if (group.Split('*') is not [{ Length: > 0 } name, var times]
            || !int.TryParse(times, NumberStyles.None, CultureInfo.InvariantCulture, out var count) || count is < 1 or > MostDevices)
        {
            throw Wrong(group, $"behind * stands how many, 1 to {MostDevices}: cpu*4, sim:gfx942*4");
        }

        if (name.Contains(',', StringComparison.Ordinal))
        {
            throw Wrong(group, "one device is repeated, as in cpu*4; GPUs are listed, as in hip:0,2,5");
        }

        if (count > 1 && !IsRepeatable(name))
        {
            throw Wrong(group, $"it is the same GPU {count} times; list several, as in {KindOf(name)}:0-{count - 1}");
        }

        return [.. Enumerable.Repeat(name, count)];
    }

    private static void RequireOneKind(string group, string[] items)
    {
        var first = items[0];
        var repeatable = IsRepeatable(first);
        foreach (var item in items[1..].Where(item => item.Length > 0 && char.IsAsciiLetter(item[0])))
        {
            throw (repeatable ? item != first : KindOf(item) != KindOf(first))
                ? Wrong(group, $"'{first}' and '{item}' are of different kinds; a group has one kind: open a group for each")
                : Wrong(group, repeatable ? $"several of one name are written {first}*{items.Length}" : $"the kind stands once, before the numbers: {KindOf(first)}:0,1");
        }

        if (repeatable)
        {
            throw Wrong(group, $"'{first}' has no numbers; several are written as in {KindOf(first)}*4");
        }

        if (!first.Contains(':', StringComparison.Ordinal))
        {
            throw Wrong(group, "GPUs are listed by number behind their kind, as in hip:0,1");
        }
    }

    private static void AddOrdinals(string group, string item, List<int> ordinals)
    {
        var ends = item.Split('-');
        if (ends.Length > 2 || !TryOrdinal(ends[0], out var first) || !TryOrdinal(ends[^1], out var last))
        {
            throw Wrong(group, $"'{item}' is no number and no range of numbers, as in hip:0,2,5 or hip:0-3");
        }

        if (last < first)
        {
            throw Wrong(group, $"the range {item} runs down; write {last}-{first}, or list the numbers in the order that is wanted");
        }

        if (ordinals.Count + (last - first + 1) > MostDevices)
        {
            throw Wrong(group, $"it has more than {MostDevices} devices");
        }

        for (var ordinal = first; ordinal <= last; ordinal++)
        {
            if (ordinals.Contains(ordinal))
            {
                throw Wrong(group, $"GPU {ordinal} is in it twice; each may be in a group once");
            }

            ordinals.Add(ordinal);
        }
    }

    private static bool TryOrdinal(string text, out int ordinal) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ordinal) && ordinal < 1 << 16;

    // What stands before the number: "hip", "ilgpu:cuda".
    private static string KindOf(string name) => name.Contains(':', StringComparison.Ordinal) ? name[..name.LastIndexOf(':')] : name;

    private static bool IsRepeatable(string name) => Repeatable.Contains(name.Split(':', 2)[0]);

    private static ArgumentException Wrong(string group, string problem) => new($"devices '{group}': {problem}");
}
