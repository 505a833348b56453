using System.Globalization;
using System.Numerics;

namespace Octet.Inference.Grammars;

/// <summary>Numbers within bounds, digit by digit. All have a bounded number of digits, so that none runs on for ever.</summary>
internal static class NumberTerms
{
    /// <summary>Digits before the point where no bound has more: every reader of f64 has all such whole numbers exactly.</summary>
    private const int Digits = 15;

    /// <summary>Digits behind the point of a number without bounds.</summary>
    private const int FractionDigits = 16;

    /// <summary>Digits behind the point of a number within bounds; more where a bound has more.</summary>
    private const int BoundedFractionDigits = 10;

    /// <summary>A number without bounds.</summary>
    public static Term Any()
    {
        var digit = JsonTerms.Digit;
        var whole = JsonTerms.Any(JsonTerms.Text("0"), JsonTerms.All(InRange('1', '9'), JsonTerms.Times(digit, 0, Digits - 1)));
        var sign = new ByteTerm(ByteSet.Of("+-"u8));
        return JsonTerms.All(
            Maybe(JsonTerms.Text("-")),
            whole,
            Maybe(JsonTerms.All(JsonTerms.Text("."), JsonTerms.Times(digit, 1, FractionDigits))),
            Maybe(JsonTerms.All(new ByteTerm(ByteSet.Of("eE"u8)), Maybe(sign), JsonTerms.Times(digit, 1, 2))));
    }

    /// <summary>The whole numbers from min to max; <see cref="NothingTerm"/> where there are none.</summary>
    /// <param name="min">The lower end; null: none.</param>
    /// <param name="max">The upper end; null: none.</param>
    public static Term Integer(DecimalBound? min, DecimalBound? max)
    {
        var low = min is { } lower ? Up(lower) : default(BigInteger?);
        var high = max is { } upper ? Down(upper) : default(BigInteger?);
        var first = low ?? -Largest(high ?? 0);
        var last = high ?? Largest(low ?? 0);
        if (first > last)
        {
            return NothingTerm.Instance;
        }

        var negative = first >= 0 ? NothingTerm.Instance
            : JsonTerms.All(JsonTerms.Text("-"), Within(Inclusive(BigInteger.Max(1, -last)), Inclusive(-first), 0));
        return last < 0 ? negative : JsonTerms.Any(negative, Within(Inclusive(BigInteger.Max(0, first)), Inclusive(last), 0));
    }

    /// <summary>The numbers from min to max, at least one of which there is; <see cref="NothingTerm"/> where there are none.</summary>
    /// <param name="min">The lower end; null: none.</param>
    /// <param name="max">The upper end; null: none.</param>
    public static Term Number(DecimalBound? min, DecimalBound? max)
    {
        var first = min ?? new(Of(-Largest(max?.Value.Floor ?? 0)), IsExclusive: false);
        var last = max ?? new(Of(Largest(min?.Value.Ceiling ?? 0)), IsExclusive: false);
        var fraction = Math.Max(BoundedFractionDigits, 3 + Math.Max(first.Value.Fraction.Length, last.Value.Fraction.Length));
        var zero = new DecimalBound(DecimalNumber.Zero, IsExclusive: false);
        Term negative = NothingTerm.Instance;
        if (first.Value.IsNegative)
        {
            var nearest = last.Value.IsNegative ? Magnitude(last) : zero with { IsExclusive = true };
            negative = JsonTerms.All(JsonTerms.Text("-"), Within(nearest, Magnitude(first), fraction));
        }

        var lowest = first.Value.IsNegative ? zero : first;
        return last.Value.IsNegative ? negative : JsonTerms.Any(negative, Within(lowest, last, fraction));
    }

    // The end where none is given: beyond the other one.
    private static BigInteger Largest(BigInteger other)
    {
        var digits = BigInteger.Abs(other).ToString(CultureInfo.InvariantCulture).Length;
        return BigInteger.Pow(10, digits <= Digits ? Digits : digits + 1) - 1;
    }

    private static BigInteger Up(DecimalBound bound) => bound.Value.Ceiling + (ExcludesWhole(bound) ? 1 : 0);

    private static BigInteger Down(DecimalBound bound) => bound.Value.Floor - (ExcludesWhole(bound) ? 1 : 0);

