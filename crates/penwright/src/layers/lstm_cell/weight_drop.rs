//! DropConnect (Wan et al. 2013) on the recurrent weights, one mask a step, as AWD-LSTM has it (Merity, Keskar and
//! Socher 2018): the layer computes with `W = m ⊙ W_hh / (1 − p)`, and the gradient of `W_hh` is that of W through the
//! same mask.

use penwright_kernels::{chunks, chunks_mut, each};

use super::LstmLayer;
use crate::layers::{Dropout, TASK};

impl LstmLayer {
    /// `W_hh` as the step has it, in `memory` where anything is dropped.
    pub(super) fn recurrent_weights<'a>(&self, p: &'a [f32], drop: Dropout, memory: &'a mut Vec<f32>) -> &'a [f32] {
        let weights = &p[self.recurrent.clone()];
        if !drop.is_on() {
            return weights;
        }
        memory.resize(weights.len(), 0.0);
        each((chunks_mut(memory, TASK), chunks(weights, TASK)), |task, (to, from)| {
            to.copy_from_slice(from);
            drop.apply_here(to, task * TASK);
        });
        memory
    }

    /// The gradient of what was dropped from, in `memory`, through the mask into that of `W_hh`.
    pub(super) fn recurrent_gradient(&self, grads: &mut [f32], fresh: bool, drop: Dropout, memory: &mut [f32]) {
        if !drop.is_on() {
            return;
        }
        let grads = &mut grads[self.recurrent.clone()];
        let memory = &mut memory[..grads.len()];
        each((chunks_mut(grads, TASK), chunks_mut(memory, TASK)), |task, (to, from)| {
            drop.apply_here(from, task * TASK);
            match fresh {
                true => to.copy_from_slice(from),
                false => penwright_kernels::add(to, from),
            }
        });
    }
}
