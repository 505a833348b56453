namespace Octet.Inference.Engine;

/// <summary>The next tokens of one sequence in a step.</summary>
/// <param name="Sequence">Whose.</param>
/// <param name="Start">Position of the first.</param>
/// <param name="Count">How many; those behind the sequence's tokens are proposals.</param>
/// <param name="Draws">Tokens drawn from the logits of the last: 0 amid a prompt, several where siblings begin.</param>
internal readonly record struct ScheduledRow(Sequence Sequence, int Start, int Count, int Draws);

/// <summary>Blocks whose content moves between the device and the host: those of a sequence, in order of its context.</summary>
internal readonly record struct BlockSwap(Sequence Sequence, int[] Blocks);

/// <summary>
/// The decision of one step: which sequences advance by how many tokens, continuations first, then chunks of prompts; and what happens to
/// blocks before. Filled anew for every step.
/// </summary>
internal sealed class StepPlan
{
    /// <summary>Continuations, then chunks of prompts; each kind with the oldest sequence first.</summary>
    public List<ScheduledRow> Rows { get; } = [];

    /// <summary>How many of <see cref="Rows"/> are continuations.</summary>
    public int DecodeRows { get; set; }

    /// <summary>Tokens in all.</summary>
    public int Tokens { get; set; }

    /// <summary>Tokens of prompts, without those that are only evaluated.</summary>
    public int PromptTokens
    {
        get
        {
            var prompt = 0;
            for (var i = DecodeRows; i < Rows.Count; i++)
            {
                prompt += Rows[i].Sequence.IsEvaluation ? 0 : Rows[i].Count;
            }

            return prompt;
        }
    }

    /// <summary>Sequences that were preempted for it.</summary>
    public int Preempted { get; set; }

    /// <summary>Prompt tokens that were computed before, and let go of in a preemption.</summary>
    public int Recomputed { get; set; }

    /// <summary>Prompt tokens of admitted sequences that were cached.</summary>
    public int CachedTokens { get; set; }

    /// <summary>Blocks to bring to host memory, before anything else.</summary>
    public List<BlockSwap> SwapsOut { get; } = [];

    /// <summary>Blocks to bring back from there, next.</summary>
    public List<BlockSwap> SwapsIn { get; } = [];

    /// <summary>Blocks to copy on the device, next.</summary>
    public List<BlockCopy> Copies { get; } = [];

    /// <summary>Empties the plan.</summary>
    public void Clear()
    {
        Rows.Clear();
        SwapsOut.Clear();
        SwapsIn.Clear();
        Copies.Clear();
        (DecodeRows, Tokens, Preempted, Recomputed, CachedTokens) = (0, 0, 0, 0, 0);
    }

    /// <summary>Adds a row at the end.</summary>
    public void Add(in ScheduledRow row)
    {
        Rows.Add(row);
        Tokens += row.Count;
    }
}
