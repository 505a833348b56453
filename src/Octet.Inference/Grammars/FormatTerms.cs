namespace Octet.Inference.Grammars;

/// <summary>
/// Strings of the formats that are supported, without their quotes. Each has the common forms of its format, not all there are.
/// </summary>
internal static class FormatTerms
{
    private const int MostFractionDigits = 9;

    /// <summary>The names of the formats.</summary>
    public static IReadOnlyList<string> Names { get; } = ["date", "time", "date-time", "uuid", "ipv4", "email"];

    /// <summary>The texts of a format; null: it is not supported.</summary>
    public static Term? Find(string name) => name switch
    {
        "date" => Date(),
        "time" => Time(),
        "date-time" => JsonTerms.All(Date(), JsonTerms.Text("T"), Time()),
        "uuid" => Uuid(),
        "ipv4" => Ipv4(),
        "email" => Email(),
        _ => null,
    };

    // NOTE: without 29 February, which depends on the year.
    private static Term Date()
    {
        var (d, dash) = (JsonTerms.Digit, JsonTerms.Text("-"));
        Term Days(string months, Term last) => JsonTerms.All(
            Words(months), dash,
            JsonTerms.Any(JsonTerms.All(JsonTerms.Text("0"), In("123456789")), JsonTerms.All(JsonTerms.Text("1"), d), last));
        var to28 = JsonTerms.All(JsonTerms.Text("2"), In("012345678"));
        var to30 = JsonTerms.Any(JsonTerms.All(JsonTerms.Text("2"), d), JsonTerms.Text("30"));
        var to31 = JsonTerms.Any(JsonTerms.All(JsonTerms.Text("2"), d), JsonTerms.Text("30"), JsonTerms.Text("31"));

        // From 1000: a year of four digits that every reader takes.
        return JsonTerms.All(
            In("123456789"), d, d, d, dash, JsonTerms.Any(Days("02", to28), Days("04 06 09 11", to30), Days("01 03 05 07 08 10 12", to31)));
    }

    private static Term Time()
    {
        var (d, colon) = (JsonTerms.Digit, JsonTerms.Text(":"));
        var hour = JsonTerms.Any(JsonTerms.All(In("01"), d), JsonTerms.All(JsonTerms.Text("2"), In("0123")));
        var sixty = JsonTerms.All(In("012345"), d);
        var fraction = JsonTerms.Any(EmptyTerm.Instance, JsonTerms.All(JsonTerms.Text("."), JsonTerms.Times(d, 1, MostFractionDigits)));
        var zoneHour = JsonTerms.Any(JsonTerms.All(JsonTerms.Text("0"), d), JsonTerms.All(JsonTerms.Text("1"), In("0123")));
        var zone = JsonTerms.Any(JsonTerms.Text("Z"), JsonTerms.All(In("+-"), zoneHour, colon, sixty));
        return JsonTerms.All(hour, colon, sixty, colon, sixty, fraction, zone);
    }

    private static Term Uuid()
    {
        Term Hex(int digits) => JsonTerms.Times(In("0123456789abcdefABCDEF"), digits, digits);
        var dash = JsonTerms.Text("-");
        return JsonTerms.All(Hex(8), dash, Hex(4), dash, Hex(4), dash, Hex(4), dash, Hex(12));
    }

    private static Term Ipv4()
    {
        var d = JsonTerms.Digit;
        var number = JsonTerms.Any(
            d, JsonTerms.All(In("123456789"), d), JsonTerms.All(JsonTerms.Text("1"), d, d),
            JsonTerms.All(JsonTerms.Text("2"), In("01234"), d), JsonTerms.All(JsonTerms.Text("25"), In("012345")));
        return JsonTerms.All(number, JsonTerms.Times(JsonTerms.All(JsonTerms.Text("."), number), 3, 3));
    }

    // Words of letters and digits: names that every mail program takes.
    private static Term Email()
    {
        const string Letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        var word = JsonTerms.Times(In(Letters + "0123456789"), 1, 20);
        var local = JsonTerms.All(word, JsonTerms.Times(JsonTerms.All(In(".-_+"), word), 0, 2));
        var domain = JsonTerms.Times(JsonTerms.All(word, JsonTerms.Text(".")), 1, 3);
        return JsonTerms.All(local, JsonTerms.Text("@"), domain, JsonTerms.Times(In(Letters), 2, 10));
    }

    private static ByteTerm In(string characters) => new(ByteSet.Of(System.Text.Encoding.ASCII.GetBytes(characters)));

    private static Term Words(string words) => JsonTerms.Any([.. words.Split(' ').Select(JsonTerms.Text)]);
}
