//! What can be known to be wrong before any text is read.

use super::Settings;
use crate::corpus::WordFormat;
use crate::model::ModelKind;
use crate::run::ModelConfig;
use crate::tokenizer::Level;
use crate::train::OptimizerKind;
use crate::train::options::cannot_calibrate;
use crate::{Error, Result};

impl Settings {
    /// # Errors
    /// When what only an LSTM has is asked of another model.
    fn check_lstm(&self) -> Result<()> {
        let given = [
            ("dropout-input", self.dropout_input.is_some()),
            ("dropout-hidden", self.dropout_hidden.is_some()),
            ("dropout-output", self.dropout_output.is_some()),
            ("dropout-embed", self.dropout_embed.is_some()),
            ("weight-drop", self.weight_drop.is_some()),
            ("ar", self.ar.is_some()),
            ("mogrifier", self.mogrifier.is_some()),
            ("mogrifier-rank", self.mogrifier_rank.is_some()),
            ("forget-bias", self.forget_bias.is_some()),
            ("unigram-bias", self.unigram_bias == Some(true)),
            ("tar", self.tar.is_some()),
            ("random-length", self.random_length == Some(true)),
        ];
        if self.kind() == ModelKind::Lstm {
            return Ok(());
        }
        refuse(&given, &format!("is for an LSTM, not for {}; leave it out", self.kind()))
    }

    /// What can be known to be wrong before any text is read. Of filled settings.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_lstm()?;
        if self.word_format.is_some_and(|format| format != WordFormat::Text) && self.level() != Level::Word {
            return Err(Error::setting("word-format", "is of the word level; add --level word"));
        }
        if self.bpe_dropout.is_some_and(|rate| rate > 0.0) && !self.level().merges() {
            return Err(Error::setting("bpe-dropout", "is for pieces of words; add --level bpe"));
        }
        if let Some(bias) = self.forget_bias.filter(|bias| !bias.is_finite()) {
            return Err(Error::setting("forget-bias", format!("{bias} is not a number")));
        }
        if self.calibrate == Some(true) && (self.lora.is_some() || self.tied == Some(true)) {
            return Err(cannot_calibrate());
        }
        if self.lora.is_none() {
            let given = [("lora-alpha", self.lora_alpha.is_some()), ("lora-targets", self.lora_targets.is_some())];
            refuse(&given, "needs --lora RANK")?;
        }
        if self.lora.is_some() && self.optimizer == Some(OptimizerKind::Muon) {
            let problem = "muon moves hidden matrices, of which adapters have none; use adamw or sgd";
            return Err(Error::setting("optimizer", problem));
        }
        if self.from.is_some() && self.optimizer == Some(OptimizerKind::Sgd) && self.lr.is_none() {
            let problem = "has no default for sgd on a model that is there; give one, such as 0.1";
            return Err(Error::setting("lr", problem));
        }
        if self.from.is_some() {
            return self.train_options().check();
        }
        let tuning = [
            ("lora", self.lora.is_some()),
            ("freeze-layers", self.freeze_layers.is_some()),
            ("freeze-embeddings", self.freeze_embeddings.is_some()),
        ];
        refuse(&tuning, "needs a model that is there; name one with --from")?;
        match self.model_config(1) {
            ModelConfig::Ngram(shape) => return shape.check(),
            ModelConfig::Lstm(shape) => shape.check()?,
            ModelConfig::Gpt2(shape) => shape.check()?,
        }
        self.train_options().check()
    }
}

/// # Errors
/// With the first flag that is given.
fn refuse(flags: &[(&'static str, bool)], problem: &str) -> Result<()> {
    let given = flags.iter().find(|(_, given)| *given);
    given.map_or(Ok(()), |(flag, _)| Err(Error::setting(flag, problem)))
}
