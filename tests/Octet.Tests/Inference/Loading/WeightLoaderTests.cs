using Octet.Backends;
using Octet.Inference.Loading;
using Octet.Inference.Models;
using Octet.Inference.Models.Layers;
using Octet.Tests.Inference.Models;

namespace Octet.Tests.Inference.Loading;

public sealed class WeightLoaderTests
{
    [Theory]
    [InlineData("cpu", true)]
    [InlineData("cpu:fnuz", false)] // other codes than the file's
    public void Weights_stay_in_the_mapped_file_where_the_device_computes_in_its_encoding(string name, bool mapped)
    {
        using var device = Device.Open(name);
        using var files = CheckpointFiles.Open(TinyShakespeare.Directory);
        var codes = files.Names.Where(n => files[n].Type == SafeTensorType.Float8E4M3).Sum(n => files[n].SizeInBytes);
        using (ModelRegistry.Load(files, ModelConfig.Load(TinyShakespeare.Directory), device, null, TestContext.Current.CancellationToken))
        {
            // What is left are scales, and where experts lie.
            Assert.InRange(device.LiveBytes, mapped ? 1 : codes, mapped ? codes / 100 : 2 * files.SizeInBytes);
        }

        Assert.Equal(0, device.LiveBytes);
    }

    [Theory]
    [InlineData(SafeTensorType.Float8E4M3)]
    [InlineData(SafeTensorType.BFloat16)]
    public void Loading_allocates_for_each_weight_and_not_for_each_matrix(SafeTensorType type)
    {
        long Allocations(int experts)
        {
            using var directory = new ModelDirectory();
            new RandomCheckpoint(new() { Architecture = "MixtralForCausalLM", Type = type, Experts = experts, Width = 72, Hidden = 136 }).Write(directory.Path);
            using var device = Device.Open("cpu:fnuz");
            using var files = CheckpointFiles.Open(directory.Path);
            using (ModelRegistry.Load(files, ModelConfig.Load(directory.Path), device, null, TestContext.Current.CancellationToken))
            {
            }

            Assert.Equal(0, device.LiveBytes);
            return ((CpuBackend)device.Backend).Allocations;
        }

        var few = Allocations(4);
        Assert.InRange(few, 1, 60);
        Assert.Equal(few, Allocations(32));
    }

    [Theory]
    [InlineData("cpu", SafeTensorType.Float8E4M3)]
    [InlineData("cpu", SafeTensorType.BFloat16)]
    [InlineData("cpu:fnuz", SafeTensorType.Float8E4M3)]
    [InlineData("cpu:fnuz", SafeTensorType.BFloat16)]
    [InlineData("sim:gfx942", SafeTensorType.Float8E4M3)]
    [InlineData("sim:gfx950", SafeTensorType.Float32)]
    public void Ranges_of_rows_and_columns_have_the_values_they_have_in_the_whole(string name, SafeTensorType type)
    {
        const int N = 300, K = 392;
        using var directory = new ModelDirectory();
        WriteMatrix(Path.Combine(directory.Path, "model.safetensors"), type, N, K);
        using var device = Device.Open(name);
        using var files = CheckpointFiles.Open(directory.Path);
        using var owned = new TensorSet(device);
        var source = new CheckpointTensors(files).TakeProjection("w", N, K);
        Weight[] Load(Func<WeightLoader, Weight[]> ask)
        {
            var loader = new WeightLoader(device, owned, new());
            var weights = ask(loader);
            loader.Complete();
            return weights;
        }

        double[] ValuesOf(MatrixSource part) => Values(Load(loader => [loader.LoadProjection(part)])[0]);
        var whole = ValuesOf(source);
        foreach (var (row, rows, column, columns) in ((int, int, int, int)[])[
            (0, 300, 0, 392), (128, 128, 0, 392), (40, 200, 0, 392), (0, 300, 128, 256), (0, 300, 196, 196), (299, 1, 391, 1), (7, 250, 100, 93)])
        {
            var part = source.Rows(row, rows).Columns(column, columns);
            double[] expected = [.. Enumerable.Range(row, rows).SelectMany(i => whole[((i * K) + column)..((i * K) + column + columns)])];
            var weights = Load(loader => [loader.LoadProjection(part), loader.LoadExperts([part, part])]);
            Assert.Equal(expected, Values(weights[0]));
            Assert.Equal(expected.Concat(expected), Values(weights[1]));
        }

        // The parts of four ranks, either way.
        foreach (var kind in (ShardKind[])[ShardKind.Column, ShardKind.Row])
        {
            var parts = Enumerable.Range(0, 4).Select(rank => ValuesOf(new ShardSpec(kind, rank, 4).Of(source))).ToArray();
            var joined = kind == ShardKind.Column
                ? parts.SelectMany(part => part)
                : Enumerable.Range(0, N).SelectMany(i => parts.SelectMany(part => part[(i * K / 4)..((i + 1) * K / 4)]));
            Assert.Equal(whole, joined);
        }

        Assert.Throws<ArgumentException>(() => new ShardSpec(ShardKind.Row, 0, 5, 128).Of(source));
        Assert.Throws<ArgumentOutOfRangeException>(() => source.Rows(200, 101));
        owned.Dispose();
        Assert.Equal(0, device.LiveBytes);
    }

