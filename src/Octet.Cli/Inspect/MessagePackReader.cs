using System.Buffers.Binary;
using System.Text;

namespace Octet.Cli.Inspect;

/// <summary>Reads MessagePack as a code object's notes use it: maps with string keys, arrays, integers, strings, booleans.</summary>
internal ref struct MessagePackReader(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;

    /// <summary>The next value: a dictionary, a list, a long, a double, a string, a bool, or null.</summary>
    /// <exception cref="InvalidDataException">The bytes end early, or hold a type no note has.</exception>
    public object? Read()
    {
        var tag = Take(1)[0];
        return tag switch
        {
            <= 0x7F => (long)tag,
            <= 0x8F => ReadMap(tag & 0x0F),
            <= 0x9F => ReadArray(tag & 0x0F),
            <= 0xBF => ReadString(tag & 0x1F),
            0xC0 => null,
            0xC2 => false,
            0xC3 => true,
            0xCA => (double)BinaryPrimitives.ReadSingleBigEndian(Take(4)),
            0xCB => BinaryPrimitives.ReadDoubleBigEndian(Take(8)),
            0xCC or 0xCD or 0xCE or 0xCF => ReadUnsigned(1 << (tag - 0xCC)),
            0xD0 => (long)(sbyte)Take(1)[0],
            0xD1 => (long)BinaryPrimitives.ReadInt16BigEndian(Take(2)),
            0xD2 => (long)BinaryPrimitives.ReadInt32BigEndian(Take(4)),
            0xD3 => BinaryPrimitives.ReadInt64BigEndian(Take(8)),
            0xD9 or 0xDA or 0xDB => ReadString((int)ReadUnsigned(1 << (tag - 0xD9))),
            0xDC or 0xDD => ReadArray((int)ReadUnsigned(2 << (tag - 0xDC))),
            0xDE or 0xDF => ReadMap((int)ReadUnsigned(2 << (tag - 0xDE))),
            >= 0xE0 => (long)(sbyte)tag,
            _ => throw new InvalidDataException($"MessagePack: type 0x{tag:X2} is not known"),
        };
    }

    private Dictionary<string, object?> ReadMap(int count)
    {
        var map = new Dictionary<string, object?>();
        for (var i = 0; i < count; i++)
        {
            var key = Read() as string ?? throw new InvalidDataException("MessagePack: a key is not a string");
            map[key] = Read();
        }

        return map;
    }

    private List<object?> ReadArray(int count)
    {
        var items = new List<object?>();
        for (var i = 0; i < count; i++)
        {
            items.Add(Read());
        }

        return items;
    }

    private string ReadString(int length) => Encoding.UTF8.GetString(Take(length));

    private long ReadUnsigned(int width)
    {
        ulong value = 0;
        foreach (var digit in Take(width))
        {
            value = (value << 8) | digit;
        }

        return checked((long)value);
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count < 0 || count > _rest.Length)
        {
            throw new InvalidDataException($"MessagePack: {count} bytes wanted, {_rest.Length} left");
        }

        var taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}
