namespace Octet.Inference.Grammars;

/// <summary>A set of keys, as a trie of their bytes; immutable: a larger set shares what it has in common with the smaller.</summary>
internal sealed class KeyNode
{
    // What a key is extended with at the least expense: the characters of one byte that a key may have.
    private const int FirstPlain = 0x20;
    private const int LastPlain = 0x7E;

    private readonly (byte Byte, KeyNode Node)[] _children;

    private KeyNode(bool isKey, (byte Byte, KeyNode Node)[] children)
    {
        (IsKey, _children) = (isKey, children);
        Missing = isKey ? 1 + ShortestBelow() : 0;
    }

    /// <summary>No keys.</summary>
    public static KeyNode Empty { get; } = new(false, []);

    /// <summary>Keys of which nothing is known, so that none can be said to be new.</summary>
    public static KeyNode Unknown { get; } = new(true, []);

    /// <summary>Whether what leads here is a key of the set.</summary>
    public bool IsKey { get; }

    /// <summary>The fewest bytes that make of what leads here something that is no key of the set.</summary>
    public int Missing { get; }

    /// <summary>Where a byte leads; null: to no key of the set.</summary>
    public KeyNode? Child(byte value) =>
        this == Unknown ? this : Array.Find(_children, child => child.Byte == value).Node;

    /// <summary>The set with one more key.</summary>
    public KeyNode With(ReadOnlySpan<byte> key)
    {
        if (this == Unknown)
        {
            return this;
        }

        var nodes = new KeyNode[key.Length + 1];
        nodes[0] = this;
        for (var i = 0; i < key.Length; i++)
        {
            nodes[i + 1] = nodes[i].Child(key[i]) ?? Empty;
        }

        var node = new KeyNode(true, nodes[^1]._children);
        for (var i = key.Length - 1; i >= 0; i--)
        {
            node = nodes[i].WithChild(key[i], node);
        }

        return node;
    }

    private KeyNode WithChild(byte value, KeyNode node) => new(IsKey, [.. _children.Where(known => known.Byte != value), (value, node)]);

    private int ShortestBelow()
    {
        var shortest = Term.Infinite - 1;
        for (var value = FirstPlain; value <= LastPlain && shortest > 0; value++)
        {
            if (value is not ('"' or '\\'))
            {
                shortest = Math.Min(shortest, Child((byte)value)?.Missing ?? 0);
            }
        }

        return shortest;
    }
}
