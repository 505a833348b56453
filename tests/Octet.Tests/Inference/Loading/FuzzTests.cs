using System.Text;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Xunit;

namespace Octet.Tests.Inference.Loading;

/// <summary>Seeded mutations of small valid files: each is either read, and then wholly readable, or refused by a <see cref="ModelFormatException"/>.</summary>
public sealed class FuzzTests : IDisposable
{
    private readonly ModelDirectory _directory = new();

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void Mutated_safetensors_file_is_read_or_refused()
    {
        byte[] valid = ModelDirectory.SafeTensors(
            """{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F8_E4M3","shape":[2,8],"data_offsets":[0,16]},"a.scale":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[20,26]}}""",
            [.. Enumerable.Range(0, 26).Select(i => (byte)i)]);
        var random = new Random(1);
        int read = 0;
        for (int i = 0; i < 4000; i++)
        {
            byte[] mutant = i == 0 ? valid : MutateSafeTensors(valid, random);
            string path = _directory.Write("f.safetensors", mutant);
            try
            {
                using SafeTensorsFile file = SafeTensorsFile.Open(path);
                long data = file.Tensors.Values.Sum(tensor => tensor.SizeInBytes);
                Assert.Equal(mutant.Length - 8 - BitConverter.ToInt64(mutant), data);
                foreach (SafeTensor tensor in file.Tensors.Values)
                {
                    // The mapped bytes are those of the file, first to last.
                    long offset = tensor.Address - file.Tensors.Values.Min(other => other.Address);
                    Assert.Equal(mutant.AsSpan((int)(mutant.Length - data + offset), (int)tensor.SizeInBytes), tensor.Bytes);
                }
                read++;
            }
            catch (ModelFormatException refusal)
            {
                Assert.StartsWith(path, refusal.Message, StringComparison.Ordinal);
                Assert.DoesNotContain('\n', refusal.Message);
            }
        }
        // Some mutations touch only data, names or white space; most must be noticed.
        Assert.InRange(read, 100, 3000);
    }

