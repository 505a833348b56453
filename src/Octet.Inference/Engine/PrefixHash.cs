using System.IO.Hashing;
using System.Runtime.InteropServices;

namespace Octet.Inference.Engine;

/// <summary>The 128-bit names of a text's full blocks: each is a hash of all tokens up to its end, and of the salt.</summary>
internal static class PrefixHash
{
    /// <summary>What the chain of a text begins with: texts of another salt have no name in common.</summary>
    public static UInt128 Root(string? salt) => salt is null ? 0 : XxHash128.HashToUInt128(MemoryMarshal.AsBytes(salt.AsSpan()));

    /// <summary>The name of a block: that of the block before it, and its tokens.</summary>
    public static UInt128 Next(UInt128 parent, ReadOnlySpan<int> tokens)
    {
        var hash = new XxHash128();
        hash.Append(MemoryMarshal.AsBytes(new ReadOnlySpan<UInt128>(in parent)));
        hash.Append(MemoryMarshal.AsBytes(tokens));
        return hash.GetCurrentHashAsUInt128();
    }
}
