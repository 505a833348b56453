using System.Diagnostics.Tracing;

namespace Octet;

/// <summary>What the library has to say and nobody asked for: events of the source "Octet", for dotnet-trace, loggers and an EventListener.</summary>
[EventSource(Name = "Octet")]
internal sealed class DeviceEvents : EventSource
{
    private readonly Lock _lock = new();
    private readonly HashSet<(string Device, string Reason)> _said = [];

    private DeviceEvents()
    {
    }

    public static DeviceEvents Log { get; } = new();

    /// <summary>A device was opened in the place of a better one; each reason is said once in a process.</summary>
    [NonEvent]
    public void FellBackOnce(string device, string reason)
    {
        if (IsNews(device, reason))
        {
            FellBack(device, reason);
        }
    }

    /// <summary>Steps of a model are not recorded as graphs on a device that has them; each reason is said once in a process.</summary>
    [NonEvent]
    public void NoGraphsOnce(string device, string reason)
    {
        if (IsNews(device, reason))
        {
            NoGraphs(device, reason);
        }
    }

    // Nothing is, before anybody listens: else it would never be heard.
    [NonEvent]
    private bool IsNews(string device, string reason)
    {
        lock (_lock)
        {
            return IsEnabled() && _said.Add((device, reason));
        }
    }

    [Event(2, Level = EventLevel.Warning, Message = "no graphs on {0}: {1}")]
    private void NoGraphs(string device, string reason) => WriteEvent(2, device, reason);

    [Event(1, Level = EventLevel.Warning, Message = "running on {0}: {1}")]
    private void FellBack(string device, string reason) => WriteEvent(1, device, reason);
}
