//! Causal multi-head self-attention (Vaswani et al. 2017):
//! `out = softmax(q kᵀ / √D, masked to the past) v` for each head of D channels.

use penwright_kernels::{dot, exp};
use rayon::prelude::*;

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
}

impl Attention {
    fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// Softmax of the scores of position `t` over `0..=t`, into `p`.
    fn probabilities(self, qkv: &[f32], head: usize, t: usize, p: &mut [f32]) {
        let (c, d) = (self.width(), self.head_width);
        let scale = 1.0 / (d as f32).sqrt();
        let q = &qkv[t * 3 * c + head * d..][..d];
        let mut max = f32::NEG_INFINITY;
        for (s, p) in p[..=t].iter_mut().enumerate() {
            let k = &qkv[s * 3 * c + c + head * d..][..d];
            *p = scale * dot(q, k);
            max = max.max(*p);
        }
        let mut sum = 0.0;
        for p in &mut p[..=t] {
            *p = exp(*p - max);
            sum += *p;
        }
        p[..=t].iter_mut().for_each(|p| *p /= sum);
    }

    /// qkv `[B, T, 3C]` → out `[B, T, C]`. Nothing of size T × T is kept: the backward computes it again.
    pub fn forward(self, qkv: &[f32], out: &mut [f32], dropout: Dropout) {
        let (t_max, c, d) = (self.time, self.width(), self.head_width);
        out.par_chunks_mut(t_max * c).zip(qkv.par_chunks(t_max * 3 * c)).enumerate().for_each(|(b, (out, qkv))| {
            let mut p = vec![0.0; t_max];
            out.fill(0.0);
            for head in 0..self.heads {
                for t in 0..t_max {
                    self.probabilities(qkv, head, t, &mut p);
                    let o = &mut out[t * c + head * d..][..d];
                    for s in 0..=t {
                        let w = p[s] * self.factor(dropout, b, head, t, s);
                        let v = &qkv[s * 3 * c + 2 * c + head * d..][..d];
                        o.iter_mut().zip(v).for_each(|(o, v)| *o += w * v);
                    }
                }
            }
        });
    }

    /// dout `[B, T, C]` → dqkv `[B, T, 3C]`.
    pub fn backward(self, qkv: &[f32], dout: &[f32], dqkv: &mut [f32], dropout: Dropout) {
        let (t_max, c, d) = (self.time, self.width(), self.head_width);
        let scale = 1.0 / (d as f32).sqrt();
        dqkv.par_chunks_mut(t_max * 3 * c)
            .zip(qkv.par_chunks(t_max * 3 * c))
            .zip(dout.par_chunks(t_max * c))
            .enumerate()
            .for_each(|(b, ((dqkv, qkv), dout))| {
                let (mut p, mut dp) = (vec![0.0; t_max], vec![0.0; t_max]);
                dqkv.fill(0.0);
                for head in 0..self.heads {
                    for t in 0..t_max {
                        self.probabilities(qkv, head, t, &mut p);
                        let dy = &dout[t * c + head * d..][..d];
                        let mut weighted = 0.0;
                        for s in 0..=t {
                            let at = s * 3 * c + 2 * c + head * d;
                            let factor = self.factor(dropout, b, head, t, s);
                            let w = p[s] * factor;
                            dp[s] = factor * dot(dy, &qkv[at..at + d]);
                            dqkv[at..at + d].iter_mut().zip(dy).for_each(|(x, g)| *x += w * g);
                            weighted += p[s] * dp[s];
                        }
                        let q = t * 3 * c + head * d;
                        for s in 0..=t {
                            let g = p[s] * (dp[s] - weighted) * scale;
                            let k = s * 3 * c + c + head * d;
                            for i in 0..d {
                                dqkv[q + i] += g * qkv[k + i];
                                dqkv[k + i] += g * qkv[q + i];
                            }
                        }
                    }
                }
            });
    }

    #[inline(always)]
    fn factor(self, dropout: Dropout, b: usize, head: usize, t: usize, s: usize) -> f32 {
        if !dropout.is_on() {
            return 1.0;
        }
        dropout.factor(((b * self.heads + head) * self.time + t) * self.time + s)
    }
}

impl Attention {
    /// Decoding: attends from `n` new positions beginning at `first` over a cache `[positions, 2C]` of keys and
    /// values, in which the new ones already stand; qkv `[n, 3C]` → out `[n, C]`.
    pub fn decode(self, qkv: &[f32], cache: &[f32], first: usize, out: &mut [f32]) {
        let (c, d) = (self.width(), self.head_width);
        let scale = 1.0 / (d as f32).sqrt();
        out.par_chunks_mut(c).zip(qkv.par_chunks(3 * c)).enumerate().for_each(|(i, (out, qkv))| {
            let mut p = vec![0.0; first + i + 1];
            for head in 0..self.heads {
                let q = &qkv[head * d..][..d];
                for (p, row) in p.iter_mut().zip(cache.chunks_exact(2 * c)) {
                    *p = scale * dot(q, &row[head * d..][..d]);
                }
                let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                p.iter_mut().for_each(|p| *p = exp(*p - max));
                let sum: f32 = p.iter().sum();
                let o = &mut out[head * d..][..d];
                o.fill(0.0);
                for (p, row) in p.iter().zip(cache.chunks_exact(2 * c)) {
                    o.iter_mut().zip(&row[c + head * d..][..d]).for_each(|(o, v)| *o += p / sum * v);
                }
            }
        });
    }
}
