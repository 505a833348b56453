namespace Octet.Tests.Memory;

/// <summary>Tensors own, views look: parts, other shapes, ends of life.</summary>
public sealed class TensorTests
{
    [Fact]
    public void Views_have_the_elements_of_their_part()
    {
        using var device = Device.Open("cpu");
        using var tensor = Tensor.From<int>(device, [.. Enumerable.Range(0, 24)], 4, 6);
        Assert.Equal([6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17], tensor.Slice(0, 1, 2).ToArray<int>());
        Assert.Equal([2, 4, 3], tensor.View(2, 4, 3).Shape.ToArray());
        Assert.Equal([12, 3, 1], tensor.View(2, 4, 3).Strides.ToArray());
        Assert.Equal([.. Enumerable.Range(0, 24)], tensor.View(24).ToArray<int>());

        var columns = tensor.Slice(1, 2, 4);
        Assert.False(columns.IsContiguous);
        Assert.Equal(tensor.Address + 8, columns.Address);
        var split = columns.SplitLast(2, 2);
        Assert.Equal([4, 2, 2], split.Shape.ToArray());
        Assert.Equal([6, 2, 1], split.Strides.ToArray());
        Assert.Equal([20, 21, 22, 23], split.Slice(0, 3, 1).View(4).ToArray<int>());
        Assert.Equal("Int32[4, 2, 2] on cpu", split.ToString());
    }

    [Fact]
    public void What_is_no_view_is_refused_with_the_shape()
    {
        using var device = Device.Open("cpu");
        using var tensor = Tensor.Create(device, DType.BFloat16, 4, 6);
        Assert.Contains("BFloat16[4, 6]", Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(0, 3, 2)).Message, StringComparison.Ordinal);
        Assert.Contains("[5, 5]", Assert.Throws<ArgumentException>(() => tensor.View(5, 5)).Message, StringComparison.Ordinal);
        Assert.Contains("contiguous", Assert.Throws<ArgumentException>(() => tensor.Slice(1, 0, 3).View(12)).Message, StringComparison.Ordinal);
        Assert.Contains("4 x 2", Assert.Throws<ArgumentException>(() => tensor.SplitLast(4, 2)).Message, StringComparison.Ordinal);
        Assert.Contains("[4, 1, 1, 6]", Assert.Throws<ArgumentException>(() => tensor.View(4, 1, 1, 6).SplitLast(2, 3)).Message, StringComparison.Ordinal);
        const string Dimensions = "shape [1, 1, 4, 2, 3] has 5 dimensions, at most 4";
        Assert.Contains(Dimensions, Assert.Throws<ArgumentException>(() => tensor.View(1, 1, 4, 2, 3)).Message, StringComparison.Ordinal);
        Assert.Contains(Dimensions, Assert.Throws<ArgumentException>(() => Tensor.Create(device, DType.Byte, 1, 1, 4, 2, 3)).Message, StringComparison.Ordinal);
        Assert.Contains(Dimensions, Assert.Throws<ArgumentException>(() => TensorView.Borrow(device, 256, DType.Byte, 1, 1, 4, 2, 3)).Message, StringComparison.Ordinal);
        Assert.Contains("[-1]", Assert.Throws<ArgumentException>(() => Tensor.Create(device, DType.Byte, -1)).Message, StringComparison.Ordinal);
        Assert.Contains("[2, -1]", Assert.Throws<ArgumentException>(() => TensorView.Borrow(device, 256, DType.Byte, [2, 2], [2, -1])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Views_of_a_disposed_tensor_throw_where_memory_is_used()
    {
        using var device = Device.Open("cpu");
        var tensor = Tensor.From<int>(device, [1, 2, 3, 4], 4);
        var view = tensor.Slice(0, 1, 2);
        tensor.Dispose();
        Assert.Equal([2], view.Shape.ToArray());
        Assert.Throws<ObjectDisposedException>(() => view.Address);
        Assert.Throws<ObjectDisposedException>(() => view.Slice(0, 0, 1));
        Assert.Throws<ObjectDisposedException>(() => view.ToArray<int>());
        Assert.Throws<ObjectDisposedException>(() => device.Stream.Fill(view, 0));
        Assert.Throws<ObjectDisposedException>(() => device.Stream.Fill(tensor, 0));
        Assert.Throws<ObjectDisposedException>(() => tensor.ToArray<int>());
        Assert.Contains(
            "Int32[2] on cpu", Assert.Throws<ObjectDisposedException>(() => Ops.Embedding(device.Stream, new() { Table = Borrowed(device), Ids = view, Output = Borrowed(device) })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_default_and_null_are_no_tensor()
    {
        TensorView none = (Tensor?)null;
        Assert.True(none.IsNull);
        Assert.Equal(default, none);
        Assert.Equal((0, 0, 0, 0), (none.Rank, none.ElementCount, none.SizeInBytes, none.Address));
        Assert.Equal("no tensor", none.ToString());
        Assert.Throws<InvalidOperationException>(() => none.Device);
        Assert.Throws<ArgumentOutOfRangeException>(() => none.Slice(0, 0, 0));
        Assert.Throws<ArgumentException>(() => none.View(0));
        using var device = Device.Open("cpu");
        Assert.Contains("no tensor", Assert.Throws<ArgumentException>(() => device.Stream.Fill(none, 0)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Views_are_equal_where_they_are_the_same_elements_in_the_same_shape()
    {
        using var device = Device.Open("cpu");
        using var tensor = Tensor.Create(device, DType.Byte, 4, 4);
        using var other = Tensor.Create(device, DType.Byte, 4, 4);
        Assert.True(tensor.View(16) == tensor.View(4, 4).View(16));
        Assert.Equal(tensor.View(16).GetHashCode(), tensor.View(16).GetHashCode());
        Assert.True(tensor.View(16) != tensor.View(2, 8));
        Assert.NotEqual(tensor.AsView(), other.AsView());
        Assert.NotEqual(tensor.AsView(), TensorView.Borrow(device, tensor.Address, DType.Byte, 4, 4));
    }

    [Fact]
    public void Making_views_allocates_nothing_managed()
    {
        using var device = Device.Open("cpu");
        using var tensor = Tensor.Create(device, DType.BFloat16, 8, 4, 64);
        long Sum()
        {
            var view = tensor.Slice(0, 2, 4).View(4, 256).SplitLast(2, 128).Slice(1, 1, 1);
            return view.Shape[0] + view.Strides[1] + view.ElementCount + (view.IsContiguous ? 1 : 0);
        }

        Assert.Equal(4 + 128 + 512, Sum());
        var before = GC.GetAllocatedBytesForCurrentThread();
        Sum();
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private static TensorView Borrowed(Device device) => TensorView.Borrow(device, 256, DType.BFloat16, 2, 16);
}
