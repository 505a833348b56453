namespace Octet.Inference.Engine;

/// <summary>Why a text ended.</summary>
public enum FinishReason
{
    /// <summary>The model ended it: the last token is one of the checkpoint's end tokens.</summary>
    Stop,

    /// <summary>It has as many tokens as were asked for, or as the context holds.</summary>
    Length,

    /// <summary>The caller ended it.</summary>
    Cancelled,
}
