namespace Octet;

/// <summary>Why a call into a device failed; the values are those of <c>octet_status</c>.</summary>
public enum OctetStatus
{
    /// <summary>No failure.</summary>
    Ok = 0,

    /// <summary>The caller broke the contract; the message has the values.</summary>
    InvalidArgument = 1,

    /// <summary>A legal request that this build or device cannot serve.</summary>
    Unsupported = 2,

    /// <summary>No such device, or its runtime library is absent.</summary>
    NoDevice = 3,

    /// <summary>Device or host memory is used up.</summary>
    OutOfMemory = 4,

    /// <summary>The vendor's runtime failed; the message has its code and name.</summary>
    DeviceError = 5,

    /// <summary>The simulator's checker stopped a launch; the message has kernel, block, lane and source line.</summary>
    KernelFault = 6,

    /// <summary>A failure inside the library.</summary>
    Internal = 7,

    /// <summary>
    /// A device of a group failed or stayed away, so the group has stopped; what ran may be asked again, of a group that is opened anew or of
    /// another one. No <c>octet_status</c>: groups are of this library.
    /// </summary>
    GroupStopped = 100,
}

/// <summary>A device, or the road to it, failed.</summary>
public sealed class OctetException : Exception
{
    /// <summary>A failure with its status and text.</summary>
    public OctetException(OctetStatus status, string message, Exception? inner = null)
        : base(message, inner) => Status = status;

    /// <summary>What kind of failure it was.</summary>
    public OctetStatus Status { get; }

    /// <summary>Whether nothing is wrong with what was asked: it may be asked again, elsewhere or later.</summary>
    public bool IsTransient => Status == OctetStatus.GroupStopped;
}
