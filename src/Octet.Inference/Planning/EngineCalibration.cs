using Octet.Inference.Loading;

namespace Octet.Inference.Planning;

/// <summary>One fitted or assumed constant of an engine.</summary>
/// <param name="Value">The constant.</param>
/// <param name="Provenance"><c>published</c>, <c>measured here</c> or <c>modelled</c>.</param>
/// <param name="Source">Where it comes from.</param>
public sealed record EngineConstant(double Value, string Provenance, string Source);

/// <summary>The range of the measurements an engine was fitted to, inclusive; outside it a prediction is an extrapolation.</summary>
/// <param name="Model">The model measured.</param>
/// <param name="Gpu">The kind of GPU measured.</param>
/// <param name="GroupSizes">The group sizes (TP = EP) measured.</param>
/// <param name="Input">Least and most input tokens.</param>
/// <param name="Output">Least and most output tokens.</param>
/// <param name="Concurrency">Least and most requests in flight in a group.</param>
public sealed record CalibratedRange(string Model, string Gpu, IReadOnlyList<int> GroupSizes, (int Least, int Most) Input, (int Least, int Most) Output, (int Least, int Most) Concurrency)
{
    /// <summary>Whether the point lies inside.</summary>
    public bool Contains(string model, string gpu, int tp, int ep, int input, int output, int concurrency) =>
        model == Model && gpu == Gpu && ep == tp && GroupSizes.Contains(tp)
        && Inside(input, Input) && Inside(output, Output) && Inside(concurrency, Concurrency);

    private static bool Inside(int value, (int Least, int Most) range) => value >= range.Least && value <= range.Most;
}

/// <summary>What an engine adds to the roofline: engines differ by a factor of two at one shape, so each has a file of its own.</summary>
public sealed record EngineCalibration
{
    /// <summary>The engine's name.</summary>
    public required string Name { get; init; }

    /// <summary>The width of an MoE shard must be a multiple of this.</summary>
    public required int MoeGranule { get; init; }

    /// <summary>Most tokens of one step, decode and prefill together.</summary>
    public required int ChunkTokens { get; init; }

    /// <summary>Tokens of a KV block.</summary>
    public required int KvBlockTokens { get; init; }

    /// <summary>Whether a request waits until the KV cache has room for all it may grow to, rather than that the newest is preempted when there is none left.</summary>
    public required bool ReserveAll { get; init; }

    /// <summary>Microseconds of a layer in every step, whatever its tokens: launches, gaps, small kernels.</summary>
    public required EngineConstant StepFloor { get; init; }

    /// <summary>Time of reading weights and KV over the time at peak bandwidth. Below one where real routing touches fewer distinct experts than independent choices would.</summary>
    public required EngineConstant MemoryFactor { get; init; }

    /// <summary>Time of matrix work over the time at the hardware's achievable ceiling.</summary>
    public required EngineConstant ComputeFactor { get; init; }

    /// <summary>Microseconds of a layer for each sequence decoding: norms, routing and permuting, on every rank alike.</summary>
    public required EngineConstant DecodeToken { get; init; }

    /// <summary>Microseconds of a layer for each prefill token and each rank: the same work, and an imbalance of experts that grows with the ranks.</summary>
    public required EngineConstant PrefillTokenRank { get; init; }

    /// <summary>Milliseconds a request spends outside the engine before its first token.</summary>
    public required EngineConstant FrontEnd { get; init; }

    /// <summary>The measurements it was fitted to, or null if it was never measured.</summary>
    public required CalibratedRange? Range { get; init; }

    /// <summary>KV blocks that so many tokens fill.</summary>
    internal long BlocksFor(long tokens) => (tokens + KvBlockTokens - 1) / KvBlockTokens;

    /// <summary>Each constant by its name in the data file.</summary>
    public IReadOnlyList<(string Name, EngineConstant Constant)> Constants =>
    [
        ("step_floor_us_per_layer", StepFloor), ("memory_factor", MemoryFactor), ("compute_factor", ComputeFactor),
        ("decode_us_per_token_layer", DecodeToken), ("prefill_us_per_token_layer_rank", PrefillTokenRank), ("front_end_ms", FrontEnd),
    ];

    /// <summary>The engines known.</summary>
    public static IReadOnlyList<string> Names { get; } = ["octet", "trtllm"];

    /// <summary>Finds an engine.</summary>
    /// <exception cref="PlanException">There is none of this name.</exception>
    public static EngineCalibration Find(string name) => Names.Contains(name)
        ? Parse(PlanData.ReadJson(name + ".json"))
        : throw new PlanException($"engine '{name}' is not known; known are {string.Join(", ", Names)}");

    private static EngineCalibration Parse(ModelJson json)
    {
        ModelJson parameters = json.Object("parameters");
        EngineConstant Constant(string name)
        {
            ModelJson constant = parameters.Object(name);
            return new EngineConstant(constant.Get("value").AsNumber(0, 1e6), constant.Text("provenance"), constant.Text("source"));
        }
        return new EngineCalibration
        {
            Name = json.Text("engine"),
            MoeGranule = json.Integer("moe_granule", 1, 128),
            ChunkTokens = json.Integer("chunk_tokens", 1, 1 << 20),
            KvBlockTokens = json.Integer("kv_block_tokens", 1, 1 << 10),
            ReserveAll = json.Get("reserve_all").AsFlag(),
            StepFloor = Constant("step_floor_us_per_layer"),
            MemoryFactor = Constant("memory_factor"),
            ComputeFactor = Constant("compute_factor"),
            DecodeToken = Constant("decode_us_per_token_layer"),
            PrefillTokenRank = Constant("prefill_us_per_token_layer_rank"),
            FrontEnd = Constant("front_end_ms"),
            Range = json.FindObject("calibrated") is { } range ? ParseRange(range) : null,
        };
    }

    private static CalibratedRange ParseRange(ModelJson json)
    {
        (int Least, int Most) Bounds(string name)
        {
            IReadOnlyList<int> bounds = json.OneOrMoreIntegers(name, 1, int.MaxValue);
            return (bounds[0], bounds[1]);
        }
        return new CalibratedRange(json.Text("model"), json.Text("gpu"), json.OneOrMoreIntegers("group_sizes", 1, 1024), Bounds("input"), Bounds("output"), Bounds("concurrency"));
    }
}
