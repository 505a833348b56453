using System.Diagnostics;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Loading;

public sealed class ModelFileTests : IDisposable
{
    private readonly ModelDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Directories_and_pipes_are_refused_without_waiting_for_a_writer()
    {
        string folder = Directory.CreateDirectory(Path.Combine(_directory.Path, "folder")).FullName;
        Assert.Contains("is a directory", Refused(folder), StringComparison.Ordinal);
        if (OperatingSystem.IsWindows())
        {
            return;
        }
        string pipe = Path.Combine(_directory.Path, "pipe");
        using (Process mkfifo = Process.Start("mkfifo", pipe))
        {
            mkfifo.WaitForExit();
        }
        string link = Path.Combine(_directory.Path, "a link whose own length is not 0");
        File.CreateSymbolicLink(link, "pipe");
        Assert.Contains("not a regular file", Refused(pipe), StringComparison.Ordinal);
        Assert.Contains("not a regular file", Refused(link), StringComparison.Ordinal);
        Assert.Contains("not a regular file", Assert.Throws<ModelFormatException>(() => SafeTensorsFile.Open(link)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_size_of_a_link_is_that_of_the_file_behind_it()
    {
        _directory.Write("blob", "12345");
        string link = Path.Combine(_directory.Path, "link");
        File.CreateSymbolicLink(link, "blob");
        Assert.Equal(5, ModelFile.SizeInBytes(link));
        Assert.Equal(5, ModelFile.SizeInBytes(Path.GetRelativePath(Environment.CurrentDirectory, link)));
    }

    [Theory]
    [InlineData("generation_config.json")]
    [InlineData("tokenizer_config.json")]
    [InlineData("chat_template.jinja")]
    public void A_directory_in_the_place_of_a_file_that_may_be_absent_is_refused(string name)
    {
        Directory.CreateDirectory(Path.Combine(_directory.Path, name));
        Action load = name == GenerationConfig.FileName
            ? () => GenerationConfig.Load(_directory.Path)
            : () => ChatTemplate.Load(_directory.Path);
        Assert.Contains($"{name}: is a directory", Assert.Throws<ModelFormatException>(load).Message, StringComparison.Ordinal);
    }

    private static string Refused(string path) => Assert.Throws<ModelFormatException>(() => ModelFile.SizeInBytes(path)).Message;
}
