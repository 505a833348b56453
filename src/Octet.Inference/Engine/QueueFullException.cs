namespace Octet.Inference.Engine;

/// <summary>A request was refused because as many are generated and waiting as the model's options allow; it may be repeated later.</summary>
public sealed class QueueFullException : Exception
{
    internal QueueFullException(int maxSequences, int groups, int maxQueue)
        : base($"the queue is full: {maxSequences} requests may be generated together (MaxSequences){(groups > 1 ? $" on each of {groups} groups" : "")} and {maxQueue} may wait (MaxQueue); try again when one has ended, or raise MaxQueue")
    {
    }
}
