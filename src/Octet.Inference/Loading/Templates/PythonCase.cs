using System.Text;

namespace Octet.Inference.Loading.Templates;

/// <summary>Upper, lower and title case as Python has them: of whole words where one letter becomes several, and with the Greek sigma at the end of a word.</summary>
internal static partial class PythonCase
{
    private static readonly Dictionary<int, string> UpperExceptions = Read(UpperData);
    private static readonly Dictionary<int, string> LowerExceptions = Read(LowerData);
    private static readonly Dictionary<int, string> TitleExceptions = Read(TitleData);
    private static readonly Dictionary<int, string> FoldExceptions = Read(FoldData);

    public static TemplateText Upper(TemplateRun run, TemplateText text) => Map(run, text, (rune, _) => Upper(rune));

    public static TemplateText Lower(TemplateRun run, TemplateText text) => Map(run, text, (rune, at) => Lower(rune, text.Value, at));

    public static TemplateText Fold(TemplateRun run, TemplateText text) => Map(run, text, (rune, at) => FoldExceptions.GetValueOrDefault(rune.Value) ?? Lower(rune));

    public static TemplateText Swap(TemplateRun run, TemplateText text) =>
        Map(run, text, (rune, at) => PythonCharacters.IsUpper(rune) ? Lower(rune, text.Value, at) : PythonCharacters.IsLower(rune) ? Upper(rune) : rune.ToString());

    public static TemplateText Capitalize(TemplateRun run, TemplateText text) => Map(run, text, (rune, at) => at == 0 ? Title(rune) : Lower(rune, text.Value, at));

    /// <summary>The string method: every letter behind one that is none begins a word.</summary>
    public static TemplateText Title(TemplateRun run, TemplateText text)
    {
        bool inWord = false;
        return Map(run, text, (rune, at) =>
        {
            string mapped = inWord ? Lower(rune, text.Value, at) : Title(rune);
            inWord = PythonCharacters.IsCased(rune);
            return mapped;
        });
    }

    private static string Upper(Rune rune) => UpperExceptions.GetValueOrDefault(rune.Value) ?? Rune.ToUpperInvariant(rune).ToString();

    private static string Title(Rune rune) => TitleExceptions.GetValueOrDefault(rune.Value) ?? Upper(rune);

    private static string Lower(Rune rune) => LowerExceptions.GetValueOrDefault(rune.Value) ?? Rune.ToLowerInvariant(rune).ToString();

    private static string Lower(Rune rune, string text, int at) => rune.Value == 0x3A3 && IsLastOfWord(text, at) ? "ς" : Lower(rune);

    private static bool IsLastOfWord(string text, int at)
    {
        int before = at - 1;
        while (before >= 0 && IsIgnorable(text[before]))
        {
            before--;
        }
        int after = at + 1;
        while (after < text.Length && IsIgnorable(text[after]))
        {
            after++;
        }
        return before >= 0 && IsCased(text[before]) && !(after < text.Length && IsCased(text[after]));
    }

    private static bool IsCased(char c) => Rune.TryCreate(c, out Rune rune) && PythonCharacters.IsCased(rune);

    private static bool IsIgnorable(char c) => c is '\'' or '.' or ':' or '·' or '’' || char.GetUnicodeCategory(c) is
        System.Globalization.UnicodeCategory.NonSpacingMark or System.Globalization.UnicodeCategory.EnclosingMark or System.Globalization.UnicodeCategory.Format
        or System.Globalization.UnicodeCategory.ModifierLetter or System.Globalization.UnicodeCategory.ModifierSymbol;

    private static TemplateText Map(TemplateRun run, TemplateText text, Func<Rune, int, string> map)
    {
        run.Charge(text.Units * 2L);
        var mapped = new TemplateTextBuilder();
        for (int i = 0; i < text.Units;)
        {
            int next = text.Next(i);
            if (Rune.TryGetRuneAt(text.Value, i, out Rune rune))
            {
                mapped.Append(map(rune, i), text.OriginAt(i));
            }
            else
            {
                mapped.Append(text, i, next);
            }
            i = next;
        }
        return mapped.Build(text.IsMarkup);
    }

    // "ßSS ŉʼN": each begins with the character that is mapped to the rest.
    private static Dictionary<int, string> Read(string data) => data.Split(' ', StringSplitOptions.RemoveEmptyEntries)
        .Select(entry => (Rune.GetRuneAt(entry, 0), entry))
        .ToDictionary(entry => entry.Item1.Value, entry => entry.entry[entry.Item1.Utf16SequenceLength..]);
}
