using System.Text.Json;

namespace Octet.Server.Api;

/// <summary>Token ids that a client sent.</summary>
internal static class TokenIds
{
    /// <summary>Reads an array of ids.</summary>
    public static int[] Read(JsonElement array, string path, int vocabulary)
    {
        var ids = new int[array.GetArrayLength()];
        var i = 0;
        foreach (var item in array.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out var id) || id < 0 || id >= vocabulary)
            {
                throw ApiException.BadField($"{path}[{i}]", $"is {Fields.Describe(item)}, expected a token id from 0 to {vocabulary - 1}");
            }

            ids[i++] = id;
        }

        return ids;
    }
}
