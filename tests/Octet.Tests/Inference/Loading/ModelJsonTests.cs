using System.Text;
using Octet.Inference.Loading;

namespace Octet.Tests.Inference.Loading;

public class ModelJsonTests
{
    [Fact]
    public void Byte_order_mark_is_skipped()
    {
        byte[] text = [0xEF, 0xBB, 0xBF, .. "{\"a\": 1}"u8];
        Assert.Equal(1, ModelJson.Parse("f", text).Integer("a", 0, 9));

        using var directory = new ModelDirectory();
        Assert.Equal("é", ModelText.Read(directory.Write("t", [0xEF, 0xBB, 0xBF, .. "é"u8])));
    }

    [Theory]
    [InlineData("utf-16", "UTF-16")]
    [InlineData("utf-16BE", "UTF-16")]
    [InlineData("utf-32", "UTF-32")]
    public void Other_encodings_are_named_by_their_mark(string encoding, string expected)
    {
        Encoding other = Encoding.GetEncoding(encoding);
        string message = Refusal([.. other.Preamble, .. other.GetBytes("{}")]);
        Assert.Contains($"is {expected} text by its byte-order mark; save it as UTF-8", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Utf_16_without_a_mark_and_latin_1_are_named()
    {
        Assert.Contains("as UTF-16 text without a byte-order mark has", Refusal(Encoding.Unicode.GetBytes("{}")), StringComparison.Ordinal);
        Assert.Contains("byte 0xe9 at line 2, column 8;", Refusal([.. "{\n \"a\": \""u8, 0xE9, .. "\"}"u8]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"a\": 1,\n \"b\": [1, 2", "ends before its value does, at line 2, column 12; fetch it again")]
    [InlineData("{\"a\": \"tex", "ends before its value does")]
    [InlineData("{\"a\": tr", "ends before its value does")]
    [InlineData(" \n", "it holds nothing but white space")]
    [InlineData("{\"a\": 1,\n}", "at line 2, column 1: a comma before '}': remove it")]
    [InlineData("{\"a\": [1, 2, ]}", "at line 1, column 14: a comma before ']': remove it")]
    [InlineData("{\"é\": 1, // one\n \"b\": 2}", "at line 1, column 10: a comment")]
    [InlineData("{\n# note\n}", "at line 2, column 1: a comment")]
    [InlineData("{\"a\": 1, /* two */ \"b\": 2}", "at line 1, column 10: a comment")]
    [InlineData("{\"a\":\n  NaN}", "at line 2, column 3: 'NaN' is Python's; JSON has no such number")]
    [InlineData("{\"a\": Infinity}", "column 7: 'Infinity' is Python's")]
    [InlineData("{\"a\": -Infinity}", "column 7: '-Infinity' is Python's")]
    [InlineData("{\"a\": nan}", "'nan' is Python's")]
    [InlineData("{\"a\": None}", "column 7: 'None' is Python's; JSON has null")]
    [InlineData("{\"a\": True}", "'True' is Python's; JSON has true")]
    [InlineData("{'a': 1}", "at line 1, column 2: a string in single quotes")]
    [InlineData("{\"a\": 1 \"b\": 2}", "at line 1, column 9:")]
    [InlineData("<!DOCTYPE html><html></html>", "begins with '<', as a web page does")]
    [InlineData("{\"a\": \0\0\0\0", "at line 1, column 7: a zero byte, which no text has; fetch it again")]
    [InlineData("{\"a\": \"\\ud800\"}", "the string at line 1, column 7 holds half of a surrogate pair")]
    [InlineData("[1]", "is not a JSON object but an array of 1")]
    [InlineData("{\"a\": 1, \"a\": 2}", "the property 'a' stands twice in one object")]
    public void Message_says_what_is_wrong_and_where(string text, string expected)
    {
        string message = Refusal(Encoding.UTF8.GetBytes(text));
        Assert.StartsWith("some.json: is not", message, StringComparison.Ordinal);
        Assert.Contains(expected, message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"a\": 1,\n}")]
    [InlineData("{\"a\": NaN}")]
    [InlineData("{'a': 1}")]
    [InlineData("{\"a\": 1, \"a\": 2}")]
    [InlineData("[1]")]
    public void Remedy_is_not_to_fetch_again_what_was_written_so(string text) =>
        Assert.DoesNotContain("fetch", Refusal(Encoding.UTF8.GetBytes(text)), StringComparison.Ordinal);

    [Fact]
    public void Members_nobody_asked_for_are_told()
    {
        ModelJson json = ModelJson.Parse("f", "{\"a\": 1, \"b\": {\"c\": 2, \"d\": 3}, \"e\": null, \"f\": 4}"u8.ToArray()).Remembering();
        _ = json.Find("a");
        ModelJson b = json.Object("b");
        _ = b.Find("c");
        Assert.Equal(["f"], json.NotAskedFor().Select(member => member.Name));
        Assert.Equal(["d"], b.NotAskedFor().Select(member => member.Name));
    }

    private static string Refusal(byte[] text) => Assert.Throws<ModelFormatException>(() => ModelJson.Parse("some.json", text)).Message;
}
