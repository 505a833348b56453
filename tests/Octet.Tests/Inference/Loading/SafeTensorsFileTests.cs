using System.Runtime.InteropServices;
using System.Text;
using Octet.Inference.Loading;
using Xunit;

namespace Octet.Tests.Inference.Loading;

public sealed class SafeTensorsFileTests : IDisposable
{
    private readonly ModelDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Small_checkpoint_opens_with_all_its_tensors()
    {
        using SafeTensorsFile file = SafeTensorsFile.Open(Path.Combine(TinyShakespeare.Directory, "model.safetensors"));
        SafeTensor weight = file["model.layers.0.self_attn.q_proj.weight"];
        Assert.Equal(SafeTensorType.Float8E4M3, weight.Type);
        Assert.Equal([512L, 256L], weight.Shape);
        Assert.Equal(512 * 256, weight.Bytes.Length);
        Assert.Equal(SafeTensorType.BFloat16, file["model.norm.weight"].Type);
        Assert.Equal(file.SizeInBytes, file.Tensors.Values.Sum(tensor => tensor.SizeInBytes) + HeaderSize(file.Path));
    }

    [Fact]
    public void Golden_ids_are_read_as_integers()
    {
        using SafeTensorsFile file = SafeTensorsFile.Open(TinyShakespeare.Golden("golden.safetensors"));
        Assert.Equal([846, 268], file["short.ids"].As<int>());
        Assert.Equal(40 * 192, file["perplexity.ids"].ElementCount);
    }

    [Fact]
    public void Well_formed_header_gives_names_types_shapes_and_metadata()
    {
        string header = """{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[],"data_offsets":[6,10]},"a":{"dtype":"BF16","shape":[3,1],"data_offsets":[0,6]},"none":{"dtype":"I64","shape":[4,0],"data_offsets":[6,6]}}   """;
        using SafeTensorsFile file = SafeTensorsFile.Open(_directory.WriteSafeTensors("f.safetensors", header, 10));
        Assert.Equal("pt", file.Metadata["format"]);
        Assert.Equal([3L, 1L], file["a"].Shape);
        Assert.Equal(1, file["b"].ElementCount);
        Assert.True(file["none"].Bytes.IsEmpty);
        Assert.Equal(6, file["b"].Address - file["a"].Address);
    }

