using System.Reflection;
using ILGPU;
using ILGPU.Runtime;

namespace Octet.Ilgpu;

/// <summary>How kernels are launched on an accelerator.</summary>
/// <param name="Threads">Threads of a group that serves a row: a power of two, at most <see cref="MaxThreads"/>.</param>
/// <param name="IsTiled">Whether products are computed by groups of <see cref="SharedTile.Threads"/> through shared memory.</param>
/// <param name="MaxGroups">Groups of one launch at most; each goes on to the next piece of work until none is left.</param>
internal readonly record struct IlgpuShape(int Threads, bool IsTiled, int MaxGroups)
{
    /// <summary>What the kernels' shared memory is laid out for; divides the 128 columns of a scale block.</summary>
    public const int MaxThreads = 128;

    /// <summary>For GPUs.</summary>
    public static IlgpuShape Gpu { get; } = new(MaxThreads, true, 1 << 16);

    /// <summary>For the CPU accelerator: groups of one thread, as a barrier of more takes it milliseconds.</summary>
    public static IlgpuShape Cpu { get; } = new(1, false, 4 * Environment.ProcessorCount);

    /// <summary>Threads of a group that computes a tile of a product.</summary>
    public int TileThreads => IsTiled ? SharedTile.Threads : 1;
}

/// <summary>Compiles kernels for one accelerator; one that fails is named, and its context is of no more use.</summary>
internal sealed class IlgpuCompiler(string device, Accelerator accelerator, Lock gate, IlgpuShape shape)
{
    /// <summary>The kernels compiled so far, with the op each serves.</summary>
    public List<(string Name, MethodInfo Kernel)> Compiled { get; } = [];

    /// <summary>A kernel of explicit groups over one argument struct.</summary>
    /// <param name="name">Of the op it serves, for messages.</param>
    /// <param name="kernel">A static method.</param>
    public IlgpuKernel<TArgs> Compile<TArgs>(string name, Action<TArgs> kernel) where TArgs : struct
    {
        var launch = Guarded(name, () => accelerator.LoadKernel(kernel));
        Compiled.Add((name, kernel.Method));
        return new(device, name, launch, gate, shape.MaxGroups);
    }

    /// <summary>Any part of an op that compiles kernels: those of ILGPU's own algorithms.</summary>
    public T Guarded<T>(string name, Func<T> load)
    {
        try
        {
            return load();
        }
        catch (Exception error)
        {
            throw new OctetException(
                OctetStatus.Unsupported, $"device '{device}': kernel '{name}' does not compile: {IlgpuDevices.Reason(error)}", error);
        }
    }
}

/// <summary>A compiled kernel.</summary>
internal sealed class IlgpuKernel<TArgs>(
    string device, string name, Action<AcceleratorStream, KernelConfig, TArgs> launch, Lock gate, int maxGroups)
    where TArgs : struct
{
    /// <summary>Enqueues the kernel: at most one group for each piece of work, none for no work.</summary>
    public void Launch(AcceleratorStream stream, long work, int threads, in TArgs args)
    {
        if (work <= 0)
        {
            return;
        }

        lock (gate)
        {
            try
            {
                launch(stream, new KernelConfig((int)Math.Min(work, maxGroups), threads), args);
            }
            catch (Exception error)
            {
                throw new OctetException(OctetStatus.DeviceError, $"{device}: kernel '{name}': {IlgpuDevices.Reason(error)}", error);
            }
        }
    }
}
