using System.Buffers.Binary;
using System.Text;

namespace Octet.Tests.Inference.Loading;

/// <summary>A temporary directory to put the files of a made-up model in.</summary>
internal sealed class ModelDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("octet-tests-").FullName;

    public string Write(string name, byte[] content)
    {
        string path = System.IO.Path.Combine(Path, name);
        File.WriteAllBytes(path, content);
        return path;
    }

    public string Write(string name, string content) => Write(name, Encoding.UTF8.GetBytes(content));

    /// <summary>Writes a .safetensors file from its header text and data, right or wrong.</summary>
    public string WriteSafeTensors(string name, string header, int dataLength) => Write(name, SafeTensors(header, new byte[dataLength]));

    public static byte[] SafeTensors(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        return [.. length, .. json, .. data];
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
