//! A Hugging Face directory of a GPT-2.

use std::path::Path;

use serde_json::{Value, json};

use super::card::Card;
use super::tensors::{self, Dtype};
use crate::Result;
use crate::files::{WEIGHTS, read_json, write, write_json};
use crate::formats::hf;
use crate::tokenizer::Tokenizer;

/// Fills the folder with what `AutoModelForCausalLM` and `AutoTokenizer` read, and the model card.
pub(super) fn write_folder(dir: &Path, card: &Card<'_>, dtype: Dtype) -> Result<()> {
    let mut config = hf::config::to_json(card.shape, card.tokenizer.eot());
    config["torch_dtype"] = dtype.torch().into();
    write_json(&dir.join("config.json"), &config)?;
    write_json(&dir.join("generation_config.json"), &generation_config(card.tokenizer))?;
    card.tokenizer.save(dir)?;
    let path = dir.join("tokenizer_config.json");
    let mut config = read_json(&path)?;
    config["model_max_length"] = card.shape.context.into();
    write_json(&path, &config)?;
    write(&dir.join("README.md"), card.markdown().as_bytes())?;
    tensors::write(&dir.join(WEIGHTS), card.params, dtype, str::to_string)
}

/// `generation_config.json`: with it `model.generate` ends texts, and leaves out tokens, as Penwright does.
fn generation_config(tokenizer: &Tokenizer) -> Value {
    let eot = tokenizer.eot();
    let mut config = json!({
        "bos_token_id": eot, "eos_token_id": eot, "pad_token_id": eot, "do_sample": true, "temperature": 0.8
    });
    if !tokenizer.suppressed().is_empty() {
        config["suppress_tokens"] = tokenizer.suppressed().into();
    }
    config
}