    [Fact]
    public void Addresses_of_experts_are_taken_where_the_device_reads_host_memory_and_refused_elsewhere()
    {
        using var cpu = Device.Open("cpu");
        using var sim = Device.Open("sim:gfx950");
        Assert.True(cpu.Properties.SharesHostMemory);
        var error = Assert.Throws<ArgumentException>(() => Product(sim, shift: 0));
        Assert.Contains("sim:gfx950 takes experts as one stack", error.Message);
        Assert.Equal(Product(cpu, shift: 0), Product(cpu, shift: 3));
    }

    private static void WriteMatrix(string path, SafeTensorType type, int n, int k)
    {
        var random = new Random(3);
        List<SafeTensorSpec> specs = [new("w.weight", type, n, k)];
        var (rows, columns) = ((n + 127) / 128, (k + 127) / 128);
        if (type == SafeTensorType.Float8E4M3)
        {
            specs.Add(new("w.weight_scale_inv", SafeTensorType.Float32, rows, columns));
        }

        using var writer = SafeTensorsWriter.Create(path, specs);
        float[] elements = [.. Enumerable.Range(0, n * k).Select(_ => (float)((random.NextDouble() * 2) - 1))];
        switch (type)
        {
            case SafeTensorType.Float8E4M3:
                writer.Write<byte>(Array.ConvertAll(elements, x => ((Float8E4M3)(x * 400)).Code));
                writer.Write<float>([.. Enumerable.Range(1, rows * columns).Select(i => i / 4096f)]);
                break;
            case SafeTensorType.BFloat16:
                writer.Write<BFloat16>(Array.ConvertAll(elements, x => (BFloat16)x));
                break;
            default:
                writer.Write<float>(elements);
                break;
        }

        writer.Commit();
    }

    // Codes times scales.
    private static double[] Values(Weight weight)
    {
        var (n, k) = ((int)weight.N, (int)weight.K);
        var scales = weight.Scales.ToArray<float>();
        var (scaleRows, scaleColumns) = (weight.Scales.Shape[^2], weight.Scales.Shape[^1]);
        TensorView[] matrices = weight.ExpertAddresses.IsNull
            ? [weight.Values]
            : [.. weight.ExpertAddresses.ToArray<long>().Select(address => TensorView.Borrow(weight.Values.Device, (nint)address, DType.Float8E4M3, n, k))];
        float[] codes =
        [
            .. matrices.SelectMany(matrix => matrix.DType == DType.Float8E4M3
                ? Array.ConvertAll(matrix.ToArray<Float8E4M3>(), x => (float)x)
                : Array.ConvertAll(matrix.ToArray<Float8E4M3Fnuz>(), x => (float)x)),
        ];
        return
        [
            .. codes.Select((code, i) =>
            {
                var (expert, row, column) = (i / (n * k), i / k % n, i % k);
                return (double)code * scales[
                    (((expert * scaleRows) + ((row + weight.ScaleRowOffset) / 128)) * scaleColumns) + ((column + weight.ScaleColumnOffset) / 128)];
            }),
        ];
    }

    // Row and weight of ones, the weight `shift` bytes past an aligned address.
    private static float[] Product(Device device, int shift)
    {
        const int N = 3, K = 200;
        using var a = Tensor.From<Float8E4M3>(device, Enumerable.Repeat((Float8E4M3)1f, K + 8).ToArray(), 1, K + 8);
        using var aScales = Tensor.From<float>(device, [1, 2], 1, 2);
        using var b = Tensor.From<Float8E4M3>(device, Enumerable.Repeat((Float8E4M3)1f, (N * K) + shift).ToArray(), (N * K) + shift);
        using var bScales = Tensor.From<float>(device, [1, 1], 1, 2);
        using var addresses = Tensor.From<long>(device, [b.Address + shift], 1);
        using var output = Tensor.Create(device, DType.Float32, 1, N);
        Ops.Gemm(device.Stream, new GemmArgs
        {
            A = a.Slice(1, 0, K),
            AScales = aScales,
            B = new Weight
            {
                Values = TensorView.Borrow(device, b.Address + shift, DType.Float8E4M3, N, K), Scales = bScales, ExpertAddresses = addresses,
            },
            Output = output,
        });
        return output.ToArray<float>();
    }
}
