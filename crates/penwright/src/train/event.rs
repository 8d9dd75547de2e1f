//! What happens as training goes: for progress on a screen and for the record `metrics.jsonl`.

use serde::{Deserialize, Serialize};

/// One thing that happened. As JSON, `event` names the variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// Training begins.
    Plan {
        /// Family of the model.
        model: String,
        /// Number of parameters.
        params: u64,
        /// Number of them that are trained, where not all are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trained_params: Option<u64>,
        /// Training tokens.
        train_tokens: u64,
        /// Validation tokens.
        val_tokens: u64,
        /// Optimizer steps, where known before the start.
        steps: Option<u64>,
        /// Bytes of memory that weights, gradients, moments and activations take.
        memory_bytes: u64,
        /// Floating-point operations a token, forward and backward.
        flops_per_token: f64,
        /// The step from which a resumed run goes on; 0 for a new one.
        resumed_at: u64,
        /// Why the settings are what they are, a sentence each; empty where nothing was chosen.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
    },
    /// A step was taken; reported every ten.
    Step {
        /// Steps taken.
        step: u64,
        /// Steps in all, as planned by now.
        steps: Option<u64>,
        /// Tokens trained on so far.
        tokens: u64,
        /// Passes over the training text so far.
        epoch: f64,
        /// Seconds since training began; of a run with a budget since its making ready did.
        elapsed_s: f64,
        /// Mean loss of the steps since the last report, nats a token.
        train_loss: f64,
        /// Learning rate of the step.
        lr: f32,
        /// Global norm of the gradient before clipping.
        grad_norm: f32,
        /// Tokens a second in training, validation not counted.
        tokens_per_s: f64,
    },
    /// Validations of the whole text would take too long: they score an excerpt of it, the same each time.
    Excerpt {
        /// Tokens of the excerpt, in stretches spread evenly over the text.
        tokens: u64,
        /// Tokens of the whole text.
        of: u64,
        /// Seconds that the whole would take each time, where that was measured, as in a budget.
        whole_s: Option<f64>,
    },
    /// The validation text was scored, or the excerpt of it.
    Eval {
        /// Steps taken.
        step: u64,
        /// Seconds, counted as those of a step.
        elapsed_s: f64,
        /// Nats a token.
        val_loss: f64,
        /// Bits a character.
        val_bits_per_char: f64,
        /// What the logits were divided by, where they were calibrated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temperature: Option<f32>,
    },
    /// The model as it is now wrote something.
    Sample {
        /// Steps taken.
        step: u64,
        /// What it wrote.
        text: String,
    },
    /// Training is over.
    Done {
        /// The run directory.
        run: String,
        /// Why: "finished", "patience" or "interrupted"; in the record also "diverged".
        reason: String,
        /// Steps taken.
        steps: u64,
        /// Tokens trained on.
        tokens: u64,
        /// Seconds in all, counted as those of a step.
        elapsed_s: f64,
        /// The lowest validation loss, nats a token; `null` when there was no validation yet.
        best_val_loss: Option<f64>,
        /// The same in bits a character.
        best_val_bits_per_char: Option<f64>,
        /// Number of parameters.
        params: u64,
    },
}
