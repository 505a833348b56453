using System.CommandLine;
using Octet.Cli;
using Octet.Cli.Inspect;

IlgpuDevices.Register();
var root = new RootCommand("Octet: FP8 Mixture-of-Experts inference for .NET on AMD Instinct MI325X.")
{
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
