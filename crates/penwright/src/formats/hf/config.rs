//! `config.json` of a GPT-2, as `transformers.GPT2Config` writes it.

use std::path::Path;

use serde_json::{Value, json};

use crate::layers::Activation;
use crate::model::Gpt2Config;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Sizes beyond this are damage, not models; the bound keeps products from overflowing.
pub(crate) const LARGEST: u64 = 1 << 24;

/// Writes the configuration; `eot` is the end-of-text token.
pub(crate) fn to_json(c: &Gpt2Config, eot: u32) -> Value {
    json!({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": c.vocab,
        "n_positions": c.context, "n_ctx": c.context, "n_embd": c.width, "n_layer": c.layers, "n_head": c.heads,
        "n_inner": c.inner, "activation_function": c.activation.name(), "layer_norm_epsilon": short(c.epsilon),
        "scale_attn_weights": c.scale_by_width, "scale_attn_by_inverse_layer_idx": c.scale_by_layer,
        "bos_token_id": eot, "eos_token_id": eot, "tie_word_embeddings": c.tied, "torch_dtype": "float32"
    })
}

/// `generation_config.json`: with it `model.generate` ends texts, and leaves out tokens, as Penwright does.
pub(crate) fn generation(tokenizer: &Tokenizer) -> Value {
    let eot = tokenizer.eot();
    let mut config = json!({
        "bos_token_id": eot, "eos_token_id": eot, "pad_token_id": eot, "do_sample": true, "temperature": 0.8
    });
    if !tokenizer.suppressed().is_empty() {
        config["suppress_tokens"] = tokenizer.suppressed().into();
    }
    config
}

/// The shortest decimal that is the same `f32`, so that 1e-5 is written as such.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// Reads the configuration at `path`. What is not given has `GPT2Config`'s default.
///
/// # Errors
/// When a value is damaged, or names a variant whose numbers would be others; the sentence names it.
pub(crate) fn from_json(path: &Path, json: &Value) -> Result<Gpt2Config> {
    let damaged = |problem: String| Error::damaged(path, problem);
    let size = |keys: &[&str], default: usize| {
        let given = keys.iter().find_map(|&key| Some((key, json.get(key).filter(|value| !value.is_null())?)));
        let Some((key, value)) = given else { return Ok(default) };
        let size = value.as_u64().filter(|&n| n > 0 && n < LARGEST).map(|n| n as usize);
        size.ok_or_else(|| damaged(format!("has {key} {value}, which is not a size; copy it again")))
    };
    let flag = |key: &str, default: bool| json.get(key).and_then(Value::as_bool).unwrap_or(default);
    refuse_variants(path, json)?;
    let plain = Gpt2Config::default();
    let activation = match json.get("activation_function").filter(|value| !value.is_null()) {
        None => plain.activation,
        Some(name) => name.as_str().and_then(Activation::from_name).ok_or_else(|| {
            damaged(format!("has activation_function {name}, which Penwright does not know; it knows gelu_new, gelu, quick_gelu, relu, silu and tanh"))
        })?,
    };
    let epsilon = json.get("layer_norm_epsilon").map_or(Some(f64::from(plain.epsilon)), Value::as_f64);
    let epsilon = epsilon.filter(|e| (0.0..1.0).contains(e));
    let config = Gpt2Config {
        vocab: size(&["vocab_size"], plain.vocab)?,
        context: size(&["n_positions", "n_ctx"], plain.context)?,
        layers: size(&["n_layer"], plain.layers)?,
        heads: size(&["n_head"], plain.heads)?,
        width: size(&["n_embd"], plain.width)?,
        inner: Some(size(&["n_inner"], 0)?).filter(|&n| n > 0),
        activation,
        epsilon: epsilon.ok_or_else(|| damaged("has a layer_norm_epsilon that is not between 0 and 1".into()))? as f32,
        scale_by_width: flag("scale_attn_weights", true),
        scale_by_layer: flag("scale_attn_by_inverse_layer_idx", false),
        tied: flag("tie_word_embeddings", true),
    };
    if !config.width.is_multiple_of(config.heads) {
        return Err(damaged(format!("has n_embd {} that n_head {} does not divide", config.width, config.heads)));
    }
    Ok(config)
}

/// Variants whose numbers would be others. `reorder_and_upcast_attn` changes only the order of products in half
/// precision: in f32, which Penwright computes in, it is the same function.
fn refuse_variants(path: &Path, json: &Value) -> Result<()> {
    let refused = |what: &str, remedy: &str| {
        Err(Error::damaged(path, format!("has {what}, which Penwright does not know; {remedy}")))
    };
    if json.get("add_cross_attention").and_then(Value::as_bool) == Some(true) {
        return refused("add_cross_attention", "use a GPT-2 that is a decoder alone");
    }
    if json.get("pruned_heads").and_then(Value::as_object).is_some_and(|heads| !heads.is_empty()) {
        return refused("pruned_heads", "use the model before pruning");
    }
    if json.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return refused("quantization_config", "use the unquantised weights, or a .gguf file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> Result<Gpt2Config> {
        from_json(Path::new("config.json"), &json)
    }

    #[test]
    fn written_and_read_again() {
        let odd = Gpt2Config {
            inner: Some(100),
            activation: Activation::Relu,
            epsilon: 1e-6,
            scale_by_width: false,
            scale_by_layer: true,
            tied: false,
            ..Gpt2Config::default()
        };
        for config in [Gpt2Config::default(), odd] {
            let json = to_json(&config, 7);
            assert_eq!(read(json.clone()).unwrap(), config);
            assert!([1e-5, 1e-6].contains(&json["layer_norm_epsilon"].as_f64().unwrap()));
        }
        assert_eq!(read(json!({})).unwrap(), Gpt2Config::default(), "GPT2Config's defaults are gpt2");
        let upcast = json!({"reorder_and_upcast_attn": true, "n_inner": null, "activation_function": "gelu_fast"});
        assert_eq!(read(upcast).unwrap(), Gpt2Config::default());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (json, name) in [
            (json!({"activation_function": "mish"}), "mish"),
            (json!({"add_cross_attention": true}), "add_cross_attention"),
            (json!({"pruned_heads": {"0": [1]}}), "pruned_heads"),
            (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            (json!({"n_embd": 1u64 << 40}), "n_embd"),
            (json!({"n_layer": -1}), "n_layer"),
            (json!({"n_head": 5}), "n_head"),
            (json!({"layer_norm_epsilon": "x"}), "layer_norm_epsilon"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
        }
    }
}
