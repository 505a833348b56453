namespace Octet;

/// <summary>Arguments of <see cref="Ops.Sampling"/>.</summary>
public struct SamplingArgs
{
    /// <summary>[rows, vocabulary] f32: as they came when the op is done, adjusted while it runs.</summary>
    public required TensorView Logits;

    /// <summary>[rows] f32; 0: arg max.</summary>
    public required TensorView Temperatures;

    /// <summary>[rows] i32; 0: all.</summary>
    public required TensorView TopK;

    /// <summary>[rows] f32; 1 and more: all.</summary>
    public required TensorView TopP;

    /// <summary>[rows] f32: tokens must be this many times as likely as the most likely one; 0, or left out: all.</summary>
    public TensorView MinP;

    /// <summary>[rows] i64.</summary>
    public required TensorView Seeds;

    /// <summary>[rows] i64, usually the position being sampled.</summary>
    public required TensorView Counters;

    /// <summary>[rows] i32: the tokens chosen; -1 for a row with a logit that is not finite, or with no token allowed.</summary>
    public required TensorView Ids;

    /// <summary>Changes of single logits before tokens are drawn; left out: none.</summary>
    public LogitAdjustments? Adjustments;

    /// <summary>The tokens that may be drawn; left out: all.</summary>
    public TokenMasks? Masks;

    /// <summary>Where the logarithms of the probabilities go; left out: they are not wanted.</summary>
    public LogprobOutputs? Logprobs;

    /// <summary>[bytes] u8 scratch memory; left out where the workspace query says 0.</summary>
    public TensorView Workspace;
}

/// <summary>
/// Single logits of <see cref="Ops.Sampling"/> to change before tokens are drawn: x / penalty where x is positive, else x * penalty; + bias.
/// What lies beyond the finite floats becomes the nearest of them; a bias of -infinity so excludes a token.
/// </summary>
public struct LogitAdjustments
{
    /// <summary>[rows + 1] i32, ascending from 0: where the adjustments of each row begin.</summary>
    public required TensorView Starts;

    /// <summary>[room] i32: no token twice in one row; those outside the vocabulary are skipped.</summary>
    public required TensorView Tokens;

    /// <summary>[room] f32, positive; 1: none.</summary>
    public required TensorView Penalties;

    /// <summary>[room] f32; 0: none.</summary>
    public required TensorView Biases;
}

/// <summary>Bit masks of the tokens that <see cref="Ops.Sampling"/> may draw.</summary>
public struct TokenMasks
{
    /// <summary>[rows] i32: the number of a mask; -1: all tokens are allowed.</summary>
    public required TensorView Rows;

    /// <summary>[masks, ceil(vocabulary/32)] i32: bit index % 32 of word index / 32 is 1 where a token is allowed.</summary>
    public required TensorView Words;
}

/// <summary>
/// Where <see cref="Ops.Sampling"/> writes log(softmax(logits)): of the logits as they came, before adjustments, masks and temperature.
/// </summary>
public struct LogprobOutputs
{
    /// <summary>[rows] i32: how many of the most likely tokens are wanted; 0: only that of the token drawn; -1: nothing, and nothing is written.</summary>
    public required TensorView Counts;

    /// <summary>[rows] f32: of the token drawn; NaN where there is none.</summary>
    public required TensorView Drawn;

    /// <summary>[rows, alternatives] i32: the most likely tokens, in order (ties: the lowest id first); -1 beyond the vocabulary, and in rows that are not finite.</summary>
    public required TensorView Ids;

    /// <summary>[rows, alternatives] f32: theirs; -infinity, and NaN, where there is no token.</summary>
    public required TensorView Values;
}

