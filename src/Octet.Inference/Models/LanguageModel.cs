using System.Runtime.ExceptionServices;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Parallel;

namespace Octet.Inference.Models;

/// <summary>
/// A language model on a device, or on several. Any number of texts can be generated at once, from any thread; they are continued
/// together, and each has the same tokens as if it were alone.
/// </summary>
public sealed class LanguageModel : IDisposable
{
    private readonly Stack<IDisposable> _owned = new();
    private readonly Lazy<ModelTokenizer> _tokenizer;
    private readonly Lazy<ChatTemplate> _chatTemplate;
    private readonly List<Replica> _replicas = [];
    private readonly EngineGroup _engines;
    private readonly int _maxSequences;
    private long _ids;
    private bool _disposed;

    private LanguageModel(
        string directory, DeviceGroup devices, LanguageModelOptions options, IProgress<LoadProgress>? progress, CancellationToken cancellation)
    {
        Devices = devices;
        Config = ModelConfig.Load(directory);
        GenerationConfig = GenerationConfig.Load(directory);
        _tokenizer = new(() => ModelTokenizer.Load(directory));
        _chatTemplate = new(() => ChatTemplate.Load(directory));
        MaxContext = CheckContext(options, Config);
        _maxSequences = options.MaxSequences;
        ParallelSizes.Check(options, devices);
        try
        {
            var files = Own(CheckpointFiles.Open(directory));
            var groups = devices.Split(options.DataParallel);

            // What cannot fit is refused before the weights are read. The host's memory is one for all.
            int SharersFrom(int group) => devices.Devices[0].Properties.UsesHostMemory ? groups.Count - group : 1;
            foreach (var group in groups)
            {
                Replica.Check(files, Config, group, options, SharersFrom(0));
            }

            // One after the other: what the first has read, the others find in the system's page cache.
            for (var i = 0; i < groups.Count; i++)
            {
                var part = progress is null || groups.Count == 1 ? progress : new PartProgress(progress, i, groups.Count);
                _replicas.Add(Own(new Replica(files, Config, groups[i], options, SharersFrom(i), part, cancellation)));
            }

            if (!files.IsMapped)
            {
                files.Dispose();
            }

            KvCacheTokens = _replicas.Min(replica => (long)replica.Blocks) * options.KvBlockSize;
            var router = new RequestRouter(
                groups.Count, options.PrefixCache ? _replicas.Min(replica => replica.Blocks) : 0, options.KvBlockSize,
                RequestRouter.ImbalanceInSteps * (long)options.TokenBudget);
            _engines = Own(new EngineGroup([.. _replicas.Select(replica => replica.Engine)], router, options.MaxSequences, options.MaxQueue));
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>The devices the model is on.</summary>
    public DeviceGroup Devices { get; }

    /// <summary>The first of <see cref="Devices"/>.</summary>
    public Device Device => Devices.Devices[0];

    /// <summary>The model's shape: config.json.</summary>
    public ModelConfig Config { get; }

    /// <summary>The checkpoint's sampling defaults: generation_config.json.</summary>
    public GenerationConfig GenerationConfig { get; }

    /// <summary>Longest prompt and continuation together, in tokens.</summary>
    public int MaxContext { get; }

    /// <summary>Tokens the KV cache holds over all requests of a data parallel group; where the groups differ, of the smallest.</summary>
    public long KvCacheTokens { get; }

    /// <summary>The most tokens that a prompt and what continues it can have: the context's, or the KV cache's where those are fewer.</summary>
    public int MaxLength => (int)Math.Min(MaxContext, KvCacheTokens);

    /// <summary>What was done since it was loaded, by all groups: steps, tokens, preemptions; from any thread.</summary>
    public EngineStatistics Statistics => _engines.Statistics;

    /// <summary>What each data parallel group does at the moment; from any thread.</summary>
    public IReadOnlyList<EngineLoad> Loads => _engines.Loads;

    /// <summary>The checkpoint's tokenizer: tokenizer.json, read when first used.</summary>
    /// <exception cref="ModelFormatException">The file is missing, damaged or of a kind that is not supported.</exception>
    public ModelTokenizer Tokenizer => _tokenizer.Value;

    /// <summary>The checkpoint's chat template, read when first used.</summary>
    /// <exception cref="ModelFormatException">There is none, or it uses something that is not supported.</exception>
    public ChatTemplate ChatTemplate => _chatTemplate.Value;

    /// <summary>The layers on the first device.</summary>
    internal IModel Model => _replicas[0].Model;

    /// <summary>The data parallel groups.</summary>
    internal IReadOnlyList<Replica> Replicas => _replicas;

    /// <summary>The recorded steps of the first group; null: every step runs eagerly.</summary>
    internal DecodeGraphs? Graphs => _replicas[0].Graphs;

    /// <summary>Loads a checkpoint folder in the Hugging Face layout: FP8 block weights, or BF16 (quantised on load).</summary>
    /// <param name="directory">Holds config.json and model.safetensors, or shards with or without their index.</param>
    /// <param name="device">Where the model runs; it must outlive the model.</param>
    /// <param name="options">How it is run; null: the defaults.</param>
    /// <param name="progress">Told of every chunk that is loaded.</param>
    /// <param name="cancellation">Stops loading; nothing is left behind.</param>
    /// <exception cref="ModelFormatException">The folder is missing, damaged or holds another kind of model; one line with file, values and remedy.</exception>
    /// <exception cref="ArgumentException">An option is out of range.</exception>
    /// <exception cref="OctetException">The device failed, or has not enough memory.</exception>
    public static LanguageModel Load(
        string directory, Device device, LanguageModelOptions? options = null, IProgress<LoadProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentNullException.ThrowIfNull(device);
        return Load(directory, DeviceGroup.Of(device), options, progress, cancellation);
    }

    /// <summary>
    /// Loads a checkpoint folder on the devices of a group, as <see cref="LanguageModelOptions.DataParallel"/>,
    /// <see cref="LanguageModelOptions.TensorParallel"/> and <see cref="LanguageModelOptions.ExpertParallel"/> divide them.
    /// </summary>
    /// <param name="directory">Holds config.json and model.safetensors, or shards with or without their index.</param>
    /// <param name="devices">Where the model runs; they must outlive the model.</param>
    /// <param name="options">How it is run; null: the defaults.</param>
    /// <param name="progress">Told of every chunk that is loaded, of all that the devices take.</param>
    /// <param name="cancellation">Stops loading; nothing is left behind.</param>
    /// <inheritdoc cref="Load(string, Device, LanguageModelOptions?, IProgress{LoadProgress}?, CancellationToken)" path="/exception"/>
    public static LanguageModel Load(
        string directory, DeviceGroup devices, LanguageModelOptions? options = null, IProgress<LoadProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentNullException.ThrowIfNull(devices);
        return new LanguageModel(directory, devices, options ?? new(), progress, cancellation);
    }

    /// <summary>
    /// Continues a text, token by token as they come. The last one says why the text ended: it may be an end token, which has no
    /// text.
    /// </summary>
    /// <param name="prompt">The text; special tokens in it are recognised.</param>
    /// <param name="options">Sampling; what is null comes from <see cref="GenerationConfig"/>.</param>
    /// <param name="cancellation">
    /// Ends the enumeration with an <see cref="OperationCanceledException"/>; a request that waits is dropped, one in the batch leaves it
    /// before the next step.
    /// </param>
    /// <exception cref="ArgumentException">The prompt is empty or longer than the context, or an option is out of range.</exception>
    /// <exception cref="QueueFullException">By the enumeration: <see cref="LanguageModelOptions.MaxQueue"/> requests wait already.</exception>
    /// <exception cref="NotFiniteNumberException">By the enumeration: a logit is not finite, so there is no next token; the message has the position.</exception>
    public IAsyncEnumerable<GeneratedToken> GenerateAsync(
        string prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        return GenerateAsync(Tokenizer.Encode(prompt), options, cancellation);
    }

    /// <summary>Continues a text given as token ids.</summary>
    /// <inheritdoc cref="GenerateAsync(string, GenerationOptions?, CancellationToken)"/>
    public IAsyncEnumerable<GeneratedToken> GenerateAsync(
        IReadOnlyList<int> prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentNullException.ThrowIfNull(prompt);
        int[] ids = [.. prompt];
        options ??= new();

        // What is wrong shows here and not at the first token; each enumeration then is a request of its own.
        CreateRequests(ids, options);
        return TokenStream.RunAsync(_engines, Create, cancellation);

        GenerationRequest[] Create()
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return CreateRequests(ids, options);
        }
    }

    /// <summary>Continues a text to its end.</summary>
    /// <param name="prompt">The text; special tokens in it are recognised.</param>
    /// <param name="options">Sampling; what is null comes from <see cref="GenerationConfig"/>.</param>
    /// <param name="cancellation">Ends the text: what there is of it is returned, with <see cref="FinishReason.Cancelled"/>.</param>
    /// <inheritdoc cref="GenerateAsync(string, GenerationOptions?, CancellationToken)" path="/exception"/>
    public Task<Completion> CompleteAsync(string prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        return CompleteAsync(Tokenizer.Encode(prompt), options, cancellation);
    }

    /// <summary>Continues a text given as token ids to its end.</summary>
    /// <inheritdoc cref="CompleteAsync(string, GenerationOptions?, CancellationToken)"/>
    public async Task<Completion> CompleteAsync(
        IReadOnlyList<int> prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        Require(options is null or { Choices: 1 }, $"Choices is {options?.Choices}, which is for CompleteAllAsync");
        return (await CompleteAllAsync(prompt, options, cancellation).ConfigureAwait(false))[0];
    }

    /// <summary>Continues a text to its end in as many ways as <see cref="GenerationOptions.Choices"/> says.</summary>
    /// <inheritdoc cref="CompleteAsync(string, GenerationOptions?, CancellationToken)"/>
    public Task<IReadOnlyList<Completion>> CompleteAllAsync(
        string prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        return CompleteAllAsync(Tokenizer.Encode(prompt), options, cancellation);
    }

    /// <summary>Continues a text given as token ids to its end in as many ways as <see cref="GenerationOptions.Choices"/> says.</summary>
    /// <inheritdoc cref="CompleteAsync(string, GenerationOptions?, CancellationToken)"/>
    public async Task<IReadOnlyList<Completion>> CompleteAllAsync(
        IReadOnlyList<int> prompt, GenerationOptions? options = null, CancellationToken cancellation = default)
    {
        var tokens = GenerateAsync(prompt, options, cancellation);
        var choices = Enumerable.Range(0, options?.Choices ?? 1).Select(_ => new CompletionBuilder()).ToArray();
        IReadOnlyList<TokenLogprobs?> promptLogprobs = [];
        try
        {
            await foreach (var token in tokens.ConfigureAwait(false))
            {
                choices[token.Choice].Add(token);
                promptLogprobs = token.PromptLogprobs ?? promptLogprobs;
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
        }

        return Array.ConvertAll(choices, choice => choice.Build(prompt.Count, promptLogprobs));
    }

    /// <summary>Opens a text whose tokens the caller chooses.</summary>
    public TextSession OpenSession()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return new TextSession(_engines, () => Interlocked.Increment(ref _ids), Config.VocabularySize, (int)Math.Min(MaxContext, KvCacheTokens));
    }

    /// <summary>The logits of every token of a text: what the model expects next after each.</summary>
    /// <param name="ids">Token ids, at least one, at most <see cref="MaxContext"/>.</param>
    /// <param name="rows">Called in order with the number of the first row and the logits [rows, vocabulary] of some rows.</param>
    /// <param name="chunk">Tokens read in one step; null: the options' prefill chunk.</param>
    /// <param name="cancellation">Stops between steps.</param>
    /// <exception cref="ArgumentException">An id is outside the vocabulary, or there are none or too many.</exception>
    /// <exception cref="NotFiniteNumberException">A logit is not finite; the message has the position and the token id.</exception>
    public void Logits(
        ReadOnlySpan<int> ids, Action<int, ReadOnlySpan<float>> rows, int? chunk = null, CancellationToken cancellation = default) =>
        Logits(ids, 0, rows, chunk, cancellation);

    // start: the position of the first of the ids, for messages.
    private void Logits(
        ReadOnlySpan<int> ids, int start, Action<int, ReadOnlySpan<float>> rows, int? chunk, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentOutOfRangeException.ThrowIfLessThan(chunk ?? 1, 1, nameof(chunk));
        Evaluate(ids, (first, logits) =>
        {
            FiniteLogits.Check(logits, Config.VocabularySize, start + first, Devices.Name);
            rows(first, logits);
        }, chunk, cancellation);
    }

    private void Evaluate(ReadOnlySpan<int> ids, Action<int, ReadOnlySpan<float>> rows, int? chunk, CancellationToken cancellation)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        CheckIds(ids);
        var sequence = new Sequence(Interlocked.Increment(ref _ids), ids, ids.Length) { IsEvaluation = true, MaxChunk = chunk ?? int.MaxValue };
        var request = new EvaluationRequest(sequence, rows);
        _engines.Submit(request);
        using var registration = cancellation.Register(() => request.End(new OperationCanceledException(cancellation)));
        request.Done.GetAwaiter().GetResult();
    }

