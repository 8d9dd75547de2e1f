//! A Hugging Face directory of a GPT-2.

use std::path::Path;

use super::card::Card;
use super::tensors::{self, Dtype};
use crate::Result;
use crate::files::{WEIGHTS, read_json, write, write_json};
use crate::formats::hf;

/// Fills the folder with what `AutoModelForCausalLM` and `AutoTokenizer` read, and the model card.
pub(super) fn write_folder(dir: &Path, card: &Card<'_>, dtype: Dtype) -> Result<()> {
    let mut config = hf::config::to_json(card.shape, card.tokenizer.eot());
    config["torch_dtype"] = dtype.torch().into();
    write_json(&dir.join("config.json"), &config)?;
    write_json(&dir.join("generation_config.json"), &hf::config::generation(card.tokenizer))?;
    card.tokenizer.save(dir)?;
    let path = dir.join("tokenizer_config.json");
    let mut config = read_json(&path)?;
    config["model_max_length"] = card.shape.context.into();
    write_json(&path, &config)?;
    write(&dir.join("README.md"), card.markdown().as_bytes())?;
    tensors::write(&dir.join(WEIGHTS), card.params, dtype, str::to_string)
}
