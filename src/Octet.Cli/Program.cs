using System.CommandLine;
using System.CommandLine.Help;
using Octet.Cli;
using Octet.Cli.Inspect;

IlgpuDevices.Register();

// Not a RootCommand, which takes its name from the assembly and prints that in the help texts.
var root = new Command("octet", "Octet: FP8 Mixture-of-Experts inference for .NET on AMD Instinct MI325X.")
{
    new HelpOption(),
    new VersionOption(),
    GenerateCommand.Create(),
    LogitsCommand.Create(),
    PerplexityCommand.Create(),
    DevicesCommand.Create(),
    CheckCommand.Create(),
    InspectCommand.Create(),
    BenchCommand.Create(),
    PlanCommand.Create(),
    TopologyCommand.Create(),
};

return await CommandLine.RunAsync(root, args);
