using System.Globalization;
using System.Text.Json;
using Octet.Backends;
using Octet.Inference.Planning;
using Octet.Inference.Planning.Topology;

namespace Octet.Cli;

/// <summary>One of the GPUs beside another: whether it can be read and written from there, and how the two are joined.</summary>
/// <param name="Name">The peer: "hip:1".</param>
/// <param name="Reached">Whether the driver lets kernels reach its memory.</param>
/// <param name="Link">"xgmi" or "pcie"; null: not known.</param>
/// <param name="Hops">Links of xGMI on the way; 0: not joined so, or not known.</param>
internal sealed record PeerLink(string Name, bool Reached, string? Link, int Hops);

/// <summary>Which GPUs of a machine reach which.</summary>
internal static class PeerLinks
{
    /// <summary>The peers of every GPU of a driver that has several, as the driver and the kernel say.</summary>
    public static IReadOnlyDictionary<string, IReadOnlyList<PeerLink>> Find(IEnumerable<DeviceProbe> probes)
    {
        var all = new Dictionary<string, IReadOnlyList<PeerLink>>();
        foreach (var driver in (string[])["hip", "cuda"])
        {
            var devices = new List<Device>();
            try
            {
                foreach (var probe in probes.Where(probe => probe.IsUsable && probe.Name.StartsWith(driver + ":", StringComparison.Ordinal)))
                {
                    TryOpen(probe.Name, devices);
                }

                bool Reaches(int from, int to) => PeerLinks.Reaches(devices[from], devices[to]);
                var topology = driver == "hip" ? ReadTopology() : null;
                foreach (var (name, peers) in Of([.. devices.Select(device => device.Name)], Reaches, topology))
                {
                    all.Add(name, peers);
                }
            }
            finally
            {
                devices.ForEach(device => device.Dispose());
            }
        }

        return all;
    }

    /// <summary>The peers of every GPU.</summary>
    /// <param name="names">The GPUs, with their numbers: "hip:0".</param>
    /// <param name="reaches">Whether the first of two reaches the second, by their places among the names.</param>
    /// <param name="topology">The links; null: not known.</param>
    public static IReadOnlyDictionary<string, IReadOnlyList<PeerLink>> Of(
        IReadOnlyList<string> names, Func<int, int, bool> reaches, KfdTopology? topology)
    {
        var all = new Dictionary<string, IReadOnlyList<PeerLink>>();
        for (var from = 0; names.Count > 1 && from < names.Count; from++)
        {
            all.Add(names[from], [.. Enumerable.Range(0, names.Count).Where(to => to != from).Select(to => Link(names, from, to, reaches(from, to), topology))]);
        }

        return all;
    }

    /// <summary>The peers of one GPU in a sentence.</summary>
    public static string Describe(IReadOnlyList<PeerLink> peers)
    {
        static string Names(IEnumerable<PeerLink> some) => string.Join(", ", some.Select(peer => peer switch
        {
            { Link: null } => peer.Name,
            { Hops: > 1 } => string.Create(CultureInfo.InvariantCulture, $"{peer.Name} ({Title(peer.Link)}, {peer.Hops} hops)"),
            _ => $"{peer.Name} ({Title(peer.Link)})",
        }));
        var (reached, others) = (Names(peers.Where(peer => peer.Reached)), Names(peers.Where(peer => !peer.Reached)));
        return (reached.Length, others.Length) switch
        {
            (_, 0) => $"reaches {reached}",
            (0, _) => $"reaches no peer: {others}",
            _ => $"reaches {reached}; not {others}",
        };
    }

    /// <summary>The peers of one GPU as the array <c>peers</c> of the open object.</summary>
    public static void Write(Utf8JsonWriter writer, IReadOnlyList<PeerLink> peers)
    {
        writer.WriteStartArray("peers");
        foreach (var peer in peers)
        {
            writer.WriteStartObject();
            writer.WriteString("name", peer.Name);
            writer.WriteBoolean("reached", peer.Reached);
            writer.WriteString("link", peer.Link);
            writer.WriteNumber("hops", peer.Hops);
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
    }

    private static string Title(string link) => link == "xgmi" ? "xGMI" : "PCIe";

    private static PeerLink Link(IReadOnlyList<string> names, int from, int to, bool reached, KfdTopology? topology)
    {
        if (Gpu(topology, names[from]) is not { } a || Gpu(topology, names[to]) is not { } b)
        {
            return new PeerLink(names[to], reached, null, 0);
        }

        var link = topology!.Link(a, b) switch { GpuLink.Xgmi => "xgmi", GpuLink.Pcie => "pcie", _ => null };
        return new PeerLink(names[to], reached, link, topology.XgmiHops(a, b));
    }

    private static GpuNode? Gpu(KfdTopology? topology, string name) =>
        topology?.Gpus.FirstOrDefault(gpu => name.EndsWith(string.Create(CultureInfo.InvariantCulture, $":{gpu.Ordinal}"), StringComparison.Ordinal));

    // One that was usable a moment ago may be taken by now.
    private static void TryOpen(string name, List<Device> devices)
    {
        try
        {
            devices.Add(Device.Open(name));
        }
        catch (OctetException)
        {
        }
    }

    private static bool Reaches(Device from, Device to)
    {
        try
        {
            from.EnablePeer(to);
            return true;
        }
        catch (OctetException)
        {
            return false;
        }
    }

    // Where GPUs are hidden, the runtime counts those that are left, and the kernel all.
    private static KfdTopology? ReadTopology()
    {
        if (((string[])["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"]).Any(name => Environment.GetEnvironmentVariable(name) is { Length: > 0 }))
        {
            return null;
        }

        try
        {
            return KfdTopology.Read();
        }
        catch (PlanException)
        {
            return null;
        }
    }
}
