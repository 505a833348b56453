using System.Globalization;

namespace Octet.Inference.Loading;

public sealed partial class ModelTokenizer
{
    private readonly HashSet<string> _addedTexts = [];

    private static bool ReadNormalizer(ModelJson file)
    {
        if (file.FindObject("normalizer") is not { } normalizer)
        {
            return false;
        }
        bool composes = false;
        foreach (ModelJson step in Steps(normalizer, "normalizers"))
        {
            string type = step.Text("type");
            composes = type == "NFC" ? true : throw step.Bad($"has the type '{type}', but only 'NFC' is supported");
        }
        return composes;
    }

    private void ReadPreTokenizer(ModelJson file)
    {
        const int MostSteps = 8;
        ModelJson preTokenizer = file.Object("pre_tokenizer");
        List<ModelJson> steps = Steps(preTokenizer, "pretokenizers");
        if (steps.Count is 0 or > MostSteps)
        {
            throw preTokenizer.Bad($"has {steps.Count} steps, expected 1 to {MostSteps}");
        }
        for (int i = 0; i < steps.Count; i++)
        {
            string type = steps[i].Text("type");
            if (type == "Split")
            {
                _splits.Add(new SplitPattern(steps[i]));
            }
            else if (type != "ByteLevel")
            {
                throw steps[i].Bad($"has the type '{type}', but only 'Split' and 'ByteLevel' are supported");
            }
            else if (steps[i].Flag("add_prefix_space", absent: true))
            {
                throw steps[i].Bad("sets add_prefix_space (by default true), which is not supported");
            }
            else if (i != steps.Count - 1)
            {
                throw steps[i].Bad("is not the last step, as 'ByteLevel' must be");
            }
            else if (steps[i].Flag("use_regex", absent: true))
            {
                _splits.Add(SplitPattern.OfByteLevel(steps[i]));
            }
        }
        if (steps[^1].Text("type") != "ByteLevel")
        {
            throw preTokenizer.Bad("does not end with 'ByteLevel': only byte-level vocabularies are supported");
        }
    }

    private static void CheckDecoder(ModelJson decoder)
    {
        List<ModelJson> steps = [.. Steps(decoder, "decoders").Where(step => step.Text("type") != "Fuse")];
        if (steps.Count != 1 || steps[0].Text("type") is var type && type != "ByteLevel")
        {
            throw decoder.Bad($"has the type '{string.Join(", ", steps.Select(step => step.Text("type")))}', but only 'ByteLevel' is supported");
        }
    }

    // Of type ByteLevel it changes offsets, never ids.
    private static void CheckPostProcessor(ModelJson? processor)
    {
        if (processor is not { } given)
        {
            return;
        }
        foreach (ModelJson step in Steps(given, "processors"))
        {
            string type = step.Text("type");
            if (type == "TemplateProcessing")
            {
                CheckTemplate(step);
            }
            else if (type != "ByteLevel")
            {
                throw step.Bad($"has the type '{type}', but only 'ByteLevel', and 'TemplateProcessing' that adds no token, are supported");
            }
        }
    }

    // What becomes of a single text: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}] puts a token before it.
    private static void CheckTemplate(ModelJson step)
    {
        List<string> tokens = [.. step.Get("single").Items().Select(piece => piece.FindObject("SpecialToken")).OfType<ModelJson>().Select(token => token.Text("id"))];
        if (tokens.Count > 0)
        {
            throw step.Bad($"adds '{string.Join("', '", tokens)}' to every text, which is not supported; remove it if the model does not need that");
        }
    }

    private static ModelJson ReadModel(ModelJson file)
    {
        ModelJson model = file.Object("model");
        // Older files leave the type out.
        string type = model.FindText("type") ?? "BPE";
        return type == "BPE" ? model : throw model.Bad($"has the type '{type}', but only 'BPE' is supported");
    }

    // One step, or those of a sequence.
    private static List<ModelJson> Steps(ModelJson part, string name) => part.Text("type") == "Sequence" ? [.. part.Get(name).Items()] : [part];

    private void ReadAddedTokens(ModelJson file)
    {
        foreach (ModelJson item in file.Find("added_tokens")?.Items() ?? [])
        {
            AddToken(item, item.Text("content"), item.Integer("id", 0, LargestId));
        }
    }

    private void ReadSettings(ModelJson? settings)
    {
        if (settings is not { } given)
        {
            return;
        }
        foreach (var (name, token) in (ReadOnlySpan<(string, string)>)[("add_bos_token", "bos_token"), ("add_eos_token", "eos_token")])
        {
            // Without such a token there is nothing to add.
            if (given.Flag(name, absent: false) && given.Find(token) is { } value)
            {
                throw given.Bad($"has {name} true: {value.Brief()} would be added to every text, which is not supported; make it false if the model does not need that");
            }
        }
        // Tokens that were added after tokenizer.json was written; for those it has, it has the last word.
        foreach (var (name, item) in given.FindObject("added_tokens_decoder")?.Members() ?? [])
        {
            string text = item.Text("content");
            if (_addedTexts.Contains(text))
            {
                continue;
            }
            if (!int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id > LargestId)
            {
                throw item.Bad($"('{text}') should be the id of a token, from 0 to {LargestId}");
            }
            AddToken(item, text, id);
        }
    }

    private void AddToken(ModelJson item, string text, int id)
    {
        var token = new AddedToken(text, id, item.Flag("special", absent: false), item.Flag("normalized", absent: true));
        foreach (string name in (ReadOnlySpan<string>)["single_word", "lstrip", "rstrip"])
        {
            if (item.Flag(name, absent: false))
            {
                throw item.Bad($"('{token.Text}') sets {name}, which is not supported");
            }
        }
        if (_added.GetValueOrDefault(id) == token)
        {
            return; // twice the same
        }
        if (token.Text.Length == 0 || !_addedTexts.Add(token.Text) || !_added.TryAdd(token.Id, token))
        {
            throw item.Bad($"('{token.Text}', id {token.Id}) is empty or repeats the text or id of another added token");
        }
        if (_model.Vocabulary.TryGetValue(token.Text, out int known) && known != token.Id)
        {
            throw item.Bad($"('{token.Text}') has id {token.Id}, but id {known} in the vocabulary");
        }
    }

    private byte[]?[] ReadBytes(ModelJson file)
    {
        int largest = Math.Max(_model.Vocabulary.Values.Max(), _added.Keys.Append(0).Max());
        var bytes = new byte[]?[largest + 1];
        var tokens = _model.Vocabulary.Select(entry => (Text: entry.Key, Id: entry.Value))
            .Concat(_added.Values.Where(token => !_model.Vocabulary.ContainsKey(token.Text)).Select(token => (token.Text, token.Id)));
        foreach (var (text, id) in tokens)
        {
            if (bytes[id] is not null)
            {
                throw file.Bad($"gives id {id} to '{text}' and to another token");
            }
            bytes[id] = ByteAlphabet.Bytes(text);
        }
        return bytes;
    }
}
