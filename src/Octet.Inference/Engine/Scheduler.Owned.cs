namespace Octet.Inference.Engine;

// Texts that begin as others are, or wait for their owner between steps.
internal sealed partial class Scheduler
{
    /// <summary>Lets a paused sequence go on with tokens of its owner: a single one as a continuation, several as a prompt.</summary>
    public void Append(Sequence sequence, ReadOnlySpan<int> tokens)
    {
        if (sequence.Status == SequenceStatus.Paused)
        {
            sequence.Tokens.AddRange(tokens);
            sequence.PrefillEnd = tokens.Length > 1 ? sequence.Tokens.Count : sequence.PrefillEnd;
            Queue(sequence);
        }
    }

    /// <summary>Takes a paused sequence back to its first tokens.</summary>
    public void Rewind(Sequence sequence, int length)
    {
        if (sequence.Status != SequenceStatus.Paused)
        {
            return;
        }

        sequence.Tokens.RemoveRange(length, sequence.Tokens.Count - length);
        sequence.PromptLength = Math.Min(sequence.PromptLength, length);
        sequence.PrefillEnd = Math.Min(sequence.PrefillEnd, length);
        sequence.Forgotten = Math.Min(sequence.Forgotten, length);
        if (sequence.SwappedBlocks > 0)
        {
            sequence.Computed = length;
        }
        else
        {
            blocks.Rewind(sequence, length);
        }
    }

    /// <summary>Lets a text, paused too, begin as a paused one is so far.</summary>
    public void Fork(Sequence parent, Sequence child)
    {
        (child.PromptLength, child.PrefillEnd, child.CachedTokens) = (parent.PromptLength, parent.PrefillEnd, parent.CachedTokens);
        child.Status = SequenceStatus.Paused;
        if (parent.SwappedBlocks > 0)
        {
            (child.SwappedBlocks, child.Computed) = (parent.SwappedBlocks, parent.Computed);
        }
        else
        {
            blocks.Fork(parent, child);
            _idle.Add(child);
        }
    }

    private void BeginSiblings(Sequence sequence)
    {
        if (sequence.Siblings.Count == 0 || sequence.IsPrefilling)
        {
            return;
        }

        foreach (var sibling in sequence.Siblings)
        {
            if (sibling.Status != SequenceStatus.Finished)
            {
                blocks.Fork(sequence, sibling);
                sibling.CachedTokens = sequence.CachedTokens;
                Run(sibling);
            }
        }

        sequence.Siblings.Clear();
    }
}
