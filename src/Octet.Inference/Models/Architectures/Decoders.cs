using Octet.Inference.Models.Layers;

namespace Octet.Inference.Models.Architectures;

/// <summary>The composition most decoders share, by the names they have in Hugging Face's checkpoints.</summary>
internal static class Decoders
{
    /// <summary>Embedding, layers of attention and an MLP, each behind a norm, norm and head.</summary>
    /// <param name="source">Where from.</param>
    /// <param name="mlp">Makes a layer's MLP from its number and the prefix of its tensors, "model.layers.N.".</param>
    public static Decoder Create(LayerSource source, Func<int, string, IMlp> mlp)
    {
        DecoderLayer Layer(int layer)
        {
            var prefix = $"model.layers.{layer}.";
            return new DecoderLayer
            {
                InputNorm = new Norm(source, $"{prefix}input_layernorm"),
                Attention = new Attention(source, $"{prefix}self_attn."),
                PostAttentionNorm = new Norm(source, $"{prefix}post_attention_layernorm"),
                Mlp = mlp(layer, prefix),
            };
        }

        return new Decoder(
            new RankShape(source.Config, source.Sharding), new Head(source, "model.embed_tokens", "lm_head"),
            [.. Enumerable.Range(0, source.Config.LayerCount).Select(Layer)], new Norm(source, "model.norm"));
    }
}
