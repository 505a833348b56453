using Octet.Cli;

IlgpuDevices.Register();
return await CommandLine.RunAsync(OctetCommand.Create(), args);
