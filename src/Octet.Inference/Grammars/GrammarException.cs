namespace Octet.Inference.Grammars;

/// <summary>
/// A schema says what is not supported, or what nothing can satisfy; the message begins with the place, such as <c>$.properties.age</c>.
/// </summary>
public sealed class GrammarException : ArgumentException
{
    /// <param name="path">The place in the schema.</param>
    /// <param name="problem">What is wrong there, with the remedy.</param>
    internal GrammarException(string path, string problem) : base($"{path}: {problem}") => Path = path;

    /// <summary>The place in the schema, from <c>$</c>, which is the whole of it.</summary>
    public string Path { get; }
}
