using System.Text.Json;

namespace Octet.Cli.Inspect;

/// <summary>The form octet inspect --json writes and --compare reads.</summary>
internal static class InspectJson
{
    public static void Write(Inspection inspection, Utf8JsonWriter writer)
    {
        writer.WriteString("target", inspection.Gpu.Target);
        writer.WriteString("build", inspection.BuildInfo);
        writer.WriteStartArray("kernels");
        foreach (var kernel in inspection.Kernels)
        {
            WriteKernel(inspection, kernel, writer);
        }

        writer.WriteEndArray();
        writer.WriteStartArray("shapes");
        foreach (var shape in inspection.Shapes)
        {
            WriteShape(shape, writer);
        }

        writer.WriteEndArray();
    }

    private static void WriteKernel(Inspection inspection, KernelCost kernel, Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteString("op", kernel.Op);
        writer.WriteString("name", kernel.Name);
        writer.WriteString("target", kernel.Target);
        writer.WriteNumber("vgprs", kernel.Resources.ArchVgprs);
        writer.WriteNumber("agprs", kernel.Resources.AccVgprs);
        writer.WriteNumber("sgprs", kernel.Resources.Sgprs);
        writer.WriteNumber("lds_bytes", inspection.LdsOf(kernel));
        writer.WriteNumber("spills", kernel.Resources.Spills);
        writer.WriteNumber("scratch_bytes", kernel.Resources.ScratchBytes);
        writer.WriteNumber("waves_per_simd", kernel.Resources.WavesPerSimd);
        writer.WriteStartObject("hot_loop");
        writer.WriteNumber("cycles", Round(kernel.Clocks));
        writer.WriteNumber("matrix_busy", Round(kernel.MatrixBusy));
        writer.WriteStartObject("instructions");
        writer.WriteNumber("total", kernel.Mix.Total);
        foreach (var (kind, count) in kernel.Mix.Counts)
        {
            writer.WriteNumber(kind, count);
        }

        writer.WriteEndObject();
        writer.WriteEndObject();
        writer.WriteEndObject();
    }

    private static void WriteShape(ModelledShape shape, Utf8JsonWriter writer)
    {
        writer.WriteStartObject();
        writer.WriteString("op", shape.Op);
        writer.WriteString("name", shape.Name);
        writer.WriteString("config", shape.Config);
        writer.WriteNumber("blocks", shape.Blocks);
        writer.WriteNumber("microseconds", Round(shape.Microseconds));
        writer.WriteNumber("tflops", Round(shape.Teraflops));
        writer.WriteNumber("gbytes_per_second", Round(shape.GigabytesPerSecond));
        writer.WriteString("binds", shape.Terms.Binds);
        writer.WriteStartObject("terms");
        foreach (var (name, microseconds) in shape.Terms.Named)
        {
            writer.WriteNumber(name, Round(microseconds));
        }

        writer.WriteEndObject();
        writer.WriteEndObject();
    }

    // Three decimals: a model has no more.
    private static double Round(double value) => Math.Round(value, 3);
}
