namespace Octet.Inference.Engine;

/// <summary>What an engine runs its steps on: the devices of one data parallel group. Of the engine's thread alone.</summary>
internal interface IStepRunner
{
    /// <summary>Computes a step and waits for it.</summary>
    void Run(StepPlan plan);

    /// <summary>The tokens drawn for a row of the step that was run: one for each of its outputs; negative where its logits were not finite.</summary>
    ReadOnlySpan<int> Drawn(int row);

    /// <summary>The log probabilities of one of the tokens drawn for a row of the step that was run.</summary>
    TokenLogprobs Logprobs(int row, int draw, int alternatives);

    /// <summary>Reads the logits behind the last token of a row of the step that was run: [vocabulary].</summary>
    void ReadLogits(int row, Span<float> logits);

    /// <summary>
    /// Computes and reads the logits of all tokens of a row of the step that was run, some rows at a time, in order. It writes over what
    /// <see cref="ReadLogits"/> reads.
    /// </summary>
    /// <param name="row">The row.</param>
    /// <param name="logits">Room for some rows.</param>
    /// <param name="rows">Told of the position of the first token, and of the logits [rows, vocabulary].</param>
    void ReadAllLogits(int row, float[] logits, Action<int, ReadOnlySpan<float>> rows);

    /// <summary>Lets a text begin with what waits in host memory of another one.</summary>
    void Fork(Sequence parent, Sequence child);

    /// <summary>Frees what waits in host memory of a text that has ended.</summary>
    void Forget(Sequence sequence);

    /// <summary>After a step that failed: why no other can be run on these devices; null where one can.</summary>
    OctetException? FindLoss();
}
