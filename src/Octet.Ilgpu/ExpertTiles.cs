using ILGPU;

namespace Octet.Ilgpu;

/// <summary>The slots of the experts cut into tiles of 16, expert by expert; read from the device, as only it knows them.</summary>
internal struct ExpertTiles
{
    public ArrayView<int> Offsets; // [experts + 1]
    public int Experts;
    public long Slots;

    /// <summary>How many tiles there are at most, whatever the offsets.</summary>
    public static long Bound(long slots, long experts) => Math.Min(slots, (slots / Tile.Rows) + experts);

    /// <summary>The expert and the slots of a tile; no slots if there are fewer tiles. Whatever the offsets are, no slot is outside the buffers.</summary>
    public readonly Found Find(long tile)
    {
        var found = default(Found);
        for (var expert = 0; expert < Experts && found.Count == 0; expert++)
        {
            var begin = Within(Offsets[expert], 0);
            var count = Within(Offsets[expert + 1], begin) - begin;
            var tiles = (count + Tile.Rows - 1) / Tile.Rows;
            if (tile < tiles)
            {
                var left = count - (tile * Tile.Rows);
                found.Expert = expert;
                found.First = begin + (tile * Tile.Rows);
                found.Count = left < Tile.Rows ? (int)left : Tile.Rows;
            }

            tile -= tiles;
        }

        return found;
    }

    private readonly long Within(long offset, long low) => offset < low ? low : offset > Slots ? Slots : offset;

    /// <summary>One tile.</summary>
    internal struct Found
    {
        public int Expert, Count;
        public long First;
    }
}
