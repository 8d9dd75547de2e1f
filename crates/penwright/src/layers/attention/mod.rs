//! Causal multi-head self-attention (Vaswani et al. 2017):
//! `out = softmax(scale · q kᵀ, masked to the past) v`, scale = 1/√D, for each head of D channels.
//!
//! Each text and head is a task. It takes some queries at a time: their scores against all keys up to the last of
//! them are a strip that stays in the cache, and nothing of size T × T is kept; the backward computes the strips
//! again from the logarithms of the softmax's sums, as FlashAttention does (Dao et al. 2022).

use penwright_kernels::{
    self as kernels, BlockMut, Cut, Factor, Init, Matrix, Packed, blocks_mut, chunks, chunks_mut, each, product_here,
};

use super::Dropout;

/// Queries a strip: whole register tiles.
const STRIP: usize = 24;

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

/// A task's working memory.
#[derive(Default)]
struct Work<E: Factor> {
    keys: Packed<E>,
    keys_t: Packed<E>,
    values: Packed<E>,
    scores: Vec<f32>,
    dscores: Vec<f32>,
    dropped: Vec<f32>,
    sums: Vec<f32>,
}

/// At least `len` elements of a buffer.
fn part(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
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

    /// Query (0), key (1) or value (2) of task `i`, `[T, D]`.
    fn part<E: Factor>(self, qkv: &[E], i: usize, which: usize) -> Matrix<'_, E> {
        let (c, text, head) = (self.width(), i / self.heads, i % self.heads);
        Matrix::new(&qkv[text * self.time * 3 * c..], self.time, 3 * c)
            .columns(which * c + head * self.head_width, self.head_width)
    }

    /// Dropout on a strip of probabilities `[rows, width]` of task `i`, whose first query is `first`.
    fn drop(self, dropout: Dropout, strip: &mut [f32], width: usize, i: usize, first: usize) {
        if dropout.is_on() {
            for (t, row) in strip.chunks_exact_mut(width).enumerate() {
                let seen = first + t + 1;
                dropout.apply_here(&mut row[..seen], (i * self.time + first + t) * self.time);
            }
        }
    }

    /// qkv `[B, T, 3C]` → out `[B, T, C]`, and `logs` `[B, heads, T]` for the backward: `max + ln Σ` of each softmax.
    pub fn forward<E: Factor>(self, qkv: &[E], out: &mut [E], logs: &mut [f32], dropout: Dropout) {
        let (t_max, d) = (self.time, self.head_width);
        let rows = out.len() / self.width();
        each((blocks_mut(out, self.cut(rows, 1)), chunks_mut(logs, t_max)), |i, (mut out, logs)| {
            let mut work = Work::<E>::default();
            let q = self.part(qkv, i, 0);
            work.keys_t.pack(self.part(qkv, i, 1).t());
            work.values.pack(self.part(qkv, i, 2));
            for first in (0..t_max).step_by(STRIP) {
                let n = STRIP.min(t_max - first);
                let (seen, width) = (first + n, (first + n).next_multiple_of(work.keys_t.panel()));
                let p = part(&mut work.scores, n * width);
                work.keys_t.multiply(&mut BlockMut::whole(p, n, width), Init::Zero, q.rows(first, n), 0);
                kernels::causal_softmax(p, width, first, self.scale, &mut logs[first..seen]);
                self.drop(dropout, p, width, i, first);
                let sums = part(&mut work.sums, n * d);
                let p = Matrix::strided(p, n, seen, width);
                work.values.multiply(&mut BlockMut::whole(sums, n, d), Init::Zero, p, 0);
                round(sums, &mut out.rows_mut(first, n));
            }
        });
    }

    /// out and dout `[B, T, C]` → dqkv `[B, T, 3C]`.
    pub fn backward<E: Factor>(self, qkv: &[E], out: &[E], logs: &[f32], dout: &[E], dqkv: &mut [E], dropout: Dropout) {
        let (t_max, c, d) = (self.time, self.width(), self.head_width);
        let rows = out.len() / c;
        each((blocks_mut(dqkv, self.cut(rows, 3)), chunks(logs, t_max)), |i, (mut dqkv, logs)| {
            let mut work = Work::<E>::default();
            let (q, k, v) = (self.part(qkv, i, 0), self.part(qkv, i, 1), self.part(qkv, i, 2));
            let dout = Matrix::new(&dout[i / self.heads * t_max * c..], t_max, c).columns(i % self.heads * d, d);
            work.keys.pack(k);
            work.keys_t.pack(k.t());
            work.values.pack(v.t());
            let (dq, dkv) = part(&mut work.sums, (2 * t_max + STRIP) * d).split_at_mut(STRIP * d);
            let (dk, dv) = dkv.split_at_mut(t_max * d);
            // From the last strip, which sees all keys and so can set dk and dv; the others add to them.
            for first in (0..t_max).step_by(STRIP).rev() {
                let n = STRIP.min(t_max - first);
                let (seen, width) = (first + n, (first + n).next_multiple_of(work.keys.panel()));
                let init = if seen == t_max { Init::Zero } else { Init::Add };
                let (q, dout) = (q.rows(first, n), dout.rows(first, n));
                let p = part(&mut work.scores, n * width);
                work.keys_t.multiply(&mut BlockMut::whole(p, n, width), Init::Zero, q, 0);
                kernels::causal_probabilities(p, width, first, self.scale, &logs[first..seen]);
                let dp = part(&mut work.dscores, n * width);
                work.values.multiply(&mut BlockMut::whole(dp, n, width), Init::Zero, dout, 0);
                self.drop(dropout, dp, width, i, first);
                // dv += (dropped p)ᵀ dout
                let weights = if dropout.is_on() {
                    let dropped = part(&mut work.dropped, n * width);
                    dropped.copy_from_slice(p);
                    self.drop(dropout, dropped, width, i, first);
                    &*dropped
                } else {
                    &*p
                };
                let weights = Matrix::strided(weights, n, seen, width);
                product_here::<E, _, _>(&mut BlockMut::whole(dv, seen, d), init, weights.t(), dout);
                // dq = ds k; dk += dsᵀ q
                kernels::softmax_backward(p, dp, width, self.scale);
                let ds = Matrix::strided(dp, n, seen, width);
                work.keys.multiply(&mut BlockMut::whole(dq, n, d), Init::Zero, ds, 0);
                round(dq, &mut dqkv.group(0).rows_mut(first, n));
                product_here::<E, _, _>(&mut BlockMut::whole(dk, seen, d), init, ds.t(), q);
            }
            round(dk, &mut dqkv.group(1));
            round(dv, &mut dqkv.group(2));
        });
    }
}

/// Sums `[rows, width]` as the numbers that products multiply.
fn round<E: Factor>(sums: &[f32], to: &mut BlockMut<'_, E>) {
    for (i, sums) in sums.chunks_exact(to.width()).take(to.rows()).enumerate() {
        let [to] = to.row(i);
        to.iter_mut().zip(sums).for_each(|(t, s)| *t = E::of(*s));
    }
}

#[cfg(test)]
mod tests;
