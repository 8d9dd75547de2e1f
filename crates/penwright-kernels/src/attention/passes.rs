//! The arithmetic between the products: strips of scores with keys down and a panel of queries across.

use crate::bf16::{Element, rounded};
use crate::isa::dispatched;
use crate::math::{fma, random, total};
use crate::matmul::Matrix;
use crate::parts::BlockMut;
use crate::rows::kept as dropped;

/// A panel of queries as a strip of keys counts: the strip's key k is seen by the queries from `k − first` on.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) width: usize,
}

/// `2^t` for `t ≤ 127`, nearly zero below −126: in f32 to 2e-7, else to 3e-6, far below the rounding of a bfloat16.
#[inline(always)]
fn power<E: Element, const FMA: bool>(t: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits of the sum, here with an exponent's bias.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    // NaN stays.
    let t = if t < -126.0 { -126.0 } else { t };
    let sum = t + ROUND;
    let r = t - (sum - ROUND);
    // Polynomials of the least relative error for |r| ≤ 1/2 among those that are 1 at 0.
    let p = if E::GROUP == 1 {
        let p = fma::<FMA>(1.326_472_7e-3, r, 9.671_513e-3);
        let p = fma::<FMA>(p, r, 5.550_733_6e-2);
        let p = fma::<FMA>(p, r, 2.402_224_2e-1);
        fma::<FMA>(p, r, 6.931_47e-1)
    } else {
        let p = fma::<FMA>(9.582_853e-3, r, 5.590_642_6e-2);
        let p = fma::<FMA>(p, r, 2.402_41e-1);
        fma::<FMA>(p, r, 6.931_242e-1)
    };
    fma::<FMA>(p, r, 1.0) * f32::from_bits(sum.to_bits() << 23)
}

/// The values of a group's rows as words: one f32, or a pair of bfloat16 of which the first is the lower half.
#[inline(always)]
fn word<E: Element>(first: f32, second: f32) -> u32 {
    if E::GROUP == 1 { first.to_bits() } else { rounded(first) >> 16 | rounded(second) & 0xFFFF_0000 }
}

/// What softmax makes of a panel's scores: for each query.
pub(super) struct Softmax<'a> {
    /// `max + ln Σ`.
    pub(super) logs: &'a mut [f32],
    /// `1 / Σ`.
    pub(super) inverses: &'a mut [f32],
}

dispatched! {
    /// Scores `[keys, width]` to the weights `exp(scale · score − max)`, zero in the future, groups of keys
    /// side by side, `[groups, width][group]`; with factors of dropout `[keys, width]`, if there are any. The sums are of the
    /// weights before dropout.
    pub(super) fn softmax<E: Element>(
        panel: Panel,
        scores: &[f32],
        kept: &[f32],
        scale: f32,
        weights: &mut [E],
        out: Softmax<'_>,
    ) = softmax_body;
}

#[inline(always)]
fn softmax_body<E: Element, const FMA: bool>(
    panel: Panel,
    scores: &[f32],
    kept: &[f32],
    scale: f32,
    weights: &mut [E],
    out: Softmax<'_>,
) {
    match panel.width {
        32 => softmax_of::<E, FMA, 32>(panel.first, scores, kept, scale, weights, out),
        _ => softmax_of::<E, FMA, 16>(panel.first, scores, kept, scale, weights, out),
    }
}

