//! An LSTM for PyTorch: weights by `torch.nn.LSTM`'s names and the Python file that rebuilds the model.

use std::path::Path;

use super::tensors::{self, Dtype};
use crate::files::{WEIGHTS, write, write_json};
use crate::model::{LstmConfig, Params};
use crate::run::ModelConfig;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

const MODEL: &str = include_str!("model.py");

/// Fills the folder.
pub(super) fn write_folder(dir: &Path, shape: &LstmConfig, params: &Params, tokenizer: &Tokenizer) -> Result<()> {
    if shape.mogrifier > 0 {
        let problem = "torch.nn.LSTM has no Mogrifier; only an LSTM trained without --mogrifier is exported";
        return Err(Error::setting("to", problem));
    }
    let mut config = ModelConfig::Lstm(shape.clone()).to_json(tokenizer.eot());
    config["suppress_tokens"] = tokenizer.suppressed().into();
    write_json(&dir.join("config.json"), &config)?;
    tokenizer.save(dir)?;
    write(&dir.join("model.py"), MODEL.as_bytes())?;
    let even = (0..shape.layers).all(|layer| shape.layer_width(layer) == shape.hidden);
    tensors::write(&dir.join(WEIGHTS), params, Dtype::F32, |name| if even { name.into() } else { of_one_layer(name) })
}

/// `torch.nn.LSTM` has one hidden size: layers of several are LSTMs of one layer in a list.
/// `lstm.weight_ih_l1` is then `lstm.1.weight_ih_l0`.
fn of_one_layer(name: &str) -> String {
    let parts = name.strip_prefix("lstm.").and_then(|rest| rest.rsplit_once("_l"));
    parts.map_or_else(|| name.into(), |(part, layer)| format!("lstm.{layer}.{part}_l0"))
}