    [Fact]
    public void Mutated_config_is_read_or_refused() =>
        MutateText("config.json", File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "config.json")), 600, directory => ModelConfig.Load(directory));

    [Fact]
    public void Mutated_config_with_scaling_and_groups_is_read_or_refused() =>
        MutateText(
            "config.json",
            """
            {"architectures":["Qwen3MoeForCausalLM"],"hidden_size":256,"num_hidden_layers":4,"vocab_size":1024,"num_attention_heads":4,"head_dim":64,
            "num_local_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":128,"max_position_embeddings":64,
            "rope_parameters":{"rope_type":"yarn","rope_theta":1e6,"factor":4.0,"original_max_position_embeddings":16,"mscale":0.7,"mscale_all_dim":1,"beta_fast":32},
            "quantization_config":{"quant_method":"compressed-tensors","ignore":["lm_head"],"config_groups":{"group_0":{"targets":["Linear"],
            "weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":[128,128]},"input_activations":{"num_bits":8,"type":"float","strategy":"group","dynamic":true}}}},
            "dual_chunk_attention_config":{"chunk_size":64,"original_max_position_embeddings":64},"attention_multiplier":0.125}
            """,
            2000,
            directory =>
            {
                ModelConfig config = ModelConfig.Load(directory);
                Assert.All(RotaryEmbedding.Frequencies(config.HeadDim, config.RopeTheta, config.RopeScaling), frequency => Assert.InRange(frequency, 0f, 1e6f));
            });

    [Fact]
    public void Mutated_generation_config_is_read_or_refused() =>
        MutateText("generation_config.json", File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "generation_config.json")), 300, directory => GenerationConfig.Load(directory));

    [Fact]
    public void Mutated_index_is_read_or_refused()
    {
        _directory.WriteSafeTensors("one.safetensors", """{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1);
        MutateText("model.safetensors.index.json", """{"metadata":{"total_size":1},"weight_map":{"a":"one.safetensors"}}""", 600, directory =>
        {
            using CheckpointFiles files = CheckpointFiles.Open(directory);
            Assert.All(files.Names, name => Assert.Equal(files[name].SizeInBytes, files[name].Bytes.Length));
        });
    }

    [Fact]
    public void Mutated_tokenizer_is_read_or_refused() =>
        MutateText("tokenizer.json", File.ReadAllText(Path.Combine(TinyShakespeare.Directory, "tokenizer.json")), 300, directory =>
        {
            ModelTokenizer tokenizer = ModelTokenizer.Load(directory);
            _ = tokenizer.Decode(tokenizer.Encode("<|im_start|>Now, e\u0301 🙂 123\r\n  x"));
        });

    [Fact]
    public void Mutated_chat_template_is_read_or_refused() =>
        MutateText(
            "chat_template.jinja",
            "{%- set ns = namespace(a=1) %}{% for m in messages[::-1] if m.role %}{{- '<' + m.role ~ loop.index0 }}{% if loop.first and m.content is string %}{{ m.content.split('a')[0]|trim }}{% elif ns.a > 2 %}x{% else %}{{ [1, ns.a]|tojson }}{% endif %}{% endfor %}",
            2000,
            directory => ChatTemplate.Load(directory).Render([new("user", "banana"), new("assistant", "b")]));

    [Fact]
    public void Mutated_chat_template_with_macros_and_filters_is_read_or_refused() =>
        MutateText(
            "chat_template.jinja",
            "{% macro f(a, b='x') %}{{ a|upper ~ b * 2 }}{{ caller() if caller is defined }}{% endmacro %}{% for m in messages|sort(attribute='role') recursive %}{% call f(m.role, b=loop.cycle('p', 'q')) %}{{ '%5.1f|%s'|format(2.5, [1, (2,)]) }}{{ '{:>4}'.format(m.content[1:-1:2]) }}{% endcall %}{% if loop.depth < 2 %}{{ loop([m]) }}{% else %}{% break %}{% endif %}{% endfor %}{% set x | trim %} {{ {'a': 1.5, 2: none}|tojson(indent=1) }}{% endset %}{{ x.split(',', 1)|map('length')|list|sum ** 2 // 3 }}{% raw %}{{{% endraw %}{% with a, b = (1, 'y') %}{{ a < 2 <= 3 and b is in 'xyz' }}{% endwith %}",
            3000,
            directory => ChatTemplate.Load(directory).Render([new("user", "banana"), new("assistant", "b")]));

    private static byte[] MutateSafeTensors(byte[] valid, Random random)
    {
        var bytes = valid.ToList();
        for (int change = random.Next(1, 4); change > 0; change--)
        {
            int at = random.Next(bytes.Count);
            switch (random.Next(7))
            {
                case 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                case 2:
                    bytes[random.Next(Math.Min(8, bytes.Count))] = (byte)random.Next(256);
                    break;
                case 3:
                    bytes.InsertRange(at, Encoding.UTF8.GetBytes(Words[random.Next(Words.Length)]));
                    break;
                case 4:
                    bytes.AddRange(new byte[random.Next(1, 9)]);
                    break;
                case 5:
                    ReplaceDigit(bytes, random);
                    break;
                default:
                    bytes.RemoveAt(at);
                    break;
            }
            if (bytes.Count == 0)
            {
                break;
            }
        }
        // Often the length is mended, so that the mutation reaches the parser instead of being stopped by it.
        int end = bytes.LastIndexOf((byte)'}');
        if (end > 8 && random.Next(3) > 0)
        {
            byte[] length = BitConverter.GetBytes((long)(end + 1 - 8));
            for (int i = 0; i < 8; i++)
            {
                bytes[i] = length[i];
            }
        }
        return [.. bytes];
    }

    private static void ReplaceDigit(List<byte> bytes, Random random)
    {
        int[] digits = [.. Enumerable.Range(0, bytes.Count).Where(i => char.IsAsciiDigit((char)bytes[i]))];
        if (digits.Length > 0)
        {
            bytes[digits[random.Next(digits.Length)]] = (byte)('0' + random.Next(10));
        }
    }

    private void MutateText(string name, string valid, int count, Action<string> read)
    {
        _directory.Write(name, valid);
        read(_directory.Path);
        var random = new Random(2);
        int refused = 0;
        for (int i = 0; i < count; i++)
        {
            var bytes = Encoding.UTF8.GetBytes(valid).ToList();
            for (int change = random.Next(1, 4); change > 0 && bytes.Count > 0; change--)
            {
                int at = random.Next(bytes.Count);
                int length = Math.Min(random.Next(1, 12), bytes.Count - at);
                switch (random.Next(6))
                {
                    case 0:
                        bytes[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        bytes.RemoveRange(at, length);
                        break;
                    case 2:
                        bytes.InsertRange(at, Encoding.UTF8.GetBytes(Words[random.Next(Words.Length)]));
                        break;
                    case 3:
                        bytes.InsertRange(random.Next(bytes.Count), bytes.GetRange(at, length));
                        break;
                    case 4:
                        ReplaceDigit(bytes, random);
                        break;
                    default:
                        bytes.RemoveRange(at, random.Next(20) == 0 ? bytes.Count - at : 0);
                        break;
                }
            }
            _directory.Write(name, [.. bytes]);
            try
            {
                read(_directory.Path);
            }
            catch (ModelFormatException refusal)
            {
                refused++;
                Assert.DoesNotContain('\n', refusal.Message);
            }
        }
        Assert.InRange(refused, count / 10, count);
    }

    private static readonly string[] Words =
        ["{", "}", "[", "]", "\"", ":", ",", "null", "-1", "0", "1e999", "99999999999999999999", "9223372036854775807", "\\ud800", "\\u0000", "true", "{}", "[[[[", "{%", "%}", "{{", "}}", " if ", " is ", "(", ")", "|", "\u00e9", "..", "/"];
}
