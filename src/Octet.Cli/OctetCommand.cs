using System.CommandLine;
using System.CommandLine.Help;
using Octet.Cli.Inspect;

namespace Octet.Cli;

/// <summary>octet: the commands it has.</summary>
internal static class OctetCommand
{
    // Not a RootCommand, which takes its name from the assembly and prints that in the help texts.
    public static Command Create() => new("octet", "Octet: FP8 Mixture-of-Experts inference for .NET on AMD Instinct MI325X.")
    {
        new HelpOption(),
        new VersionOption(),
        GenerateCommand.Create(),
        ChatCommand.Create(),
        ServeCommand.Create(),
        LogitsCommand.Create(),
        PerplexityCommand.Create(),
        LoadCommand.Create(),
        DevicesCommand.Create(),
        CheckCommand.Create(),
        InspectCommand.Create(),
        BenchCommand.Create(),
        PlanCommand.Create(),
        TopologyCommand.Create(),
    };
}
