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

    [Fact]
    public void Links_are_followed_from_where_they_lie_on_the_disk()
    {
        // The cache of huggingface_hub: snapshots/abc/file -> ../../blobs/x; and a link elsewhere to the snapshot's folder, by a link to that.
        string blobs = Directory.CreateDirectory(Path.Combine(_directory.Path, "hub", "blobs")).FullName;
        string snapshot = Directory.CreateDirectory(Path.Combine(_directory.Path, "hub", "snapshots", "abc")).FullName;
        string models = Directory.CreateDirectory(Path.Combine(_directory.Path, "models", "deep")).FullName;
        File.WriteAllText(Path.Combine(blobs, "x"), "12345");
        File.CreateSymbolicLink(Path.Combine(snapshot, "file"), "../../blobs/x");
        Directory.CreateSymbolicLink(Path.Combine(models, "absolute"), snapshot);
        Directory.CreateSymbolicLink(Path.Combine(models, "relative"), "../../hub/snapshots/abc");
        Directory.CreateSymbolicLink(Path.Combine(_directory.Path, "again"), "models/deep/relative");
        string expected = Path.Combine(ModelFile.Target(blobs), "x");
        foreach (string folder in (string[])[snapshot, Path.Combine(models, "absolute"), Path.Combine(models, "relative"), Path.Combine(_directory.Path, "again")])
        {
            string file = Path.Combine(folder, "file");
            Assert.Equal(expected, ModelFile.Target(file));
            Assert.Equal(expected, ModelFile.Target(Path.GetRelativePath(Environment.CurrentDirectory, file)));
            Assert.Equal(5, ModelFile.SizeInBytes(file));
        }
    }

    [Fact]
    public void Links_that_lead_nowhere_or_in_a_circle_are_named_so()
    {
        string dangling = Path.Combine(_directory.Path, "dangling");
        File.CreateSymbolicLink(dangling, "blob");
        Assert.Contains($"is a link to {ModelFile.Target(Path.Combine(_directory.Path, "blob"))}, which does not exist", Refused(dangling), StringComparison.Ordinal);
        string circle = Path.Combine(_directory.Path, "circle");
        File.CreateSymbolicLink(circle, "circle");
        Assert.Contains("lead in a circle", Refused(circle), StringComparison.Ordinal);
        Assert.EndsWith("absent: does not exist", Refused(Path.Combine(_directory.Path, "absent")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("model-00001-of-00002.safetensors")]
    [InlineData("config.json")]
    [InlineData("tokenizer.json")]
    public void Pointers_of_Git_LFS_are_named_with_the_remedy(string name)
    {
        string path = _directory.Write(name, $"version https://git-lfs.github.com/spec/v1\noid sha256:{new string('0', 64)}\nsize 9004744\n");
        Action read = name switch
        {
            "config.json" => () => ModelConfig.Load(_directory.Path),
            "tokenizer.json" => () => ModelTokenizer.Load(_directory.Path),
            _ => () => SafeTensorsFile.Open(path),
        };
        Assert.Equal(
            $"{path}: is a Git LFS pointer of 132 bytes, not the file of 9004744 bytes it stands for; run 'git lfs pull' in the cloned folder",
            Assert.Throws<ModelFormatException>(read).Message);
    }

    [Fact]
    public void An_empty_file_is_named_so()
    {
        string message = Refused(_directory.Write("config.json", ""));
        Assert.Contains("is empty", message, StringComparison.Ordinal);
        Assert.DoesNotContain("again", message, StringComparison.Ordinal);
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
