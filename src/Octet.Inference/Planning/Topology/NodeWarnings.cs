namespace Octet.Inference.Planning.Topology;

/// <summary>What is wrong with the nodes of a tree, one line for each kind of problem however many nodes have it.</summary>
internal sealed class NodeWarnings
{
    private readonly Dictionary<string, (SortedSet<int> Nodes, List<string> Details)> _problems = [];
    private readonly List<string> _order = [];

    /// <summary>The lines, in the order in which their kinds first came up.</summary>
    public IEnumerable<string> Lines => _order.Select(problem => _problems.TryGetValue(problem, out var found) ? Line(problem, found.Nodes, found.Details) : problem);

    /// <summary>Adds a node to those that have a problem.</summary>
    /// <param name="node">The node.</param>
    /// <param name="problem">Fits one node and many, and is the same for all that share a line.</param>
    /// <param name="detail">Which of its files, where it has many.</param>
    public void Add(int node, string problem, string? detail = null)
    {
        if (!_problems.TryGetValue(problem, out var found))
        {
            found = ([], []);
            _problems.Add(problem, found);
            _order.Add(problem);
        }
        _ = found.Nodes.Add(node);
        if (detail is not null)
        {
            found.Details.Add(detail);
        }
    }

    /// <summary>Adds a line that belongs to no single node.</summary>
    public void Add(string line) => _order.Add(line);

    /// <summary>Whether anything was said about a node.</summary>
    public bool Names(int node) => _problems.Values.Any(found => found.Nodes.Contains(node));

    private static string Line(string problem, SortedSet<int> nodes, List<string> details)
    {
        string which = details.Count switch
        {
            0 => "",
            1 => $" ({details[0]})",
            _ => $" ({details[0]} and {details.Count - 1} more)",
        };
        return $"{(nodes.Count == 1 ? "node" : "nodes")} {NumberList.Write(nodes)}: {problem}{which}";
    }
}
