namespace Octet.Inference.Planning;

/// <summary>A deployment cannot be planned from what was given; the message is one line with the values in it.</summary>
public sealed class PlanException : Exception
{
    /// <summary>Creates the exception.</summary>
    public PlanException(string message, Exception? inner = null) : base(message, inner)
    {
    }
}
