using System.Globalization;

namespace Octet.Inference.Loading.Templates;

/// <summary>The function <c>strftime_now</c>: C's <c>strftime</c> in the C locale.</summary>
internal static class TemplateTime
{
    public static TemplateText Format(TemplateRun run, TemplateText format)
    {
        var text = new TemplateTextBuilder();
        run.Charge(format.Units * 16L);
        Append(run, text, format, run.Now);
        return text.Build();
    }

    private static void Append(TemplateRun run, TemplateTextBuilder text, TemplateText format, DateTimeOffset now)
    {
        for (int i = 0; i < format.Units; i++)
        {
            if (format.Value[i] != '%' || i + 1 == format.Units)
            {
                text.Append(format, i, i + 1);
                continue;
            }
            TextOrigin origin = format.OriginAt(i);
            char padding = format.Value[++i] is '-' or '_' or '0' or '^' or '#' && i + 1 < format.Units ? format.Value[i++] : ' ';
            char directive = format.Value[i];
            string? whole = directive switch
            {
                'c' => "%a %b %e %H:%M:%S %Y",
                'D' or 'x' => "%m/%d/%y",
                'F' => "%Y-%m-%d",
                'R' => "%H:%M",
                'r' => "%I:%M:%S %p",
                'T' or 'X' => "%H:%M:%S",
                _ => null,
            };
            if (whole is not null)
            {
                Append(run, text, new TemplateText(whole, origin), now);
                continue;
            }
            text.Append(Directive(run, directive, padding, now), origin);
        }
    }

    private static string Directive(TemplateRun run, char directive, char padding, DateTimeOffset now)
    {
        CultureInfo c = CultureInfo.InvariantCulture;
        int weekday = (int)now.DayOfWeek;
        string text = directive switch
        {
            'a' => now.ToString("ddd", c),
            'A' => now.ToString("dddd", c),
            'b' or 'h' => now.ToString("MMM", c),
            'B' => now.ToString("MMMM", c),
            'C' => Number(now.Year / 100, 2),
            'd' => Number(now.Day, 2),
            'e' => Number(now.Day, 2, ' '),
            'f' => now.ToString("ffffff", c),
            'G' => Number(ISOWeek.GetYear(now.DateTime), 4),
            'g' => Number(ISOWeek.GetYear(now.DateTime) % 100, 2),
            'H' => Number(now.Hour, 2),
            'I' => Number(((now.Hour + 11) % 12) + 1, 2),
            'j' => Number(now.DayOfYear, 3),
            'k' => Number(now.Hour, 2, ' '),
            'l' => Number(((now.Hour + 11) % 12) + 1, 2, ' '),
            'M' => Number(now.Minute, 2),
            'm' => Number(now.Month, 2),
            'n' => "\n",
            'P' => now.Hour < 12 ? "am" : "pm",
            'p' => now.Hour < 12 ? "AM" : "PM",
            'S' => Number(now.Second, 2),
            't' => "\t",
            'U' => Number((now.DayOfYear + 6 - weekday) / 7, 2),
            'u' => Number(weekday == 0 ? 7 : weekday, 1),
            'V' => Number(ISOWeek.GetWeekOfYear(now.DateTime), 2),
            'W' => Number((now.DayOfYear + 6 - ((weekday + 6) % 7)) / 7, 2),
            'w' => Number(weekday, 1),
            'Y' => Number(now.Year, 1),
            'y' => Number(now.Year % 100, 2),
            // Transformers asks for a time without a zone.
            'z' or 'Z' => "",
            '%' => "%",
            _ => throw run.Error($"the directive '%{directive}' of a time is not supported"),
        };
        return padding == '^' ? text.ToUpperInvariant() : text;

        string Number(int value, int digits, char usual = '0')
        {
            char fill = padding switch { '-' => '\0', '_' => ' ', '0' => '0', _ => usual };
            string plain = value.ToString(c);
            return fill == '\0' ? plain : plain.PadLeft(digits, fill);
        }
    }
}
