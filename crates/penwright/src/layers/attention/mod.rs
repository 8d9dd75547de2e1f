//! Causal multi-head self-attention (Vaswani et al. 2017):
//! `out = softmax(scale · q kᵀ, masked to the past) v`, scale = 1/√D, for each head of D channels.
//!
//! Each text and head is a task ([`penwright_kernels::CausalHead`]).

use penwright_kernels::{CausalHead, Cut, Factor, Mask, Matrix, blocks_mut, chunks, chunks_mut, each};

use super::Dropout;

/// The shape of an attention: B texts of T positions, `heads` heads of D channels; C = heads · D.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// T.
    pub time: usize,
    /// Number of heads.
    pub heads: usize,
    /// D.
    pub head_width: usize,
    /// The factor of the scores, 1/√D unless the model is an odd one.
    pub scale: f32,
}

impl Attention {
    fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// How `[B · T, groups · C]` is cut into the parts of texts and heads.
    fn cut(self, rows: usize, groups: usize) -> Cut {
        let cols = groups * self.width();
        Cut { rows, cols, block_rows: self.time, groups, block_cols: self.head_width }
    }

    /// Task `i`.
    fn head<E: Factor>(self, qkv: &[E], i: usize, dropout: Dropout) -> CausalHead<'_, E> {
        let (c, d) = (self.width(), self.head_width);
        let all = Matrix::new(&qkv[i / self.heads * self.time * 3 * c..], self.time, 3 * c);
        let part = |which: usize| all.columns(which * c + i % self.heads * d, d);
        let dropout = self.mask(i, dropout);
        CausalHead { queries: part(0), keys: part(1), values: part(2), scale: self.scale, dropout }
    }

    /// The mask of dropout of task `i`.
    fn mask(self, i: usize, dropout: Dropout) -> Option<Mask> {
        let first = i as u64 * Mask::numbers(self.time);
        dropout.mask().map(|(key, rate)| Mask { key, first, rate })
    }

    /// The part of `[B, T, C]` that belongs to task `i`.
    fn part<E: Factor>(self, x: &[E], i: usize) -> Matrix<'_, E> {
        let c = self.width();
        let all = Matrix::new(&x[i / self.heads * self.time * c..], self.time, c);
        all.columns(i % self.heads * self.head_width, self.head_width)
    }

    /// qkv `[B, T, 3C]` → out `[B, T, C]`, and `logs` `[B, heads, T]` for the backward: `max + ln Σ` of each softmax.
    pub fn forward<E: Factor>(self, qkv: &[E], out: &mut [E], logs: &mut [f32], dropout: Dropout) {
        let cut = self.cut(out.len() / self.width(), 1);
        each((blocks_mut(out, cut), chunks_mut(logs, self.time)), |i, (mut out, logs)| {
            self.head(qkv, i, dropout).forward(&mut out, logs);
        });
    }

    /// out and dout `[B, T, C]` → dqkv `[B, T, 3C]`.
    pub fn backward<E: Factor>(self, qkv: &[E], out: &[E], logs: &[f32], dout: &[E], dqkv: &mut [E], dropout: Dropout) {
        let cut = self.cut(out.len() / self.width(), 3);
        each((blocks_mut(dqkv, cut), chunks(logs, self.time)), |i, (mut dqkv, logs)| {
            self.head(qkv, i, dropout).backward(self.part(out, i), logs, self.part(dout, i), &mut dqkv);
        });
    }
}

#[cfg(test)]
mod tests;
