namespace Octet.Inference.Loading;

/// <summary>
/// The weights in a model directory: <c>model.safetensors</c>; or the shards that <c>model.safetensors.index.json</c> (or the only other
/// <c>*.safetensors.index.json</c>) lists; or, without an index, numbered shards if they are complete, else all .safetensors files.
/// </summary>
public sealed class CheckpointFiles : IDisposable
{
    /// <summary>The name of a checkpoint in one file.</summary>
    public const string SingleFileName = "model.safetensors";

    /// <summary>The name of the index of a checkpoint in several files.</summary>
    public const string IndexFileName = "model.safetensors.index.json";

    private readonly IFileSource _files;
    private readonly List<SafeTensorsFile> _shards = [];
    private readonly Dictionary<string, SafeTensor> _tensors = [];
    private bool _disposed;

    private CheckpointFiles(string directory, IFileSource files)
    {
        Directory = directory;
        _files = files;
    }

    /// <summary>The directory the checkpoint was opened from.</summary>
    public string Directory { get; }

    /// <summary>The open files.</summary>
    public IReadOnlyList<SafeTensorsFile> Shards => _shards;

    /// <summary>The names of all tensors.</summary>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>The sum of the sizes of all tensors in bytes.</summary>
    public long SizeInBytes => _tensors.Values.Sum(tensor => tensor.SizeInBytes);

    /// <summary>Whether weights may be used where they lie in the mapped files: no file is on a network file system.</summary>
    internal bool MayBeMapped => _shards.TrueForAll(shard => !shard.Content.IsRemote);

    /// <summary>Whether a file is mapped.</summary>
    internal bool IsMapped => _shards.Exists(shard => shard.IsMapped);

    /// <summary>Bytes read from the files so far, their headers among them.</summary>
    internal long BytesRead => _shards.Sum(shard => shard.Content.BytesRead);

    /// <summary>The tensor called <paramref name="name"/>, in whichever file it lies.</summary>
    /// <exception cref="ModelFormatException">The checkpoint has no such tensor; the message has the names nearest to it.</exception>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public SafeTensor this[string name] => Find(name)
        ?? throw new ModelFormatException($"{Directory}: tensor '{name}' is missing; of the {_tensors.Count} tensors there {Nearest(name)}");

