//! What keeps an LSTM from learning its text by heart (Merity, Keskar and Socher 2018, arXiv 1708.02182).

use penwright_kernels::{self as kernels, Element, Neighbours, chunks_mut, each};
use serde::{Deserialize, Serialize};

use super::LstmConfig;
use crate::layers::{CHUNK, Dropout, Locked, LockedRows};
use crate::{Error, Result};

/// Regularisation of an LSTM's training, each part with a switch of its own.
///
/// Variational dropout (Gal and Ghahramani 2016) multiplies by one mask for all time steps of a window. Its three rates
/// are that of [`Dropout`] where they are not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Regularization {
    /// Variational dropout of the embedding's output.
    pub dropout_input: Option<f32>,
    /// Variational dropout between layers.
    pub dropout_hidden: Option<f32>,
    /// Variational dropout of the last layer's output.
    pub dropout_output: Option<f32>,
    /// Embedding dropout (Gal and Ghahramani 2016): whole rows of the embedding, the same words for a whole step; the
    /// others are scaled by 1 / (1 − p). An output layer that is tied to the embedding is not affected.
    pub dropout_embed: f32,
    /// Weight-drop: DropConnect (Wan et al. 2013) on the recurrent weights, one mask a step.
    pub weight_drop: f32,
    /// Activation regularisation (Merity, McCann and Socher 2017): α times the mean square of the last layer's output
    /// after its dropout is added to the loss that is minimised, not to the loss that is reported.
    pub ar: f32,
    /// Temporal activation regularisation: β times the mean square of the difference between the last layer's outputs
    /// of neighbouring steps, before dropout, likewise.
    pub tar: f32,
}

/// Where in the model a mask belongs; each layer's output has the number of the layer.
const INPUT: u64 = 1 << 32;
const EMBEDDING: u64 = INPUT + 1;
const WEIGHTS: u64 = 2 << 32;

impl Regularization {
    /// # Errors
    /// When a value cannot work; the sentence names its flag.
    pub(crate) fn check(&self) -> Result<()> {
        let rates = [
            ("dropout-input", self.dropout_input),
            ("dropout-hidden", self.dropout_hidden),
            ("dropout-output", self.dropout_output),
            ("dropout-embed", Some(self.dropout_embed)),
            ("weight-drop", Some(self.weight_drop)),
        ];
        for (name, rate) in rates {
            if let Some(rate) = rate {
                Error::check_rate(name, rate)?;
            }
        }
        for (name, value) in [("ar", self.ar), ("tar", self.tar)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::setting(name, format!("{value} is not a number from 0 up")));
            }
        }
        Ok(())
    }
}

/// The masks of a step, and what else is regularised in it.
#[derive(Default)]
pub(super) struct Masks {
    /// Of the embedding's output, `[B, E]`.
    pub(super) input: Locked,
    /// Of the layers' outputs, `[B, H]`.
    pub(super) outputs: Vec<Locked>,
    /// Of the embedding's rows, by token.
    pub(super) embedding: Dropout,
    /// Of the layers' recurrent weights, each at its place.
    weights: Dropout,
    ar: f32,
    tar: f32,
}

impl Masks {
    /// Draws the masks of a step with the numbers of `dropout`.
    pub(super) fn draw(
        &mut self,
        config: &LstmConfig,
        batch: usize,
        regularization: &Regularization,
        dropout: Dropout,
    ) {
        let at = |place, rate: Option<f32>| dropout.at(place).with_rate(rate.unwrap_or(dropout.rate()));
        self.input.draw(at(INPUT, regularization.dropout_input), batch, config.embed);
        self.outputs.resize_with(config.layers, Locked::default);
        for (l, mask) in self.outputs.iter_mut().enumerate() {
            let last = l + 1 == config.layers;
            let rate = if last { regularization.dropout_output } else { regularization.dropout_hidden };
            mask.draw(at(l as u64, rate), batch, config.layer_width(l));
        }
        self.embedding = at(EMBEDDING, Some(regularization.dropout_embed));
        self.weights = dropout.with_rate(regularization.weight_drop);
        (self.ar, self.tar) = (regularization.ar, regularization.tar);
    }

    /// What of the outputs of a layer is dropped.
    pub(super) fn output(&self, layer: usize) -> Option<LockedRows<'_>> {
        self.outputs.get(layer).and_then(Locked::get)
    }

    /// What of the recurrent weights of a layer is dropped.
    pub(super) fn weights(&self, layer: usize) -> Dropout {
        self.weights.at(WEIGHTS + layer as u64)
    }

    /// From the gradient `d` `[T · B, H]` of the last layer's outputs as the output layer reads them to that of the
    /// outputs `h` as they are, whose rows begin `stride` elements apart; AR and TAR are in it then.
    pub(super) fn outputs_back<E: Element>(
        &self,
        d: &mut [E],
        (h, stride): (&[E], usize),
        (batch, width): (usize, usize),
    ) {
        let mask = self.outputs.last().and_then(Locked::get);
        if mask.is_none() && self.ar == 0.0 && self.tar == 0.0 {
            return;
        }
        let rows = d.len() / width;
        let activity = 2.0 * self.ar / d.len() as f32;
        let change = 2.0 * self.tar / (d.len() - batch * width).max(1) as f32;
        let ones = vec![1.0; if mask.is_none() { width } else { 0 }];
        each(chunks_mut(d, CHUNK * width), |task, d| {
            for (i, d) in d.chunks_exact_mut(width).enumerate() {
                let at = task * CHUNK + i;
                let row = |at: usize| &h[at * stride..][..width];
                let before = row(at.checked_sub(batch).unwrap_or(at));
                let after = row(if at + batch < rows { at + batch } else { at });
                let mask = mask.map_or(&ones[..], |mask| mask.of(at));
                kernels::outputs_backward(d, Neighbours { before, now: row(at), after }, mask, activity, change);
            }
        });
    }
}
