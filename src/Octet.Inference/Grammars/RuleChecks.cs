namespace Octet.Inference.Grammars;

/// <summary>What terms that refer to each other must be: every rule has a text, and none begins with itself.</summary>
internal static class RuleChecks
{
    /// <summary>Finds the rules' lengths.</summary>
    /// <exception cref="GrammarException">A rule has no text that ends, or begins with itself.</exception>
    public static void Complete(IReadOnlyList<Rule> rules)
    {
        foreach (var rule in rules)
        {
            CheckBeginning(rule);
        }

        var lengths = FindLengths(rules);
        foreach (var rule in rules)
        {
            rule.MinLength = lengths[rule] < Term.Infinite ? lengths[rule]
                : throw new GrammarException(
                    rule.Path, "no value of it ends: what it asks for leads back to itself, or is longer than 2 GiB");
        }
    }

    // A rule is measured again when one that it refers to has become shorter, until none has.
    private static Dictionary<Rule, int> FindLengths(IReadOnlyList<Rule> rules)
    {
        var lengths = rules.ToDictionary(rule => rule, _ => Term.Infinite);
        var users = rules.ToDictionary(rule => rule, _ => new HashSet<Rule>());
        var waits = new HashSet<Rule>(rules);
        var queue = new Queue<Rule>(rules.Reverse());
        while (queue.TryDequeue(out var rule))
        {
            waits.Remove(rule);
            var measured = new Dictionary<Term, int>(ReferenceEqualityComparer.Instance);
            int Measure(Term term)
            {
                if (term is ReferenceTerm reference)
                {
                    users[reference.Rule].Add(rule);
                    return lengths[reference.Rule];
                }

                if (!measured.TryGetValue(term, out var length))
                {
                    length = term.Measure(Measure);
                    measured.Add(term, length);
                }

                return length;
            }

            if (Measure(rule.Body) is var length && length < lengths[rule])
            {
                lengths[rule] = length;
                foreach (var user in users[rule].Where(waits.Add))
                {
                    queue.Enqueue(user);
                }
            }
        }

        return lengths;
    }

    private static void CheckBeginning(Rule rule)
    {
        var seen = new HashSet<Term>(ReferenceEqualityComparer.Instance);
        void Visit(Term term)
        {
            if (term is ReferenceTerm reference && reference.Rule == rule)
            {
                throw new GrammarException(
                    rule.Path, "refers to itself with nothing in between; remove that alternative, which adds nothing");
            }

            if (seen.Add(term))
            {
                term.VisitLeading(Visit);
            }
        }

        Visit(rule.Body);
    }
}
