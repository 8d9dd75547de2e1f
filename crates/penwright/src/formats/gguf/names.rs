//! Names of GPT-2's tensors: Hugging Face's and llama.cpp's.

/// The embeddings and the output layer, as llama.cpp names them.
pub(super) const TOKENS: &str = "token_embd.weight";
pub(super) const POSITIONS: &str = "position_embd.weight";
pub(super) const OUTPUT: &str = "output.weight";

const PARTS: [(&str, &str); 6] = [
    ("ln_1", "attn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
];

/// llama.cpp's name of a tensor, by its name in the arena.
pub(super) fn of(name: &str) -> Option<String> {
    let plain = name.strip_prefix("transformer.").unwrap_or(name);
    let named = match plain {
        "wte.weight" => TOKENS,
        "wpe.weight" => POSITIONS,
        "ln_f.weight" => "output_norm.weight",
        "ln_f.bias" => "output_norm.bias",
        "lm_head.weight" => OUTPUT,
        _ => {
            let (layer, rest) = plain.strip_prefix("h.")?.split_once('.')?;
            let (part, kind) = rest.rsplit_once('.')?;
            let (_, part) = PARTS.iter().find(|(theirs, _)| *theirs == part)?;
            return Some(format!("blk.{layer}.{part}.{kind}"));
        }
    };
    Some(named.into())
}

/// Whether the matrix lies turned in a GGUF file: those of blocks are `[inputs, outputs]` in the arena and have a row
/// for each output in the file.
pub(super) fn turned(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.starts_with("transformer.h.")
}
