using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Octet.Inference.Chat;
using Octet.Inference.Engine;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Server.Api;

namespace Octet.Server.Hosting;

/// <summary>Where a served model is on its way.</summary>
internal enum ServingState
{
    /// <summary>The weights are being read.</summary>
    Loading,

    /// <summary>Requests are served.</summary>
    Ready,

    /// <summary>What runs is brought to its end, nothing more is begun.</summary>
    Draining,

    /// <summary>The model could not be loaded.</summary>
    Failed,
}

/// <summary>
/// The model that an application serves: loaded once it has started, ready when a first text was generated, drained when it stops, while
/// requests can still be answered.
/// </summary>
internal sealed partial class ServedModel : IHostedLifecycleService, IDisposable
{
    private readonly OctetServerOptions _options;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly ILogger<ServedModel> _log;
    private readonly CancellationTokenSource _stopping = new();
    private readonly CancellationTokenSource _cut = new();
    private readonly TaskCompletionSource _idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private DeviceGroup? _devices;
    private LanguageModel? _model;
    private ChatModel? _chat;
    private Task _loading = Task.CompletedTask;
    private volatile ServingState _state;
    private int _open;
    private double _loaded;

    public ServedModel(IOptions<OctetServerOptions> options, IHostApplicationLifetime lifetime, ILogger<ServedModel> log)
    {
        (_options, _lifetime, _log) = (options.Value, lifetime, log);
        Created = DateTimeOffset.UtcNow;
    }

    /// <summary>What clients call it.</summary>
    public string Name => _options.ModelName;

    /// <summary>When it began to be served.</summary>
    public DateTimeOffset Created { get; }

    public ServingState State => _state;

    /// <summary>Share of the weights that are read, 0 to 1.</summary>
    public double Loaded => Volatile.Read(ref _loaded);

    /// <summary>Why it could not be loaded; null: it could, or is still being.</summary>
    public Exception? Failure { get; private set; }

    /// <summary>The model; null before it is loaded.</summary>
    public LanguageModel? Model => Volatile.Read(ref _model);

    /// <summary>Cancelled when requests that still run are to end: the time to drain is over.</summary>
    public CancellationToken Cut => _cut.Token;

    /// <summary>Requests that are being answered.</summary>
    public int Open => Volatile.Read(ref _open);

    /// <summary>The model, for one request, which must <see cref="Leave"/>.</summary>
    /// <exception cref="ApiException">It is not ready, or no longer; the request may be repeated.</exception>
    public ChatModel Enter()
    {
        Interlocked.Increment(ref _open);
        if (_state == ServingState.Ready)
        {
            return _chat!;
        }

        Leave();
        throw ApiException.Unavailable(
            _state switch
            {
                ServingState.Loading => $"the model is being loaded ({Loaded:p0}); try again later",
                ServingState.Draining => "the server is stopping and takes no more requests; try another one",
                _ => "the model could not be loaded; the server's log says why",
            },
            retryAfter: _state == ServingState.Loading ? 5 : 1);
    }

    /// <summary>A request is answered.</summary>
    public void Leave()
    {
        if (Interlocked.Decrement(ref _open) == 0 && _state == ServingState.Draining)
        {
            _idle.TrySetResult();
        }
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    // Behind the start of the server, which answers /health meanwhile.
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        _loading = Task.Run(LoadAsync, CancellationToken.None);
        return Task.CompletedTask;
    }

    // Before the server stops listening: what comes now learns that it may try elsewhere.
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        await _stopping.CancelAsync();
        await _loading;
        if (_state == ServingState.Ready)
        {
            _state = ServingState.Draining;
        }

        if (Open > 0)
        {
            LogDraining(Open, _options.DrainTimeout.TotalSeconds);
            try
            {
                await _idle.Task.WaitAsync(_options.DrainTimeout, cancellationToken);
            }
            catch (Exception error) when (error is TimeoutException or OperationCanceledException)
            {
                LogCut(Open);
            }
        }

        await _cut.CancelAsync();
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose()
    {
        // Who disposes of an application that was not stopped may do so while it loads; and twice.
        if (!_stopping.IsCancellationRequested)
        {
            _stopping.Cancel();
        }

        _loading.Wait();
        _model?.Dispose();
        _devices?.Dispose();
        _stopping.Dispose();
        _cut.Dispose();
    }

    private async Task LoadAsync()
    {
        try
        {
            var start = System.Diagnostics.Stopwatch.GetTimestamp();
            _devices = DeviceGroup.Open(_options.Device);
            var run = _options.Run with { MaxQueue = _options.Run.MaxQueue ?? _options.MaxQueue };
            var progress = new Progress(this);
            Volatile.Write(ref _model, LanguageModel.Load(_options.Model, _devices, run, progress, _stopping.Token));

            await WarmUpAsync(_model!);
            _chat = new ChatModel(_model);
            _state = ServingState.Ready;
            LogReady(Name, _devices.Name, System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalSeconds, _model.MaxContext, _model.KvCacheTokens);
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            _state = ServingState.Draining;
        }
        catch (Exception error)
        {
            Failure = error;
            _state = ServingState.Failed;
            LogFailed(_options.Model, error.Message);
            _lifetime.StopApplication();
        }
    }

    // What is only made for the first text is made now. A text for each group: those that come together go to different ones. Of its steps
    // one is the prompt's, the next sizes the workspace, the one behind it is recorded as a graph, which the last one replays.
    private async Task WarmUpAsync(LanguageModel model)
    {
        var options = new GenerationOptions { MaxTokens = 4, IgnoreEndOfText = true, Temperature = 0 };
        await Task.WhenAll(model.Loads.Select(_ => model.CompleteAsync([0], options, _stopping.Token)));
    }

    [LoggerMessage(LogLevel.Information, "{Model} on {Devices} is ready after {Seconds:f1} s: context {Context} tokens, KV cache {KvTokens} tokens")]
    private partial void LogReady(string model, string devices, double seconds, int context, long kvTokens);

    [LoggerMessage(LogLevel.Error, "{Model} could not be loaded: {Problem}")]
    private partial void LogFailed(string model, string problem);

    [LoggerMessage(LogLevel.Information, "Stopping: {Requests} requests have {Seconds} s to end")]
    private partial void LogDraining(int requests, double seconds);

    [LoggerMessage(LogLevel.Warning, "Stopping: {Requests} requests did not end in time and are cut off")]
    private partial void LogCut(int requests);

    // Synchronous, unlike System.Progress.
    private sealed class Progress(ServedModel served) : IProgress<LoadProgress>
    {
        public void Report(LoadProgress value) =>
            Volatile.Write(ref served._loaded, value.TotalBytes == 0 ? 1 : (double)value.LoadedBytes / value.TotalBytes);
    }
}
