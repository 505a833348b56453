using System.Globalization;
using System.Text;
using Octet.Inference.Planning.Topology;

namespace Octet.Inference.Planning;

/// <summary>Writes what starts the groups of a plan: Kubernetes manifests, or lines for a shell.</summary>
public static class PlanManifests
{
    // Whole CPUs and requests equal to limits make the pod Guaranteed, without which the kubelet's topology manager does not align CPUs and devices.
    private const int CpusPerGpu = 8;
    private const int MemoryGiBPerGpu = 64;

    /// <summary>A claim for the weights, shared read-only, and one pod for each group.</summary>
    /// <param name="name">Prefix of all names, such as the model's.</param>
    /// <param name="resource">The device plugin's resource.</param>
    /// <param name="groups">DP groups.</param>
    /// <param name="size">GPUs of a group.</param>
    /// <param name="ep">Ways the experts are divided in a group.</param>
    /// <param name="weightBytes">Bytes the weights take on disk.</param>
    public static string Kubernetes(string name, string resource, int groups, int size, int ep, double weightBytes)
    {
        string label = Label(name);
        var yaml = new StringBuilder();
        Line(yaml, $"# One pod for each DP group. The device plugin chooses the GPUs; for it and the CPUs to come from one NUMA node,");
        Line(yaml, $"# run the kubelet with --topology-manager-policy=best-effort (or restricted) and --cpu-manager-policy=static.");
        Line(yaml, $"# Replace the image by one of your application; the storage class must offer ReadOnlyMany.");
        Line(yaml, $"apiVersion: v1");
        Line(yaml, $"kind: PersistentVolumeClaim");
        Line(yaml, $"metadata:");
        Line(yaml, $"  name: {label}-weights");
        Line(yaml, $"spec:");
        Line(yaml, $"  accessModes:");
        Line(yaml, $"    - ReadOnlyMany");
        Line(yaml, $"  resources:");
        Line(yaml, $"    requests:");
        Line(yaml, $"      storage: {Math.Ceiling(weightBytes * 1.05 / (1L << 30)):F0}Gi");
        for (int group = 0; group < groups; group++)
        {
            Pod(yaml, label, resource, group, size, ep);
        }
        return yaml.ToString();
    }

    /// <summary>For each group the variables and the binding it runs under, from its placement on this machine.</summary>
    public static string Environment(Placement placement)
    {
        ArgumentNullException.ThrowIfNull(placement);
        var text = new StringBuilder();
        for (int group = 0; group < placement.Groups.Count; group++)
        {
            PlacedGroup placed = placement.Groups[group];
            Line(text, $"# group {group}: score {placed.Score}, {(placed.NumaNodes.Count == 0 ? "NUMA node not known" : "NUMA " + string.Join(',', placed.NumaNodes))}");
            Line(text, $"HIP_VISIBLE_DEVICES={placed.VisibleDevices}{(placed.Numactl.Length == 0 ? "" : " " + placed.Numactl)} COMMAND");
        }
        Idle(text, placement.Idle.Select(gpu => gpu.Ordinal));
        return text.ToString();
    }

    /// <summary>For each group of a plan the variables it runs under, GPUs taken in order.</summary>
    /// <param name="variable">The runtime's variable, <c>HIP_VISIBLE_DEVICES</c> or <c>CUDA_VISIBLE_DEVICES</c>.</param>
    /// <param name="groups">DP groups.</param>
    /// <param name="size">GPUs of a group.</param>
    /// <param name="idle">GPUs behind those of the groups that have nothing to do.</param>
    public static string Environment(string variable, int groups, int size, int idle = 0)
    {
        var text = new StringBuilder();
        Line(text, $"# GPUs in order; with --sysfs, or by octet topology on the machine itself, they are placed by its links and sockets.");
        for (int group = 0; group < groups; group++)
        {
            Line(text, $"# group {group}");
            Line(text, $"{variable}={string.Join(',', Enumerable.Range(group * size, size))} COMMAND");
        }
        Idle(text, Enumerable.Range(groups * size, idle));
        return text.ToString();
    }

    private static void Idle(StringBuilder text, IEnumerable<int> gpus)
    {
        if (gpus.Any())
        {
            Line(text, $"# idle: {(gpus.Count() == 1 ? "GPU" : "GPUs")} {NumberList.Write(gpus)}");
        }
    }

    private static void Pod(StringBuilder yaml, string label, string resource, int group, int size, int ep)
    {
        Line(yaml, $"---");
        Line(yaml, $"apiVersion: v1");
        Line(yaml, $"kind: Pod");
        Line(yaml, $"metadata:");
        Line(yaml, $"  name: {label}-group-{group}");
        Line(yaml, $"  labels:");
        Line(yaml, $"    app: {label}");
        Line(yaml, $"    group: \"{group}\"");
        Line(yaml, $"  annotations:");
        Line(yaml, $"    octet/tensor-parallel: \"{size}\"");
        Line(yaml, $"    octet/expert-parallel: \"{ep}\"");
        Line(yaml, $"spec:");
        Line(yaml, $"  restartPolicy: Always");
        Line(yaml, $"  containers:");
        Line(yaml, $"    - name: inference");
        Line(yaml, $"      image: your-application:latest");
        Line(yaml, $"      resources:");
        foreach (string kind in new[] { "requests", "limits" })
        {
            Line(yaml, $"        {kind}:");
            Line(yaml, $"          cpu: \"{size * CpusPerGpu}\"");
            Line(yaml, $"          memory: {size * MemoryGiBPerGpu}Gi");
            Line(yaml, $"          {resource}: \"{size}\"");
        }
        Line(yaml, $"      volumeMounts:");
        Line(yaml, $"        - name: weights");
        Line(yaml, $"          mountPath: /models");
        Line(yaml, $"          readOnly: true");
        Line(yaml, $"        - name: shared-memory");
        Line(yaml, $"          mountPath: /dev/shm");
        Line(yaml, $"  volumes:");
        Line(yaml, $"    - name: weights");
        Line(yaml, $"      persistentVolumeClaim:");
        Line(yaml, $"        claimName: {label}-weights");
        Line(yaml, $"        readOnly: true");
        Line(yaml, $"    - name: shared-memory");
        Line(yaml, $"      emptyDir:");
        Line(yaml, $"        medium: Memory");
        Line(yaml, $"        sizeLimit: {size * 2}Gi");
    }

    // A DNS label: lower-case letters, digits and hyphens, begun and ended by neither hyphen nor (for pods' sake) more than 40 of them.
    internal static string Label(string name)
    {
        string label = new([.. name.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-').Take(40)]);
        label = label.Trim('-');
        return label.Length == 0 ? "model" : char.IsAsciiLetter(label[0]) ? label : "m-" + label;
    }

    private static void Line(StringBuilder text, FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
