//! The state from which training goes on to the bit: weights, moments, carried LSTM state, and the counters.
//!
//! One file, written whole, so that a kill at any moment leaves the checkpoint before or the one after.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::AdamW;
use crate::files::{create_dir, read_floats, write_floats};
use crate::model::Trainable;
use crate::{Error, Result};

const FOLDER: &str = "state";
const FILE: &str = "checkpoint.safetensors";

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
    /// Validations since then.
    pub(super) since_best: u64,
    /// Seconds of training, of which `validating` were not spent on steps.
    pub(super) elapsed: f64,
    pub(super) validating: f64,
    /// Sum and number of the losses not reported yet.
    pub(super) losses: (f64, u64),
    /// Length of `metrics.jsonl`.
    pub(super) metrics: u64,
    /// Whether training has come to its end, and why.
    pub(super) finished: Option<String>,
}

pub(super) fn path(run: &Path) -> PathBuf {
    run.join(FOLDER).join(FILE)
}

pub(super) fn save(run: &Path, model: &dyn Trainable, optimizer: &AdamW, progress: &Progress) -> Result<()> {
    let (first, second) = optimizer.moments();
    let carried = model.carried();
    create_dir(&run.join(FOLDER))?;
    let arrays = [("weights", &model.params().data[..]), ("first", first), ("second", second), ("carried", &carried)];
    let text = serde_json::to_string(progress).map_err(|e| Error::damaged(path(run), e.to_string()))?;
    write_floats(&path(run), &arrays, &text)
}

/// Brings model and optimizer to where the checkpoint was; `None` when there is none.
pub(super) fn load(run: &Path, model: &mut dyn Trainable, optimizer: &mut AdamW) -> Result<Option<Progress>> {
    let path = path(run);
    if !path.exists() {
        return Ok(None);
    }
    let (mut arrays, text) = read_floats(&path, &["weights", "first", "second", "carried"])?;
    let unusable = || Error::damaged(&path, "is not a checkpoint of this model; train anew without --resume");
    let progress: Progress = serde_json::from_str(&text).map_err(|_| unusable())?;
    let [weights, first, second, carried] = std::array::from_fn(|i| std::mem::take(&mut arrays[i]));
    let n = model.params().data.len();
    if weights.len() != n || !optimizer.restore(first, second, progress.step) || !model.set_carried(&carried) {
        return Err(unusable());
    }
    model.params_mut().data = weights.into();
    Ok(Some(progress))
}