    /// <summary>The tensor called <paramref name="name"/>, or null.</summary>
    /// <exception cref="ObjectDisposedException">The checkpoint was disposed.</exception>
    public SafeTensor? Find(string name)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return _tensors.GetValueOrDefault(name);
    }

    /// <summary>Opens and validates every file of the checkpoint in <paramref name="directory"/>.</summary>
    /// <exception cref="ModelFormatException">The directory or a file is missing or not well-formed, or the index names a tensor its shard does not have.</exception>
    public static CheckpointFiles Open(string directory) => Open(directory, DiskFiles.Instance);

    /// <summary>As <see cref="Open(string)"/>, from other files than the disk's.</summary>
    internal static CheckpointFiles Open(string directory, IFileSource files)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        if (!System.IO.Directory.Exists(directory))
        {
            throw new ModelFormatException($"{directory}: is not a directory; give the folder that holds config.json and the weights");
        }
        var checkpoint = new CheckpointFiles(directory, files);
        try
        {
            checkpoint.OpenAll();
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

    private void OpenAll()
    {
        if (Path.Exists(Path.Combine(Directory, SingleFileName)))
        {
            OpenShards([SingleFileName]);
            return;
        }
        string[] names = FileNames();
        string[] indices = [.. names.Where(name => name.EndsWith(".safetensors.index.json", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        if (indices.Contains(IndexFileName))
        {
            indices = [IndexFileName];
        }
        if (indices.Length > 1)
        {
            throw new ModelFormatException($"{Directory}: has {indices.Length} indexes ({ShardNames.Listed(indices)}) and none called {IndexFileName}; give the one of the model that name");
        }
        if (indices.Length == 0)
        {
            OpenShards(ShardNames.WithoutIndex(Directory, names));
            return;
        }
        OpenIndexed(indices[0], names);
    }

    // Links count as files whether or not what they lead to exists. Downloads of huggingface_hub lie in a folder of their own until they end.
    private string[] FileNames()
    {
        try
        {
            string downloads = Path.Combine(Directory, ".cache", "huggingface", "download");
            return
            [
                .. System.IO.Directory.EnumerateFiles(Directory).Select(path => Path.GetFileName(path)!),
                .. System.IO.Directory.Exists(downloads)
                    ? System.IO.Directory.EnumerateFiles(downloads, "*.incomplete").Select(path => Path.GetRelativePath(Directory, path))
                    : [],
            ];
        }
        catch (Exception cause) when (cause is IOException or UnauthorizedAccessException)
        {
            throw ModelFormatException.Unreadable(Directory, cause);
        }
    }

    // All tensors of all files; each lies in one.
    private void OpenShards(IEnumerable<string> fileNames)
    {
        foreach (string fileName in fileNames)
        {
            foreach (SafeTensor tensor in OpenShard(fileName).Tensors.Values)
            {
                if (!_tensors.TryAdd(tensor.Name, tensor))
                {
                    throw new ModelFormatException($"{tensor.File}: tensor '{tensor.Name}' lies in {_tensors[tensor.Name].File} too, and no {IndexFileName} says which is the model's; remove the files that are not");
                }
            }
        }
    }

    private void OpenIndexed(string index, string[] names)
    {
        var places = new Dictionary<string, string>();
        foreach (var (name, value) in ModelJson.Read(Path.Combine(Directory, index)).Object("weight_map").Members())
        {
            string fileName = value.AsText();
            // A plain name cannot lead out of the directory. (It may be a link: download caches store their files so.)
            if (!fileName.EndsWith(".safetensors", StringComparison.Ordinal) || fileName.AsSpan().ContainsAny('/', '\\', '\0'))
            {
                throw value.Bad($"is '{fileName}', expected the plain name of a .safetensors file in the same directory");
            }
            places.Add(name, fileName);
        }
        string[] listed = [.. places.Values.Distinct().Order(StringComparer.Ordinal)];
        string[] missing = [.. listed.Except(names)];
        if (missing.Length > 0)
        {
            throw ShardNames.Missing(Directory, index, listed.Length, missing, names);
        }
        Dictionary<string, SafeTensorsFile> shards = listed.ToDictionary(fileName => fileName, OpenShard);
        foreach (var (name, fileName) in places)
        {
            _tensors.Add(name, shards[fileName].Tensors.GetValueOrDefault(name)
                ?? throw new ModelFormatException($"{shards[fileName].Path}: lacks tensor '{name}', which {index} says it has; the two are not of one checkpoint"));
        }
        // What the index leaves out is in the checkpoint all the same: whoever reads it can tell what it does not use.
        foreach (SafeTensor tensor in shards.Values.SelectMany(shard => shard.Tensors.Values))
        {
            _tensors.TryAdd(tensor.Name, tensor);
        }
    }

    private SafeTensorsFile OpenShard(string fileName)
    {
        SafeTensorsFile shard = SafeTensorsFile.Open(Path.Combine(Directory, fileName), _files);
        _shards.Add(shard);
        return shard;
    }

    // "'a', 'b' are nearest": what ends with the wanted name, else what shares the most of its parts.
    private string Nearest(string name)
    {
        string[] longer = [.. _tensors.Keys.Where(other => other.EndsWith($".{name}", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        if (longer.Length > 0)
        {
            return $"'{longer[0]}' ends with that name";
        }
        for (int end = name.LastIndexOf('.'); end > 0; end = name.LastIndexOf('.', end - 1))
        {
            string prefix = name[..(end + 1)];
            string[] near = [.. _tensors.Keys.Where(other => other.StartsWith(prefix, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
            if (near.Length > 0)
            {
                return $"{near.Length} begin with '{prefix}': {ShardNames.Listed(near)}";
            }
        }
        return _tensors.Count == 0 ? "none is near" : $"none begins with '{name.Split('.')[0]}.'; the first are {ShardNames.Listed([.. _tensors.Keys.Order(StringComparer.Ordinal)])}";
    }
}
