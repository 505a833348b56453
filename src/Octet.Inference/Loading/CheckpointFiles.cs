namespace Octet.Inference.Loading;

/// <summary>The weights in a model directory: <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> lists.</summary>
public sealed class CheckpointFiles : IDisposable
{
    /// <summary>The name of a checkpoint in one file.</summary>
    public const string SingleFileName = "model.safetensors";

    /// <summary>The name of the index of a checkpoint in several files.</summary>
    public const string IndexFileName = "model.safetensors.index.json";

    private readonly List<SafeTensorsFile> _shards = [];
    private readonly Dictionary<string, SafeTensor> _tensors = [];
    private bool _disposed;

    private CheckpointFiles(string directory)
    {
        Directory = directory;
    }

    /// <summary>The directory the checkpoint was opened from.</summary>
    public string Directory { get; }

    /// <summary>The open files.</summary>
    public IReadOnlyList<SafeTensorsFile> Shards => _shards;

    /// <summary>The names of all tensors.</summary>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>The sum of the sizes of all tensors in bytes.</summary>
    public long SizeInBytes => _tensors.Values.Sum(tensor => tensor.SizeInBytes);

    /// <summary>The tensor called <paramref name="name"/>, in whichever file it lies.</summary>
    /// <exception cref="ModelFormatException">The checkpoint has no such tensor.</exception>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public SafeTensor this[string name] => Find(name)
        ?? throw new ModelFormatException($"{Directory}: tensor '{name}' is missing from the {_tensors.Count} of the checkpoint; it is incomplete or config.json belongs to another model");

    /// <summary>The tensor called <paramref name="name"/>, or null.</summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public SafeTensor? Find(string name)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return _tensors.GetValueOrDefault(name);
    }

    /// <summary>Opens and validates every file of the checkpoint in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The directory or a file is missing or not well-formed, or the index names a tensor its shard does not have.</exception>
    public static CheckpointFiles Open(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (!System.IO.Directory.Exists(directory))
        {
            throw new ModelFormatException($"{directory}: is not a directory; give the folder that holds config.json and the weights");
        }
        var checkpoint = new CheckpointFiles(directory);
        try
        {
            string single = Path.Combine(directory, SingleFileName);
            string index = Path.Combine(directory, IndexFileName);
            if (Path.Exists(single))
            {
                foreach (SafeTensor tensor in checkpoint.OpenShard(single).Tensors.Values)
                {
                    checkpoint._tensors.Add(tensor.Name, tensor);
                }
            }
            else if (Path.Exists(index))
            {
                checkpoint.OpenShards(ModelJson.Read(index).Object("weight_map"));
            }
            else
            {
                throw new ModelFormatException($"{directory}: has neither {SingleFileName} nor {IndexFileName}; fetch the checkpoint in safetensors form");
            }
            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Closes all files: every span and address taken from their tensors becomes invalid.</summary>
    public void Dispose()
    {
        _disposed = true;
        foreach (SafeTensorsFile shard in _shards)
        {
            shard.Dispose();
        }
    }

    private SafeTensorsFile OpenShard(string path)
    {
        SafeTensorsFile shard = SafeTensorsFile.Open(path);
        _shards.Add(shard);
        return shard;
    }

    private void OpenShards(ModelJson weightMap)
    {
        var opened = new Dictionary<string, SafeTensorsFile>();
        foreach (var (name, value) in weightMap.Members())
        {
            string fileName = value.AsText();
            // A plain name cannot lead out of the directory. (It may be a link: download caches store their files so.)
            if (!fileName.EndsWith(".safetensors", StringComparison.Ordinal) || fileName.AsSpan().ContainsAny('/', '\\', '\0'))
            {
                throw value.Bad($"is '{fileName}', expected the plain name of a .safetensors file in the same directory");
            }
            if (!opened.TryGetValue(fileName, out SafeTensorsFile? shard))
            {
                shard = OpenShard(Path.Combine(Directory, fileName));
                opened.Add(fileName, shard);
            }
            if (!shard.Tensors.TryGetValue(name, out SafeTensor? tensor))
            {
                throw new ModelFormatException($"{shard.Path}: lacks tensor '{name}', which {IndexFileName} says it has; fetch both again");
            }
            _tensors.Add(name, tensor);
        }
    }
}
