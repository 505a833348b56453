using System.Text;

namespace Octet.Cli.Inspect;

/// <summary>docs/gfx942-report.md: the tables with what they mean.</summary>
internal static class InspectReport
{
    public static string Write(Inspection inspection)
    {
        var text = new StringBuilder();
        text.AppendLine($"**Modelled from the compiled code, not measured**: nothing on this page was run on a {inspection.Gpu.Target}.").AppendLine();
        text.AppendLine($"Produced by `octet inspect --report`, from {inspection.BuildInfo}.").AppendLine();
        foreach (var target in inspection.Kernels.Select(k => k.Target).Distinct())
        {
            text.AppendLine($"## Kernels of {target}").AppendLine();
            text.AppendLine(InspectTable.Markdown(InspectTable.KernelHeader, [.. inspection.Kernels.Where(k => k.Target == target).Select(k => InspectTable.Row(inspection, k))]));
        }

        text.AppendLine($"## Shapes on {inspection.Gpu.Target}").AppendLine();
        text.Append(InspectTable.Markdown(InspectTable.ShapeHeader, [.. inspection.Shapes.Select(InspectTable.Row)]));
        return text.ToString();
    }
}