    private static bool ExcludesWhole(DecimalBound bound) => bound.IsExclusive && bound.Value.Fraction.Length == 0;

    private static DecimalNumber Of(BigInteger value) =>
        new(value.Sign < 0, BigInteger.Abs(value).ToString(CultureInfo.InvariantCulture), "");

    private static DecimalBound Inclusive(BigInteger value) => new(Of(value), IsExclusive: false);

    private static DecimalBound Magnitude(DecimalBound bound) => bound with { Value = bound.Value.Magnitude };

    // Neither end is negative.
    private static Term Within(DecimalBound min, DecimalBound max, int fraction) =>
        min.Value.CompareTo(max.Value) > 0 ? NothingTerm.Instance : new DigitRange(min, max, fraction).Build();

    private static ByteTerm InRange(char first, char last) => new(ByteSet.Range(first, last));

    private static Term Maybe(Term term) => JsonTerms.Any(term, EmptyTerm.Instance);

    /// <summary>
    /// The numbers of a range, none of them negative. As long as the digits so far are those of an end, that end bounds the next digit;
    /// then it bounds no more.
    /// </summary>
    private sealed class DigitRange(DecimalBound min, DecimalBound max, int fraction)
    {
        public Term Build()
        {
            var (shortest, longest) = (min.Value.Integer.Length, max.Value.Integer.Length);
            var all = Enumerable.Range(shortest, longest - shortest + 1)
                .Select(length => Whole(0, length, length == shortest, length == longest)).ToArray();
            return JsonTerms.Any(all);
        }

        private Term Whole(int at, int length, bool atMin, bool atMax)
        {
            if (at == length)
            {
                var behind = fraction == 0 ? NothingTerm.Instance : JsonTerms.All(JsonTerms.Text("."), Behind(0, atMin, atMax));
                return JsonTerms.Any(Stop(0, atMin, atMax), behind);
            }

            var least = at == 0 && length > 1 ? '1' : '0';
            var left = length - at - 1;
            return NextDigit(
                atMin ? min.Value.Integer[at] : least, atMax ? max.Value.Integer[at] : '9', atMin, atMax,
                (stillMin, stillMax) => stillMin || stillMax
                    ? Whole(at + 1, length, stillMin, stillMax)
                    : JsonTerms.All(JsonTerms.Times(JsonTerms.Digit, left, left), Whole(length, length, false, false)));
        }

        // At least one digit more.
        private Term Behind(int at, bool atMin, bool atMax)
        {
            if (at == fraction)
            {
                return NothingTerm.Instance;
            }

            static char DigitAt(DecimalBound bound, int at) => at < bound.Value.Fraction.Length ? bound.Value.Fraction[at] : '0';
            return NextDigit(
                atMin ? DigitAt(min, at) : '0', atMax ? DigitAt(max, at) : '9', atMin, atMax,
                (stillMin, stillMax) => stillMin || stillMax
                    ? JsonTerms.Any(Stop(at + 1, stillMin, stillMax), Behind(at + 1, stillMin, stillMax))
                    : JsonTerms.Times(JsonTerms.Digit, 0, fraction - at - 1));
        }

        private static Term NextDigit(char first, char last, bool atMin, bool atMax, Func<bool, bool, Term> rest)
        {
            if (first > last)
            {
                return NothingTerm.Instance;
            }

            if (first == last)
            {
                return JsonTerms.All(InRange(first, first), rest(atMin, atMax));
            }

            var (inner, outer) = ((char)(first + (atMin ? 1 : 0)), (char)(last - (atMax ? 1 : 0)));
            return JsonTerms.Any(
                atMin ? JsonTerms.All(InRange(first, first), rest(true, false)) : NothingTerm.Instance,
                inner <= outer ? JsonTerms.All(InRange(inner, outer), rest(false, false)) : NothingTerm.Instance,
                atMax ? JsonTerms.All(InRange(last, last), rest(false, true)) : NothingTerm.Instance);
        }

        // Whether the number may end here: the digits that do not follow are zeros.
        private Term Stop(int at, bool atMin, bool atMax)
        {
            var aboveMin = !atMin || (at >= min.Value.Fraction.Length && !min.IsExclusive);
            var belowMax = !atMax || at < max.Value.Fraction.Length || !max.IsExclusive;
            return aboveMin && belowMax ? EmptyTerm.Instance : NothingTerm.Instance;
        }
    }
}
