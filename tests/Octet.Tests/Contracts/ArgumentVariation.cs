using System.Reflection;
using System.Runtime.CompilerServices;

namespace Octet.Tests.Contracts;

/// <summary>One argument of an op changed in one way.</summary>
/// <param name="Path">Where it is: "Gate.Scales".</param>
/// <param name="Change">What was done to it.</param>
/// <param name="IsRequired">Whether the argument, and what it is part of, must be given.</param>
/// <param name="Arguments">The op's arguments with the change.</param>
internal sealed record ArgumentVariation(string Path, string Change, bool IsRequired, object Arguments)
{
    private static readonly MethodInfo s_clone = typeof(object).GetMethod("MemberwiseClone", BindingFlags.NonPublic | BindingFlags.Instance)!;

    /// <summary>Every argument of an op, at any depth, in every way it can be wrong.</summary>
    public static IEnumerable<ArgumentVariation> Of(object arguments, Device other) => Walk(arguments, "", true, changed => changed, other);

    private static IEnumerable<ArgumentVariation> Walk(object owner, string prefix, bool required, Func<object, object> rebuild, Device other)
    {
        foreach (var member in Members(owner.GetType()))
        {
            object With(object? value)
            {
                var copy = s_clone.Invoke(owner, null)!;
                member.Set(copy, value);
                return rebuild(copy);
            }

            var (path, value) = (prefix + member.Info.Name, member.Get(owner));
            var isRequired = required && member.MustBeGiven;
            foreach (var (change, changed) in Changes(member.Type, value, other))
            {
                yield return new(path, change, isRequired, With(changed));
            }

            if (value is Weight or KvCache or QuantizedTensor or LogitAdjustments or TokenMasks or LogprobOutputs)
            {
                foreach (var inner in Walk(value, $"{path}.", isRequired, With, other))
                {
                    yield return inner;
                }
            }
        }
    }

    // Fields of arguments, properties of what has identity: weights and caches.
    private static IEnumerable<Member> Members(Type type) =>
    [
        .. type.GetFields().Where(f => !f.IsStatic).Select(f => new Member(
            f, f.FieldType, new NullabilityInfoContext().Create(f).WriteState, f.GetValue, f.SetValue)),
        .. type.GetProperties().Where(p => p.CanWrite).Select(p => new Member(
            p, p.PropertyType, new NullabilityInfoContext().Create(p).WriteState, p.GetValue, p.SetValue)),
    ];

    private static IEnumerable<(string Change, object? Value)> Changes(Type type, object? value, Device other) => value switch
    {
        TensorView { IsNull: true } => [],
        TensorView tensor => Tensors(tensor, other).Prepend(("null", null)),
        Weight or KvCache or LogitAdjustments or TokenMasks or LogprobOutputs => [("null", null)],
        QuantizedTensor => [("null", null), ("default", default(QuantizedTensor))],
        int => Boxed(-1, 0, 17, 1000, int.MaxValue),
        long => Boxed(-1L, 0L, long.MaxValue),
        float => Boxed(float.NaN, float.PositiveInfinity, -1f),
        WeightLayout => Boxed((WeightLayout)7),
        MoeScoring => Boxed((MoeScoring)7),
        bool => [],
        null => [],
        _ => throw new NotSupportedException($"{type}"),
    };

    private static IEnumerable<(string Change, object? Value)> Boxed<T>(params T[] values) where T : notnull =>
        values.Select(v => ($"{v}", (object?)v));

    private static IEnumerable<(string Change, object? Value)> Tensors(TensorView tensor, Device other)
    {
        var (shape, strides, size) = (tensor.Shape.ToArray(), tensor.Strides.ToArray(), tensor.DType.SizeInBytes());
        TensorView Of(long[]? newShape = null, long[]? newStrides = null, DType? type = null, int bytes = 0, Device? device = null) =>
            TensorView.Borrow(device ?? tensor.Device, tensor.Address + bytes, type ?? tensor.DType, newShape ?? shape, newStrides ?? strides);

        yield return ("one element further", Of(bytes: size));
        yield return ("eight bytes further", Of(bytes: 8));
        foreach (var type in (DType[])[DType.Byte, DType.Int32, DType.Int64, DType.BFloat16, DType.Float32, DType.Float8E4M3, DType.Float8E4M3Fnuz])
        {
            yield return ($"of {type}", Of(type: type));
        }

        yield return ("on another device", Of(device: other));
        yield return ("disposed", Disposed(tensor));
        yield return ("of no dimension", Of([], []));
        yield return ("of one dimension", Of([tensor.ElementCount], [1]));
        if (shape.Length < TensorView.MaxRank)
        {
            yield return ("of one dimension more", Of([1, .. shape], [tensor.ElementCount, .. strides]));
        }

        yield return ("empty", Of([0, .. shape[1..]]));
        yield return ("one longer", Of([shape[0] + 1, .. shape[1..]]));
        yield return ("wider", Of([.. shape[..^1], shape[^1] + 1]));
        yield return ("of 2^40 rows", Of([1L << 40, .. shape[1..]]));
        for (var i = 0; i < shape.Length; i++)
        {
            foreach (var stride in ((long[])[0, 1, strides[i] - 1, strides[i] + 1, 2 * strides[i], 1L << 51]).Distinct().Where(s => s >= 0 && s != strides[i]))
            {
                yield return ($"with stride {stride} of dimension {i}", Of(newStrides: [.. strides[..i], stride, .. strides[(i + 1)..]]));
            }
        }
    }

    private static TensorView Disposed(TensorView like)
    {
        using var tensor = Tensor.Create(like.Device, like.DType, like.Shape);
        return tensor;
    }

    private sealed record Member(
        MemberInfo Info, Type Type, NullabilityState Nullability, Func<object, object?> Get, Action<object, object?> Set)
    {
        // Parts of a pair cannot be left out one by one.
        public bool MustBeGiven => Type == typeof(TensorView)
            ? Info.IsDefined(typeof(RequiredMemberAttribute)) || Info.DeclaringType == typeof(QuantizedTensor)
            : Nullability == NullabilityState.NotNull;
    }
}