    /// <summary>The log probabilities of the tokens of a text, each after those before it: log(softmax(logits)) of the model.</summary>
    /// <param name="ids">Token ids, at least one, at most <see cref="MaxContext"/>.</param>
    /// <param name="alternatives">How many of the most likely tokens are wanted in the place of each.</param>
    /// <param name="cancellation">Stops between steps.</param>
    /// <returns>One entry for each token; the first has none before it, and is null.</returns>
    /// <exception cref="ArgumentException">An id is outside the vocabulary, or there are none or too many.</exception>
    /// <exception cref="NotFiniteNumberException">A logit is not finite; the message has the position and the token id.</exception>
    public IReadOnlyList<TokenLogprobs?> LogProbabilities(ReadOnlySpan<int> ids, int alternatives = 0, CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(alternatives);
        var logprobs = new PromptLogprobs(ids.ToArray(), Config.VocabularySize, alternatives, Devices.Name);
        Evaluate(ids, logprobs.Add, null, cancellation);
        return logprobs.All;
    }

    /// <summary>
    /// exp of the mean over windows of the mean negative log likelihood of tokens 2 to <paramref name="window"/> of each window; windows do
    /// not overlap, and what is left at the end is not counted.
    /// </summary>
    /// <param name="ids">The text.</param>
    /// <param name="window">Tokens of a window, at least 2.</param>
    /// <param name="progress">Told of every window.</param>
    /// <param name="cancellation">Stops between steps.</param>
    /// <exception cref="ArgumentException">The window is under 2, longer than the context or the text, or an id is outside the vocabulary.</exception>
    /// <exception cref="NotFiniteNumberException">A logit is not finite; the message has the position and the token id.</exception>
    public double Perplexity(
        ReadOnlySpan<int> ids, int window, IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        Require(window >= 2, $"the window is {window} tokens, but it must be at least 2");
        Require(window <= ids.Length, $"the window of {window} tokens is longer than the text of {ids.Length}");
        Require(window <= MaxContext, $"the window of {window} tokens is longer than the context of {MaxContext}");

        // As many windows at a time as there are groups; each has a sum of its own, so that the result is the same for any number.
        int[] text = [.. ids];
        var sums = new double[ids.Length / window];
        var (done, reporting) = (0, new Lock());
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = _replicas.Count, CancellationToken = cancellation };
        try
        {
            System.Threading.Tasks.Parallel.For(0, sums.Length, parallel, i =>
            {
                var tokens = text[(i * window)..((i + 1) * window)];
                Logits(tokens, i * window, (first, logits) => AddNegativeLogLikelihoods(tokens, first, logits, ref sums[i]), null, cancellation);
                lock (reporting)
                {
                    progress?.Report((++done, sums.Length));
                }
            });
        }
        catch (AggregateException error)
        {
            ExceptionDispatchInfo.Throw(error.InnerExceptions[0]);
        }

