//! Settings over settings: flags over a file, a file over a rule, a rule over the defaults of the family.

use super::{Settings, one_line};
use crate::model::ModelKind;
use crate::run::ModelConfig;
use crate::tokenizer::Level;
use crate::train::{OptimizerKind, Schedule, defaults};
use crate::{Error, Result};

impl Settings {
    /// These settings where given, else those of `below`. Of budget, steps and epochs the upper side's counts, and
    /// of the two ways to validate. What suits the upper side no longer is left out of the lower: with another
    /// optimizer the settings of the one below, with a schedule that has no decay the decay, with a decay any other schedule,
    /// with another level its size of vocabulary, with a level that does not merge what cuts merges; an upper `dropout`
    /// replaces all that is below of an LSTM's variational dropout.
    #[must_use]
    pub fn over(self, mut below: Settings) -> Settings {
        if self.budget.is_some() || self.steps.is_some() || self.epochs.is_some() {
            (below.budget, below.steps, below.epochs) = (None, None, None);
        }
        if self.dropout.is_some() {
            (below.dropout_input, below.dropout_hidden, below.dropout_output) = (None, None, None);
        }
        if self.val.is_some() || self.val_fraction.is_some() {
            (below.val, below.val_fraction) = (None, None);
        }
        if self.level.is_some() && below.level.is_some() && self.level != below.level {
            below.vocab_size = None;
        }
        if self.level.is_some_and(|level| !level.merges()) {
            below.bpe_dropout = None;
        }
        if self.optimizer.is_some() && below.optimizer.is_some() && self.optimizer != below.optimizer {
            (below.momentum, below.muon_lr, below.muon_iterations) = (None, None, None);
        }
        if self.optimizer == Some(OptimizerKind::Sgd) {
            (below.spelling, below.beta1, below.beta2) = (None, None, None);
        }
        if self.schedule.is_some_and(|schedule| schedule != Schedule::Wsd) {
            below.lr_decay = None;
        }
        if self.lr_decay.is_some() {
            below.schedule = Some(Schedule::Wsd);
        }
        if self.tied == Some(true) {
            below.calibrate = None;
        }
        macro_rules! over {
            ($($field:ident)*) => {
                Settings {
                    text: if self.text.is_empty() { below.text } else { self.text },
                    $($field: self.$field.or(below.$field),)*
                }
            };
        }
        over!(field keep_wrapping word_format model level vocab_size from lora lora_alpha lora_targets freeze_layers freeze_embeddings
            checkpoint_activations budget steps epochs val val_fraction batch context accumulate
            layers heads width embed tied mogrifier mogrifier_rank forget_bias unigram_bias order dropout
            bpe_dropout dropout_input dropout_hidden dropout_output dropout_embed weight_drop ar tar random_length lr optimizer momentum beta1 beta2 muon_lr
            muon_iterations spelling average calibrate schedule lr_decay warmup weight_decay clip precision seed eval_every sample_every patience checkpoint_every)
    }

    /// Sets one value by its name, as `--set KEY=VALUE` does.
    ///
    /// # Errors
    /// When there is no such setting or the value is not of its kind.
    pub fn set(self, assignment: &str) -> Result<Self> {
        let wrong = |problem: String| Error::setting("set", problem);
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| wrong(format!("`{assignment}` is not KEY=VALUE; write it like --set lr=0.001")))?;
        let (key, value) = (key.trim(), value.trim());
        let parse = |text: String| toml::from_str::<Settings>(&text);
        // A number or a truth value as it is; all else is text, or a list of such.
        let list: Vec<&str> = value.split(',').map(str::trim).collect();
        let parsed = parse(format!("{key} = {value}"))
            .or_else(|e| parse(format!("{key} = {}", toml::Value::from(value))).map_err(|_| e))
            .or_else(|e| parse(format!("{key} = {}", toml::Value::from(list))).map_err(|_| e));
        parsed.map(|upper| upper.over(self)).map_err(|e| wrong(format!("`{assignment}`: {}", one_line(&e))))
    }

    /// Every setting of the family given its default, as it is used and recorded.
    #[must_use]
    pub fn filled(self) -> Settings {
        let (kind, level) = (self.kind(), self.level());
        let optimizer = self.optimizer.unwrap_or_default();
        self.over_defaults(kind, level, defaults::of(kind, level, optimizer))
    }

    /// The same for training on a model that is there: its shape counts, and no setting may contradict it.
    ///
    /// # Errors
    /// When a setting asks for another shape than the base has.
    pub fn filled_for(self, base: &ModelConfig, level: Level) -> Result<Settings> {
        let shape = defaults::shape_of(base, level);
        macro_rules! agree {
            ($($field:ident $flag:literal)*) => {
                $(if let (Some(asked), has) = (&self.$field, &shape.$field) && has.as_ref() != Some(asked) {
                    let has = has.as_ref().map_or("none".into(), |has| format!("{has:?}").to_lowercase());
                    return Err(Error::setting($flag, format!("the base that --from names has {has}; leave the flag out")));
                })*
            };
        }
        agree!(model "model" level "level" layers "layers" heads "heads" width "width" embed "embed" tied "tied"
            order "order" mogrifier "mogrifier" mogrifier_rank "mogrifier-rank"
            forget_bias "forget-bias" unigram_bias "unigram-bias");
        if self.vocab_size.is_some() {
            let problem = "the base that --from names has its own vocabulary; leave the flag out";
            return Err(Error::setting("vocab-size", problem));
        }
        let kind = shape.kind();
        let optimizer = self.optimizer.unwrap_or_default();
        let defaults = shape.over(defaults::tuning(base, self.lora.is_some(), optimizer));
        Ok(self.over_defaults(kind, level, defaults))
    }

    fn over_defaults(self, kind: ModelKind, level: Level, defaults: Settings) -> Settings {
        let (model, level) = (Some(kind), Some(level));
        let held_out = if self.val.is_some() { None } else { Some(self.val_fraction()) };
        Settings { model, level, val_fraction: held_out, ..self.over(defaults) }
    }
}
