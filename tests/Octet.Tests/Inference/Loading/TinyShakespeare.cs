namespace Octet.Tests.Inference.Loading;

/// <summary>Where the small checkpoint and its golden data lie.</summary>
internal static class TinyShakespeare
{
    public static string Directory { get; } = Find();

    public static string Golden(string file) => Path.Combine(Directory, "golden", file);

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string candidate = Path.Combine(folder.FullName, "tests", "models", "tiny-shakespeare");
            if (System.IO.Directory.Exists(candidate))
            {
                return candidate;
            }
        }
        throw new DirectoryNotFoundException($"tests/models/tiny-shakespeare is in no folder above {AppContext.BaseDirectory}");
    }
}