        return Math.Exp(sums.Sum() / sums.Length / (window - 1));
    }

    /// <summary>Ends all generation and frees the model's memory; enumerations in progress throw ObjectDisposedException.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, true))
        {
            return;
        }

        Release();
    }

    private static int CheckContext(LanguageModelOptions options, ModelConfig config)
    {
        var context = options.MaxContext ?? config.MaxContext;
        if (context < 1 || context > config.MaxContext || options.TokenBudget < 1 || options.MaxSequences < 1 || options.KvCacheTokens < 1
            || options.KvMemoryShare is not (null or (> 0 and <= 1)) || options.MaxQueue < 0 || options.Speculate is < 0 or > 3 || options.KvBlockSize is not (16 or 32 or 64 or 128))
        {
            throw new ArgumentException(
                $"MaxContext = {context} must be 1..{config.MaxContext}; TokenBudget = {options.TokenBudget}, MaxSequences = {options.MaxSequences}, "
                + $"KvCacheTokens = {options.KvCacheTokens} positive; KvMemoryShare = {options.KvMemoryShare} over 0 and at most 1; MaxQueue = {options.MaxQueue} from 0; Speculate = {options.Speculate} 0..3; "
                + $"KvBlockSize = {options.KvBlockSize} one of 16, 32, 64, 128");
        }

        return context;
    }

    // What is wrong shows here: the options, then the room that prompt and continuation need.
    private GenerationRequest[] CreateRequests(int[] prompt, GenerationOptions options)
    {
        CheckIds(prompt);
        Require(
            options.Choices >= 1 && options.Choices <= _maxSequences,
            $"Choices is {options.Choices}, but it must be 1 to MaxSequences, which is {_maxSequences}: they begin together");
        var stops = options.StopStrings ?? GenerationConfig.StopStrings;
        Require(stops.All(stop => stop.Length > 0), "StopStrings has an empty string, which would end every text at once");
        var sampling = SamplingParams.Resolve(options, GenerationConfig, EndTokens(), prompt.Length, Config.VocabularySize);
        Require(prompt.Length < MaxContext, $"the prompt has {prompt.Length} tokens, the context {MaxContext}: no room is left for a continuation");
        var limit = prompt.Length + Math.Min(options.MaxTokens, MaxContext - prompt.Length);
        Require(
            limit <= KvCacheTokens,
            $"prompt and continuation may take {limit} tokens, the KV cache holds {KvCacheTokens}: raise KvCacheTokens or lower MaxTokens");

        var logprobs = options.PromptLogprobs is { } alternatives ? new PromptLogprobs(prompt, Config.VocabularySize, alternatives, Devices.Name) : null;
        var output = new GenerationOutput(options.Choices, logprobs);
        var requests = new GenerationRequest[options.Choices];
        for (var choice = 0; choice < requests.Length; choice++)
        {
            var sequence = new Sequence(Interlocked.Increment(ref _ids), prompt, limit, options.CacheSalt)
            {
                Priority = options.Priority,
                Sampling = sampling with
                {
                    Seed = unchecked(sampling.Seed + choice),

                    // Of each text its own: it remembers how far it has read.
                    AllowedTokens = options.Grammar?.ToAllowedTokens(Tokenizer.Trie, sampling.EndTokens, limit - prompt.Length)
                        ?? sampling.AllowedTokens,
                },
                IsSibling = choice > 0,
                WantsPromptLogits = logprobs is not null,
            };
            var text = new ContinuationText(Tokenizer, prompt, new StopStrings(stops, options.IncludeStopString), sampling.MinTokens);
            requests[choice] = new GenerationRequest(sequence, choice, text, output);
            if (choice > 0)
            {
                requests[0].Sequence.Siblings.Add(sequence);
            }
        }

        return requests;
    }

    private static void Require(bool condition, string problem)
    {
        if (!condition)
        {
            throw new ArgumentException(problem);
        }
    }

    private IReadOnlyList<int> EndTokens() =>
        GenerationConfig.EosTokenIds.Count > 0 ? GenerationConfig.EosTokenIds : Config.EosTokenIds;

    private void CheckIds(ReadOnlySpan<int> ids)
    {
        if (ids.IsEmpty)
        {
            throw new ArgumentException("the prompt is empty: at least one token is needed");
        }

        if (ids.Length > MaxContext)
        {
            throw new ArgumentException($"{ids.Length} tokens are more than the context of {MaxContext}");
        }

        for (var i = 0; i < ids.Length; i++)
        {
            if (ids[i] < 0 || ids[i] >= Config.VocabularySize)
            {
                throw new ArgumentException($"token id {ids[i]} at position {i} is outside the vocabulary 0..{Config.VocabularySize - 1}");
            }
        }
    }

    // One by one: the sum does not depend on how many rows come at a time.
    private void AddNegativeLogLikelihoods(int[] tokens, int first, ReadOnlySpan<float> logits, ref double sum)
    {
        var width = Config.VocabularySize;
        for (var row = 0; row < logits.Length / width; row++)
        {
            var next = first + row + 1;
            if (next < tokens.Length)
            {
                var line = logits.Slice(row * width, width);
                sum += LogSoftmax.LogSum(line) - line[tokens[next]];
            }
        }
    }

    private T Own<T>(T part) where T : IDisposable
    {
        _owned.Push(part);
        return part;
    }

    private void Release()
    {
        while (_owned.TryPop(out var part))
        {
            part.Dispose();
        }
    }
}