public static partial class Ops
{
    /// <summary>Temperature 0: the index of the largest logit (ties: lowest). Else one draw from softmax(logits/temperature) over the top_k largest, of those the smallest set of mass top_p, and of those the ones at least min_p times as likely as the most likely.</summary>
    /// <remarks>Logits are adjusted, then masked, then divided by the temperature. The draw is arg max of logit/temperature - log(-log(u)) with u from Philox4x32-10 of (seed, counter, index): a pure function of its inputs. Ties at either edge are kept. A row with a logit that is not finite (NaN or an infinity of either sign) has no distribution: its id is -1, whatever its settings, and the other rows are not affected; nor has one whose mask allows no token. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011.</remarks>
    /// <exception cref="ArgumentException">A shape, type, stride or device breaks the contract; the message has the values.</exception>
    /// <exception cref="OctetException">The device failed.</exception>
    public static void Sampling(DeviceStream stream, in SamplingArgs args)
    {
        var contract = new Contract("sampling", stream);
        Check(contract, in args);
        contract.Workspace(args.Workspace, stream.Device.Backend.SamplingWorkspace(in args));
        stream.Device.Backend.Sampling(stream, in args);
    }

    /// <summary>Scratch memory of <see cref="Sampling"/> in bytes; never shrinks as the bounds in <paramref name="args"/> grow.</summary>
    /// <exception cref="ArgumentException">What the op itself would refuse; the workspace may be null.</exception>
    public static long SamplingWorkspace(Device device, in SamplingArgs args)
    {
        Check(new Contract("sampling", device), in args);
        return device.Backend.SamplingWorkspace(in args);
    }

    private static void Check(in Contract contract, in SamplingArgs args)
    {
        contract.Matrix("logits", args.Logits, DType.Float32);
        var (rows, vocabulary) = (args.Logits.Shape[0], args.Logits.Shape[1]);
        contract.Require(vocabulary >= 1 || rows == 0, $"logits {args.Logits}: the vocabulary is empty");
        contract.Tokens("logits", rows, vocabulary);
        contract.Vector("temperatures", args.Temperatures, DType.Float32, rows);
        contract.Vector("top_k", args.TopK, DType.Int32, rows);
        contract.Vector("top_p", args.TopP, DType.Float32, rows);
        contract.Vector("seeds", args.Seeds, DType.Int64, rows);
        contract.Vector("counters", args.Counters, DType.Int64, rows);
        contract.Vector("ids", args.Ids, DType.Int32, rows);
        if (!args.MinP.IsNull)
        {
            contract.Vector("min_p", args.MinP, DType.Float32, rows);
        }

        if (args.Adjustments is { } adjustments)
        {
            contract.Vector("adjustment_starts", adjustments.Starts, DType.Int32, rows + 1);
            contract.Contiguous("adjusted_tokens", adjustments.Tokens, DType.Int32);
            var room = adjustments.Tokens.ElementCount;
            contract.Require(room <= int.MaxValue, $"adjusted_tokens {adjustments.Tokens}: at most 2^31 - 1");
            contract.Vector("penalties", adjustments.Penalties, DType.Float32, room);
            contract.Vector("biases", adjustments.Biases, DType.Float32, room);
        }

        if (args.Masks is { } masks)
        {
            contract.Vector("mask_rows", masks.Rows, DType.Int32, rows);
            contract.Matrix("masks", masks.Words, DType.Int32);
            contract.Require(masks.Words.Shape[1] == (vocabulary + 31) / 32, $"masks {masks.Words} must have {(vocabulary + 31) / 32} words a row");
        }

        if (args.Logprobs is { } logprobs)
        {
            contract.Vector("logprob_counts", logprobs.Counts, DType.Int32, rows);
            contract.Vector("token_logprobs", logprobs.Drawn, DType.Float32, rows);
            contract.Contiguous("top_ids", logprobs.Ids, DType.Int32);
            contract.Require(logprobs.Ids.Rank == 2 && logprobs.Ids.Shape[0] == rows, $"top_ids {logprobs.Ids} must have {rows} rows");
            contract.Contiguous("top_logprobs", logprobs.Values, DType.Float32);
            contract.Matrix("top_logprobs", logprobs.Values, rows, logprobs.Ids.Shape[1], DType.Float32);
        }
    }
}