#[inline(always)]
fn softmax_of<E: Element, const FMA: bool, const W: usize>(
    first: usize,
    scores: &[f32],
    kept: &[f32],
    scale: f32,
    weights: &mut [E],
    out: Softmax<'_>,
) {
    let scale = scale * std::f32::consts::LOG2_E;
    let (scores, kept, weights) =
        (scores.as_chunks::<W>().0, kept.as_chunks::<W>().0, bytemuck::cast_slice_mut(weights).as_chunks_mut::<W>().0);
    // Keys that all queries see come first.
    let whole = scores.len().min(first + 1) / E::GROUP * E::GROUP;
    let mut max = [f32::NEG_INFINITY; W];
    for row in &scores[..whole] {
        for j in 0..W {
            max[j] = if row[j] > max[j] { row[j] } else { max[j] };
        }
    }
    for (at, row) in scores.iter().enumerate().skip(whole) {
        let hidden = at.saturating_sub(first);
        for j in 0..W {
            max[j] = if j >= hidden && row[j] > max[j] { row[j] } else { max[j] };
        }
    }
    let max = max.map(|max| max * scale);
    let mut sums = [0.0; W];
    let (before, diagonal) = weights.split_at_mut(whole / E::GROUP);
    for (g, to) in before.iter_mut().enumerate() {
        let mut rows = [[0.0; W]; 2];
        for (i, row) in rows.iter_mut().enumerate().take(E::GROUP) {
            let from = &scores[g * E::GROUP + i];
            for j in 0..W {
                row[j] = power::<E, FMA>(fma::<FMA>(from[j], scale, -max[j]));
                sums[j] += row[j];
            }
            if let Some(kept) = kept.get(g * E::GROUP + i) {
                for j in 0..W {
                    row[j] *= kept[j];
                }
            }
        }
        for j in 0..W {
            to[j] = word::<E>(rows[0][j], rows[1][j]);
        }
    }
    for (g, to) in diagonal.iter_mut().enumerate() {
        let mut rows = [[0.0; W]; 2];
        for (i, row) in rows.iter_mut().enumerate().take(E::GROUP) {
            let at = whole + g * E::GROUP + i;
            let Some(from) = scores.get(at) else { continue };
            let hidden = at.saturating_sub(first);
            for j in 0..W {
                let weight = power::<E, FMA>(fma::<FMA>(from[j], scale, -max[j]));
                row[j] = if j >= hidden { weight } else { 0.0 };
                sums[j] += row[j];
            }
            if let Some(kept) = kept.get(at) {
                for j in 0..W {
                    row[j] *= kept[j];
                }
            }
        }
        for j in 0..W {
            to[j] = word::<E>(rows[0][j], rows[1][j]);
        }
    }
    for (j, log) in out.logs.iter_mut().enumerate() {
        *log = max[j] * std::f32::consts::LN_2 + sums[j].ln();
    }
    for (j, inverse) in out.inverses.iter_mut().enumerate() {
        *inverse = 1.0 / sums[j];
    }
}

/// What the backward knows of a panel's queries: for each its logarithm in base 2, and `scale · Σ dout · out`.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) logs: &'a [f32],
    pub(super) deltas: &'a [f32],
}

/// Where a panel's probabilities and gradients of scores go.
pub(super) struct Gradients<'a, E> {
    /// Dropped probabilities, row by row: `[keys, stride]`, from the panel's first column on.
    pub(super) weights: &'a mut [E],
    /// Gradients of the scores, likewise.
    pub(super) ds: &'a mut [E],
    pub(super) stride: usize,
    /// The same gradients groups of keys side by side, `[groups, width][group]`; not for f32, where they would be the same again.
    pub(super) grouped: &'a mut [E],
}

dispatched! {
    /// Scores and gradients of the dropped probabilities, `[keys, width]`, to `p = exp(scale · score − log)` and
    /// `ds = p (kept · dp − Σ dout · out) · scale`.
    pub(super) fn gradients<E: Element>(
        panel: Panel,
        scores: &[f32],
        dscores: &[f32],
        kept: &[f32],
        scale: f32,
        columns: Columns<'_>,
        to: Gradients<'_, E>,
    ) = gradients_body;
}

#[inline(always)]
fn gradients_body<E: Element, const FMA: bool>(
    panel: Panel,
    scores: &[f32],
    dscores: &[f32],
    kept: &[f32],
    scale: f32,
    columns: Columns<'_>,
    to: Gradients<'_, E>,
) {
    match panel.width {
        32 => gradients_of::<E, FMA, 32>(panel.first, scores, dscores, kept, scale, columns, to),
        _ => gradients_of::<E, FMA, 16>(panel.first, scores, dscores, kept, scale, columns, to),
    }
}

