using System.Runtime.InteropServices;
using Octet.Inference.Loading;
using Octet.Inference.Models;

namespace Octet.Tests.Inference.Loading;

/// <summary>The small checkpoint in memory, to be changed and written to a folder of its own.</summary>
internal sealed class CheckpointCopy : IDisposable
{
    public const int Layers = 4, Experts = 16, Hidden = 256, Intermediate = 128, KvHeads = 2;

    private readonly ModelDirectory _directory = new();

    public CheckpointCopy()
    {
        using var file = SafeTensorsFile.Open(Path.Combine(TinyModel.Directory, CheckpointFiles.SingleFileName));
        Tensors = file.Tensors.Values.ToDictionary(t => t.Name, t => new Entry(t.Type, t.Shape.ToArray(), t.Bytes.ToArray()));
        Config = File.ReadAllText(Path.Combine(TinyModel.Directory, ModelConfig.FileName));
    }

    public sealed record Entry(SafeTensorType Type, long[] Shape, byte[] Bytes);

    public Dictionary<string, Entry> Tensors { get; }

    public string Config { get; set; }

    public string Directory => _directory.Path;

    /// <summary>Writes one file of all tensors, with config.json and the tokenizer.</summary>
    public string Write()
    {
        WriteTensors(CheckpointFiles.SingleFileName, Tensors);
        WriteOthers();
        return Directory;
    }

    public void WriteTensors(string file, IReadOnlyDictionary<string, Entry> tensors)
    {
        using var writer = SafeTensorsWriter.Create(
            Path.Combine(Directory, file), [.. tensors.Select(t => new SafeTensorSpec(t.Key, t.Value.Type, t.Value.Shape))]);
        foreach (var tensor in tensors.Values)
        {
            writer.Write<byte>(tensor.Bytes);
        }

        writer.Commit();
    }

    public void WriteOthers()
    {
        _directory.Write(ModelConfig.FileName, Config);
        File.Copy(Path.Combine(TinyModel.Directory, ModelTokenizer.FileName), Path.Combine(Directory, ModelTokenizer.FileName), overwrite: true);
    }

    public void Add<T>(string name, SafeTensorType type, long[] shape, params T[] elements) where T : unmanaged =>
        Tensors[name] = new(type, shape, MemoryMarshal.AsBytes<T>(elements).ToArray());

    public void Rename(string name, string other)
    {
        Tensors[other] = Tensors[name];
        Tensors.Remove(name);
    }

    /// <summary>Overwrites one element.</summary>
    public void Set<T>(string name, long position, T element) where T : unmanaged =>
        MemoryMarshal.Cast<byte, T>(Tensors[name].Bytes.AsSpan())[(int)position] = element;

    public float[] Floats(string name) => MemoryMarshal.Cast<byte, float>(Tensors[name].Bytes).ToArray();

    /// <summary>Puts BF16 in the place of an FP8 projection (name without ".weight"): code * scale.</summary>
    public void Dequantize(string name)
    {
        var (entry, scales) = (Tensors[$"{name}.weight"], Floats($"{name}.weight_scale_inv"));
        var (k, columns) = (entry.Shape[1], (entry.Shape[1] + 127) / 128);
        Add(
            $"{name}.weight", SafeTensorType.BFloat16, entry.Shape,
            [.. entry.Bytes.Select((code, i) => (BFloat16)((float)Float8E4M3.FromCode(code) * scales[(i / k / 128 * columns) + (i % k / 128)]))]);
        Tensors.Remove($"{name}.weight_scale_inv");
    }

    /// <summary>Writes the checkpoint and gives the logits of a few tokens, from chunks and from steps of one token.</summary>
    public float[] Logits(string deviceName = "cpu", KvEncoding kv = KvEncoding.Float8)
    {
        Write();
        return LogitsOf(Directory, deviceName, kv);
    }

    /// <summary>The logits a checkpoint gives for a few tokens.</summary>
    public static float[] LogitsOf(string directory, string deviceName = "cpu", KvEncoding kv = KvEncoding.Float8)
    {
        using var device = Device.Open(deviceName);
        using var model = LanguageModel.Load(directory, device, new() { KvEncoding = kv, TokenBudget = 16, MaxSequences = 1, KvCacheTokens = 64, UseGraphs = false });
        int[] ids = [.. TinyModel.Ids("long").Take(7)];
        float[] logits = [.. TinyModel.Logits(model, ids), .. TinyModel.Logits(model, ids[..3], chunk: 1)];
        model.Dispose();
        Assert.Equal(0, device.LiveBytes);
        return logits;
    }

    /// <summary>The message with which the checkpoint is refused, by every encoding of weights.</summary>
    public string Refused()
    {
        Write();
        string[] messages = [.. ((string[])["cpu", "cpu:fnuz"]).Select(name =>
        {
            using var device = Device.Open(name);
            var message = Assert.Throws<ModelFormatException>(() => LanguageModel.Load(Directory, device)).Message;
            Assert.Equal(0, device.LiveBytes);
            return message;
        })];
        Assert.Equal(messages[0], messages[1]);
        Assert.DoesNotContain("another model", messages[0], StringComparison.Ordinal);
        Assert.DoesNotContain("again", messages[0], StringComparison.Ordinal);
        return messages[0];
    }

    public void Dispose() => _directory.Dispose();
}