    [Theory]
    [InlineData("", "zeros where its header should be")]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{} x", "not valid JSON")]
    [InlineData("{", "not valid JSON")]
    [InlineData("""{"a":1}""", "tensor 'a' is not described")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", "'a' is declared twice")]
    [InlineData("""{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}""", "'F33'")]
    [InlineData("""{"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}}""", "dtype is not a string")]
    [InlineData("""{"a":{"shape":[2],"data_offsets":[0,8]}}""", "lacks dtype")]
    [InlineData("""{"a":{"dtype":"F32","data_offsets":[0,8]}}""", "lacks shape")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2]}}""", "lacks data_offsets")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}""", "unexpected or repeated field 'shape'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}""", "unexpected or repeated field 'x'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""", "1 data_offsets")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}""", "more than 2 numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", "'-2'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}""", "'2.5'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}}""", "'99999999999999999999'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}}""", "shape contains")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}}""", "more than 16 numbers")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}""", "does not fit 64 bits")]
    [InlineData("""{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807,0],"data_offsets":[0,0]}}""", "does not fit 64 bits")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", "needs 12 bytes but has 8")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}""", "outside the 8 bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}""", "bytes 8 to 4")]
    [InlineData("""{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}""", "'b' begins at byte 4 and overlaps tensor 'a'")]
    [InlineData("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}""", "hole behind tensor 'a'")]
    [InlineData("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}}""", "hole behind the start")]
    [InlineData("""{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}""", "cover 3 of 8 bytes")]
    [InlineData("""{"__metadata__":{"a":1}}""", "'a' is not a string")]
    [InlineData("""{"__metadata__":[]}""", "__metadata__ is not")]
    [InlineData("""{"\ud800":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}""", "not valid JSON")]
    public void Bad_header_is_refused_with_file_and_values(string header, string expected)
    {
        string path = _directory.WriteSafeTensors("bad.safetensors", header, 8);
        AssertRefused(path, expected);
    }

    [Fact]
    public void Deeply_nested_header_is_refused()
    {
        AssertRefused(_directory.WriteSafeTensors("deep.safetensors", "{\"a\":" + new string('[', 100_000), 0), "not described");
        AssertRefused(_directory.WriteSafeTensors("deep.safetensors", "{\"a\":{\"shape\":" + new string('{', 100_000), 0), "not an array");
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(5UL)]
    [InlineData(100_000_000UL)]
    [InlineData(100_000_001UL)]
    [InlineData(0x7FFF_FFFF_FFFF_FFFFUL)]
    [InlineData(0xFFFF_FFFF_FFFF_FFFFUL)]
    public void Impossible_header_length_is_refused(ulong length)
    {
        byte[] content = [.. BitConverter.GetBytes(length), .. Encoding.UTF8.GetBytes("{}")];
        AssertRefused(_directory.Write("length.safetensors", content), "header");
    }

    [Theory]
    [InlineData("<!DOCTYPE html><html>Sign in</html>", "it holds a web page")]
    [InlineData("GGUF\u0003\0\0\0 and much more behind", "it holds a GGUF file")]
    [InlineData("PK\u0003\u0004 and much more behind", "it holds a zip archive, as PyTorch writes")]
    [InlineData("Entry not found, whatever it was", "it holds text that begins 'Entry not found, whateve'")]
    public void A_file_of_another_kind_is_named_as_what_it_is(string content, string expected)
    {
        string path = _directory.Write("model.safetensors", content);
        AssertRefused(path, expected);
        Assert.DoesNotContain("again", Assert.Throws<ModelFormatException>(() => SafeTensorsFile.Open(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Only_a_truncated_file_is_to_be_fetched_again()
    {
        const string Header = """{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}""";
        AssertRefused(_directory.WriteSafeTensors("cut.safetensors", Header, 12), "the 12 bytes of data, of which the header describes 16; the file is truncated, fetch it again");
        string longer = _directory.WriteSafeTensors("longer.safetensors", Header, 20);
        AssertRefused(longer, "cover 16 of 20 bytes of data");
        Assert.DoesNotContain("again", Assert.Throws<ModelFormatException>(() => SafeTensorsFile.Open(longer)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void File_truncated_anywhere_is_refused()
    {
        byte[] whole = File.ReadAllBytes(Path.Combine(TinyShakespeare.Directory, "model.safetensors"));
        var random = new Random(50);
        int[] lengths = [0, 1, 7, 8, 9, whole.Length - 1, .. Enumerable.Range(0, 50).Select(_ => random.Next(whole.Length))];
        foreach (int length in lengths)
        {
            AssertRefused(_directory.Write("truncated.safetensors", whole[..length]), "truncated.safetensors");
        }
    }

    [Fact]
    public void Header_that_is_not_utf8_is_refused()
    {
        byte[] content = [.. BitConverter.GetBytes(3UL), (byte)'{', 0xFF, (byte)'}'];
        AssertRefused(_directory.Write("bytes.safetensors", content), "not UTF-8");
    }

    [Fact]
    public void Missing_file_directory_and_device_are_refused()
    {
        AssertRefused(Path.Combine(_directory.Path, "absent.safetensors"), "absent.safetensors");
        AssertRefused(_directory.Path, _directory.Path);
        if (File.Exists("/dev/zero"))
        {
            AssertRefused("/dev/zero", "not a regular file");
        }
    }

    [Fact]
    public void Missing_tensor_is_refused_by_name()
    {
        using SafeTensorsFile file = SafeTensorsFile.Open(_directory.WriteSafeTensors("empty.safetensors", "{}", 0));
        Assert.Contains("'x'", Assert.Throws<ModelFormatException>(() => file["x"]).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Access_after_dispose_throws_and_second_dispose_is_harmless()
    {
        SafeTensorsFile file = SafeTensorsFile.Open(_directory.WriteSafeTensors("d.safetensors", """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1));
        SafeTensor tensor = file["a"];
        file.Dispose();
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => tensor.Bytes.Length);
        Assert.Throws<ObjectDisposedException>(() => tensor.Address);
        Assert.Throws<ObjectDisposedException>(() => tensor.Slice(0, 0).Length);
    }

    [Fact]
    public void Slices_outside_the_tensor_and_wrong_element_sizes_are_refused()
    {
        using SafeTensorsFile file = SafeTensorsFile.Open(_directory.WriteSafeTensors("s.safetensors", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8));
        SafeTensor tensor = file["a"];
        Assert.Equal(4, tensor.Slice(4, 4).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(5, 4).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(-1, 4).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(long.MaxValue, int.MaxValue).Length);
        Assert.Throws<InvalidOperationException>(() => tensor.As<double>().Length);
    }

    [Fact]
    public void File_over_two_gibibytes_is_read_at_its_end()
    {
        // A sparse file: it takes no space on the disk.
        const long Size = (5L << 30) + 4;
        string path = _directory.WriteSafeTensors("large.safetensors", $$$"""{"a":{"dtype":"U8","shape":[{{{Size}}}],"data_offsets":[0,{{{Size}}}]}}""", 0);
        using (FileStream stream = File.OpenWrite(path))
        {
            long header = stream.Length;
            stream.SetLength(header + Size);
            stream.Position = header + Size - 4;
            stream.Write([1, 2, 3, 4]);
        }
        using SafeTensorsFile file = SafeTensorsFile.Open(path);
        SafeTensor tensor = file["a"];
        Assert.Equal(Size, tensor.SizeInBytes);
        Assert.Equal((byte[])[1, 2, 3, 4], tensor.Slice(Size - 4, 4).ToArray());
        Assert.Throws<InvalidOperationException>(() => tensor.Bytes.Length);
    }

    [Fact]
    public void Message_is_one_bounded_line_whatever_the_name()
    {
        string name = new string('n', 10_000);
        string path = _directory.WriteSafeTensors("name.safetensors", $$$"""{"\r\n\u2028{{{name}}}":1}""", 0);
        string message = Assert.Throws<ModelFormatException>(() => SafeTensorsFile.Open(path)).Message;
        Assert.InRange(message.Length, 1, 1100);
        Assert.DoesNotContain(message, c => char.IsControl(c) || c == '\u2028');
    }

    private static void AssertRefused(string path, string expected)
    {
        string message = Assert.Throws<ModelFormatException>(() => SafeTensorsFile.Open(path)).Message;
        Assert.Contains(Path.GetFileName(path), message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    private static long HeaderSize(string path)
    {
        using FileStream stream = File.OpenRead(path);
        Span<byte> length = stackalloc byte[8];
        stream.ReadExactly(length);
        return 8 + MemoryMarshal.Read<long>(length);
    }
}