#[inline(always)]
fn gradients_of<E: Element, const FMA: bool, const W: usize>(
    first: usize,
    scores: &[f32],
    dscores: &[f32],
    kept: &[f32],
    scale: f32,
    columns: Columns<'_>,
    to: Gradients<'_, E>,
) {
    let base = scale * std::f32::consts::LOG2_E;
    let (scores, dscores, kept) = (scores.as_chunks::<W>().0, dscores.as_chunks::<W>().0, kept.as_chunks::<W>().0);
    let (Some(logs), Some(deltas)) = (columns.logs.first_chunk::<W>(), columns.deltas.first_chunk::<W>()) else {
        return;
    };
    let mut grouped = bytemuck::cast_slice_mut::<E, u32>(to.grouped).as_chunks_mut::<W>().0.iter_mut();
    for g in 0..scores.len().div_ceil(E::GROUP) {
        let mut rows = [[0.0; W]; 2];
        for (i, row) in rows.iter_mut().enumerate().take(E::GROUP) {
            let at = g * E::GROUP + i;
            let (Some(s), Some(dp)) = (scores.get(at), dscores.get(at)) else { continue };
            let mut p = [0.0; W];
            for j in 0..W {
                p[j] = power::<E, FMA>(fma::<FMA>(s[j], base, -logs[j]));
            }
            if at > first {
                for j in 0..W {
                    p[j] = if j >= at - first { p[j] } else { 0.0 };
                }
            }
            let mut weights = p;
            let mut slope = [0.0; W];
            if let Some(kept) = kept.get(at) {
                for j in 0..W {
                    weights[j] *= kept[j];
                    slope[j] = kept[j] * scale;
                }
            } else {
                slope = [scale; W];
            }
            for j in 0..W {
                row[j] = p[j] * fma::<FMA>(dp[j], slope[j], -deltas[j]);
            }
            if let Some(to) = to.weights[at * to.stride..].first_chunk_mut::<W>() {
                *to = weights.map(E::of);
            }
            if let Some(to) = to.ds[at * to.stride..].first_chunk_mut::<W>() {
                *to = row.map(E::of);
            }
        }
        if E::GROUP > 1
            && let Some(to) = grouped.next()
        {
            for j in 0..W {
                to[j] = word::<E>(rows[0][j], rows[1][j]);
            }
        }
    }
}

dispatched! {
    /// The factors of dropout of a strip `[keys, width]`: `numbers` are those of the first key for the first query,
    /// and how many lie between queries.
    pub(super) fn kept(strip: &mut [f32], width: usize, key: u64, numbers: (u64, u64), rate: f32) = kept_body;
}

#[inline(always)]
fn kept_body<const FMA: bool>(strip: &mut [f32], width: usize, key: u64, (first, step): (u64, u64), rate: f32) {
    for (i, row) in strip.chunks_exact_mut(width).enumerate() {
        let first = first + i as u64;
        for (j, x) in row.iter_mut().enumerate() {
            *x = dropped(random(key, first + j as u64 * step), rate);
        }
    }
}

dispatched! {
    /// `to[i] = scale · Σ_j x[i, j] · y[i, j]`.
    pub(super) fn dots<E: Element>(x: Matrix<'_, E>, y: Matrix<'_, E>, scale: f32, to: &mut [f32]) = dots_body;
}

#[inline(always)]
fn dots_body<E: Element, const FMA: bool>(x: Matrix<'_, E>, y: Matrix<'_, E>, scale: f32, to: &mut [f32]) {
    const LANES: usize = 32;
    for (i, to) in to.iter_mut().enumerate().take(x.rows) {
        let ((x, x_rest), (y, y_rest)) = (x.row(i).as_chunks::<LANES>(), y.row(i).as_chunks::<LANES>());
        let mut sums = [0.0; LANES];
        for (x, y) in x.iter().zip(y) {
            for j in 0..LANES {
                sums[j] = fma::<FMA>(x[j].get(), y[j].get(), sums[j]);
            }
        }
        let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x.get() * y.get()).sum();
        *to = (total(sums) + rest) * scale;
    }
}

dispatched! {
    /// Sums, rows `stride` apart, to a block: row i multiplied by factor i, or all by one if there are none.
    pub(super) fn finish<E: Element>(sums: &[f32], stride: usize, factors: &[f32], to: &mut BlockMut<'_, E>)
        = finish_body;
}

#[inline(always)]
fn finish_body<E: Element, const FMA: bool>(sums: &[f32], stride: usize, factors: &[f32], to: &mut BlockMut<'_, E>) {
    const LANES: usize = 32;
    for i in 0..to.rows() {
        let factor = factors.get(i).copied().unwrap_or(1.0);
        let [to] = to.row(i);
        let sums = &sums[i * stride..][..to.len()];
        let ((to, to_rest), (sums, rest)) = (to.as_chunks_mut::<LANES>(), sums.as_chunks::<LANES>());
        to.iter_mut().zip(sums).for_each(|(to, sums)| *to = sums.map(|x| E::of(x * factor)));
        to_rest.iter_mut().zip(rest).for_each(|(to, x)| *to = E::of(x * factor));
    }
}
