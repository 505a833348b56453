namespace Octet.Inference.Engine;

// What admission counts: texts, and blocks that may yet be taken.
internal sealed partial class Scheduler
{
    // Those that run, and those that will with them.
    private int Holders
    {
        get
        {
            var holders = _running.Count;
            foreach (var sequence in _running)
            {
                holders += sequence.Siblings.Count;
            }

            return holders;
        }
    }

    private int WorstBlocks(Sequence sequence) => blocks.BlocksFor(sequence.Limit);

    // Blocks that those who hold some may yet take.
    private int OutstandingBlocks()
    {
        var outstanding = 0;
        foreach (var sequence in _running)
        {
            outstanding += OutstandingBlocks(sequence);
        }

        foreach (var sequence in _idle)
        {
            outstanding += OutstandingBlocks(sequence);
        }

        return outstanding;
    }

    private int OutstandingBlocks(Sequence sequence) =>
        blocks.BlocksToGrow(sequence, sequence.Limit - sequence.Computed) + sequence.Siblings.Count * WorstBlocks(sequence);
}
