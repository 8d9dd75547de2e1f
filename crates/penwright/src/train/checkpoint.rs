//! The state from which training goes on to the bit: weights, what the optimizer remembers, carried LSTM state, the
//! average of the weights, and the counters.
//!
//! One file, written whole, so that a kill at any moment leaves the checkpoint before or the one after.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Batches;
use super::cutting::Place;
use super::optimizer::{Average, Optimizer, Validations};
use crate::files::{create_dir, read_floats, write_floats};
use crate::model::Trainable;
use crate::{Error, Result};

const FOLDER: &str = "state";
const FILE: &str = "checkpoint.safetensors";
const WEIGHTS: &str = "weights";
const CARRIED: &str = "carried";
const AVERAGE: &str = "average";

/// Everything that changes as training goes, beside the arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What the run was started with; a resumed run must be the same.
    pub(super) fingerprint: String,
    /// Steps taken.
    pub(super) step: u64,
    /// Steps in all; `None` while a budget's speed is being measured.
    pub(super) total: Option<u64>,
    /// Steps between validations.
    pub(super) eval_every: u64,
    /// The lowest validation loss and its bits a character.
    pub(super) best: Option<(f64, f64)>,
    /// What the logits were divided by in the last validation.
    #[serde(default = "one")]
    pub(super) temperature: f32,
    /// Validations since then.
    pub(super) since_best: u64,
    /// Seconds of a validation, where a budget needs to know them.
    #[serde(default)]
    pub(super) validation: f64,
    /// Tokens of the excerpt that is validated on, where that is not the whole text.
    #[serde(default)]
    pub(super) excerpt: Option<usize>,
    /// When the end of a budget was laid last: the step, and then seconds as the next two are.
    #[serde(default)]
    pub(super) laid: (u64, f64, f64),
    /// The step of the last validation.
    #[serde(default)]
    pub(super) validated: Option<u64>,
    /// Validation losses, where averaging is triggered by them.
    #[serde(default)]
    pub(super) validations: Validations,
    /// Where an LSTM's streams are, if tokens are cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) places: Vec<Place>,
    /// Weights that are averaged already, where they are.
    #[serde(default)]
    pub(super) averaged: Option<u64>,
    /// Seconds of training, in a budget those of making ready too, of which `validating` were not spent on steps.
    pub(super) elapsed: f64,
    pub(super) validating: f64,
    /// Sum and number of the losses not reported yet.
    pub(super) losses: (f64, u64),
    /// Length of `metrics.jsonl`.
    pub(super) metrics: u64,
    /// Whether training has come to its end, and why.
    pub(super) finished: Option<String>,
}

fn one() -> f32 {
    1.0
}

pub(super) fn path(run: &Path) -> PathBuf {
    run.join(FOLDER).join(FILE)
}

pub(super) fn save(
    run: &Path,
    model: &dyn Trainable,
    optimizer: &dyn Optimizer,
    average: Option<&Average>,
    progress: &Progress,
) -> Result<()> {
    let carried = model.carried();
    create_dir(&run.join(FOLDER))?;
    let mut arrays = vec![(WEIGHTS, &model.params().data[..])];
    arrays.extend(optimizer.state());
    arrays.push((CARRIED, &carried));
    arrays.extend(average.map(|average| (AVERAGE, average.values())));
    let text = serde_json::to_string(progress).map_err(|e| Error::damaged(path(run), e.to_string()))?;
    write_floats(&path(run), &arrays, &text)
}

/// A checkpoint as it was read.
pub(super) struct Saved {
    pub(super) progress: Progress,
    arrays: HashMap<String, Vec<f32>>,
}

/// Reads the checkpoint of a run; `None` when there is none.
pub(super) fn read(run: &Path) -> Result<Option<Saved>> {
    let path = path(run);
    if !path.exists() {
        return Ok(None);
    }
    let (arrays, text) = read_floats(&path)?;
    let progress = serde_json::from_str(&text).map_err(|_| unusable(&path))?;
    Ok(Some(Saved { progress, arrays: arrays.into_iter().collect() }))
}

fn unusable(path: &Path) -> Error {
    Error::damaged(path, "is not a checkpoint of this model; train anew without --resume")
}

impl Saved {
    /// Brings model, optimizer, average and batches to where the checkpoint was.
    pub(super) fn restore(
        self,
        run: &Path,
        model: &mut dyn Trainable,
        optimizer: &mut dyn Optimizer,
        average: &mut Option<Average>,
        batches: &mut Batches<'_>,
    ) -> Result<Progress> {
        let Saved { mut progress, mut arrays } = self;
        let mut take = |name: &str| arrays.remove(name).unwrap_or_default();
        let (weights, carried, averaged) = (take(WEIGHTS), take(CARRIED), take(AVERAGE));
        let mut fits = weights.len() == model.params().data.len() && model.set_carried(&carried);
        fits &= optimizer.restore(&mut |name| take(name), progress.step);
        if let Some(steps) = progress.averaged {
            // An average that was triggered is there only from then on.
            fits &= average.get_or_insert_with(|| Average::even(weights.clone())).restore(averaged, steps);
        }
        fits &= batches.go_on(std::mem::take(&mut progress.places));
        if !fits {
            return Err(unusable(&path(run)));
        }
        model.params_mut().data = weights.into();
        Ok(progress)
    }
}
