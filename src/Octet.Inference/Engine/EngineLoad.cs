namespace Octet.Inference.Engine;

/// <summary>What one data parallel group does at the moment.</summary>
public readonly record struct EngineLoad
{
    /// <summary>Texts that are in the batch.</summary>
    public int Running { get; init; }

    /// <summary>Requests that wait for their turn, those that gave their KV blocks up among them.</summary>
    public int Waiting { get; init; }

    /// <summary>Blocks of the KV cache.</summary>
    public int KvBlocks { get; init; }

    /// <summary>Those of them that texts hold; what the prefix cache keeps of others is free for whoever needs it.</summary>
    public int UsedKvBlocks { get; init; }

    /// <summary>Why the group takes no more requests: its devices are lost; null where they work.</summary>
    public OctetException? Lost { get; init; }
}
