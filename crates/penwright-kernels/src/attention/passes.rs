//! The arithmetic between the products: strips of scores with keys down and a panel of queries across.

use super::mask::{self, Strip};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::bf16::Element;
use crate::isa::{Isa, dispatched, isa};
use crate::math::{fma, total};
use crate::matmul::{Aligned, Matrix};
use crate::parts::BlockMut;
use crate::tile::MAX_PANEL;

/// A panel of queries as a strip of keys counts: the strip's key k is seen by the queries from `k − first` on.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) width: usize,
}

/// Dropout of a strip, if there is any, and memory for its factors where they are not made on the way.
pub(super) struct Dropped<'a> {
    pub(super) strip: Option<Strip>,
    pub(super) memory: &'a mut Aligned,
}

impl<'a> Dropped<'a> {
    /// The factors of a strip, `[keys, width]`, or nothing.
    fn factors(self, width: usize, len: usize) -> &'a [f32] {
        let Some(strip) = self.strip else { return &[] };
        let factors = self.memory.take(len);
        mask::factors(strip, width, factors);
        factors
    }
}

/// `2^t` for `t ≤ 127`, zero below −126.5: in f32 to 2e-7, else to 3e-6, far below the rounding of a bfloat16.
#[inline(always)]
fn power<E: Element, const FMA: bool>(t: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits of the sum, here with an exponent's bias.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    // NaN stays.
    let t = if t < -127.0 { -127.0 } else { t };
    let sum = t + ROUND;
    let r = t - (sum - ROUND);
    // Polynomials of the least relative error for |r| ≤ 1/2 among those that are 1 at 0.
    let p = if E::GROUP == 1 {
        let p = fma::<FMA>(1.326_472_7e-3, r, 9.671_513e-3);
        let p = fma::<FMA>(p, r, 5.550_733_6e-2);
        let p = fma::<FMA>(p, r, 2.402_224_2e-1);
        fma::<FMA>(p, r, std::f32::consts::LN_2)
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
    if E::GROUP == 1 { first.to_bits() } else { near(first) >> 16 | near(second) & 0xFFFF_0000 }
}

/// As [`crate::bf16::rounded`], for numbers that arithmetic has made: their NaN need no care.
#[inline(always)]
fn near(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7FFF + (bits >> 16 & 1))
}

/// Hides the future in a strip: scores of keys that a query does not see become −∞, whose weight is zero.
#[inline(always)]
fn hide<const W: usize>(first: usize, scores: &mut [[f32; W]]) {
    for (hidden, row) in scores.iter_mut().skip(first).enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            *x = if (j as i32) < hidden as i32 { f32::NEG_INFINITY } else { *x };
        }
    }
}

/// A loop, for the methods of arrays are not always inlined.
#[inline(always)]
fn round<E: Element, const N: usize>(from: &[f32; N], to: &mut [E; N]) {
    for j in 0..N {
        to[j] = E::of(from[j]);
    }
}

/// What softmax makes of a panel's scores: for each query.
pub(super) struct Softmax<'a> {
    /// `max + ln Σ`.
    pub(super) logs: &'a mut [f32],
    /// `1 / Σ`.
    pub(super) inverses: &'a mut [f32],
}

/// Scores `[keys, width]` to the weights `exp(scale · score − max)`, zero in the future, with groups of keys side by
/// side, `[groups, width][group]`, dropped if there is dropout. The sums are of the weights before it.
pub(super) fn softmax<E: Element>(
    panel: Panel,
    scores: &mut [f32],
    dropped: Dropped<'_>,
    scale: f32,
    weights: &mut [E],
    out: Softmax<'_>,
) {
    let mut columns = [[0.0; MAX_PANEL]; 2];
    if pairs_itself::<E>(panel.width) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the instructions.
        unsafe {
            x86::softmax(panel.first, scores, dropped.strip, scale, bytemuck::cast_slice_mut(weights), &mut columns);
        }
    } else {
        let kept = dropped.factors(panel.width, scores.len());
        softmax_plain(panel, scores, kept, scale, weights, &mut columns);
    }
    let [max, sums] = &mut columns;
    out.inverses.iter_mut().zip(&*sums).for_each(|(inverse, sum)| *inverse = 1.0 / sum);
    logarithms(max, sums);
    out.logs.iter_mut().zip(&*sums).for_each(|(log, sum)| *log = *sum);
}

/// Whether the passes of `x86` are for this processor and kind of number.
fn pairs_itself<E: Element>(width: usize) -> bool {
    cfg!(target_arch = "x86_64") && E::GROUP == 2 && isa() == Isa::Avx512Bf16 && width == MAX_PANEL
}

dispatched! {
    /// Maxima in base 2 and sums to `max + ln Σ`, in place of the sums.
    fn logarithms(max: &[f32; MAX_PANEL], sums: &mut [f32; MAX_PANEL]) = logarithms_body;
}

#[inline(always)]
fn logarithms_body<const FMA: bool>(max: &[f32; MAX_PANEL], sums: &mut [f32; MAX_PANEL]) {
    for j in 0..MAX_PANEL {
        sums[j] = fma::<FMA>(max[j], std::f32::consts::LN_2, ln_by::<FMA>(sums[j]));
    }
}

/// The natural logarithm of a normal number greater than zero, to 1e-7 absolute or relative.
#[inline(always)]
fn ln_by<const FMA: bool>(x: f32) -> f32 {
    // x = 2^n · m with m from 3/4 to 3/2; ln m = 2 artanh s, s = (m − 1) / (m + 1).
    let bits = x.to_bits().wrapping_sub(0x3F40_0000).cast_signed();
    let n = (bits >> 23) as f32;
    let m = f32::from_bits(x.to_bits().wrapping_sub((bits & 0xFF80_0000_u32.cast_signed()).cast_unsigned()));
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut p = 2.0 / 9.0;
    for coefficient in [2.0 / 7.0, 0.4, 2.0 / 3.0, 2.0] {
        p = fma::<FMA>(p, square, coefficient);
    }
    // NaN stays.
    fma::<FMA>(n, std::f32::consts::LN_2, p * s) + 0.0 * x
}

dispatched! {
    /// Without the logarithms: the maxima, scaled, in base 2, and the sums.
    fn softmax_plain<E: Element>(
        panel: Panel,
        scores: &mut [f32],
        kept: &[f32],
        scale: f32,
        weights: &mut [E],
        out: &mut [[f32; MAX_PANEL]; 2],
    ) = softmax_body;
}

#[inline(always)]
fn softmax_body<E: Element, const FMA: bool>(
    panel: Panel,
    scores: &mut [f32],
    kept: &[f32],
    scale: f32,
    weights: &mut [E],
    out: &mut [[f32; MAX_PANEL]; 2],
) {
    match panel.width {
        32 => softmax_of::<E, FMA, 32>(panel.first, scores, kept, scale, weights, out),
        _ => softmax_of::<E, FMA, 16>(panel.first, scores, kept, scale, weights, out),
    }
}

#[inline(always)]
fn softmax_of<E: Element, const FMA: bool, const W: usize>(
    first: usize,
    scores: &mut [f32],
    kept: &[f32],
    scale: f32,
    weights: &mut [E],
    out: &mut [[f32; MAX_PANEL]; 2],
) {
    let scale = scale * std::f32::consts::LOG2_E;
    let (scores, kept, weights) = (
        scores.as_chunks_mut::<W>().0,
        kept.as_chunks::<W>().0,
        bytemuck::cast_slice_mut(weights).as_chunks_mut::<W>().0,
    );
    hide(first, scores);
    let mut max = [f32::NEG_INFINITY; W];
    for row in &*scores {
        for j in 0..W {
            max[j] = if row[j] > max[j] { row[j] } else { max[j] };
        }
    }
    for max in &mut max {
        *max *= scale;
    }
    let mut sums = [0.0; W];
    for (g, to) in weights.iter_mut().enumerate() {
        let mut rows = [[0.0; W]; 2];
        for (i, row) in rows.iter_mut().enumerate().take(E::GROUP) {
            let Some(from) = scores.get(g * E::GROUP + i) else { continue };
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
    out[0][..W].copy_from_slice(&max);
    out[1][..W].copy_from_slice(&sums);
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

/// Scores and gradients of the dropped probabilities, `[keys, width]`, to `p = exp(scale · score − log)` and
/// `ds = p (kept · dp − Σ dout · out) · scale`.
pub(super) fn gradients<E: Element>(
    panel: Panel,
    scores: &mut [f32],
    dscores: &[f32],
    dropped: Dropped<'_>,
    scale: f32,
    columns: Columns<'_>,
    to: Gradients<'_, E>,
) {
    if pairs_itself::<E>(panel.width) {
        #[cfg(target_arch = "x86_64")]
        {
            let (weights, ds) = (bytemuck::cast_slice_mut(to.weights), bytemuck::cast_slice_mut(to.ds));
            let to = Gradients { weights, ds, stride: to.stride, grouped: bytemuck::cast_slice_mut(to.grouped) };
            // SAFETY: the processor has the instructions.
            unsafe {
                x86::gradients(panel.first, scores, dscores, dropped.strip, scale, columns, to);
            }
        }
    } else {
        let kept = dropped.factors(panel.width, scores.len());
        gradients_plain(panel, scores, dscores, kept, scale, columns, to);
    }
}

dispatched! {
    fn gradients_plain<E: Element>(
        panel: Panel,
        scores: &mut [f32],
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
    scores: &mut [f32],
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
    scores: &mut [f32],
    dscores: &[f32],
    kept: &[f32],
    scale: f32,
    columns: Columns<'_>,
    to: Gradients<'_, E>,
) {
    let base = scale * std::f32::consts::LOG2_E;
    let (scores, dscores, kept) = (scores.as_chunks_mut::<W>().0, dscores.as_chunks::<W>().0, kept.as_chunks::<W>().0);
    hide(first, scores);
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
                round(&weights, to);
            }
            if let Some(to) = to.ds[at * to.stride..].first_chunk_mut::<W>() {
                round(row, to);
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

/// `to[i] = scale · Σ_j x[i, j] · y[i, j]`.
pub(super) fn dots<E: Element>(x: Matrix<'_, E>, y: Matrix<'_, E>, scale: f32, to: &mut [f32]) {
    if !pairs_itself::<E>(MAX_PANEL) {
        return dots_plain(x, y, scale, to);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions.
    unsafe {
        x86::dots(x, y, scale, to);
    }
}

dispatched! {
    fn dots_plain<E: Element>(x: Matrix<'_, E>, y: Matrix<'_, E>, scale: f32, to: &mut [f32]) = dots_body;
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

/// Sums, rows `stride` apart and as long as whole panels, to a block: row i multiplied by factor i, or all by one if
/// there are none.
pub(super) fn finish<E: Element>(sums: &[f32], stride: usize, factors: &[f32], to: &mut BlockMut<'_, E>) {
    if !pairs_itself::<E>(MAX_PANEL) {
        return finish_plain(sums, stride, factors, to);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions.
    unsafe {
        x86::finish(sums, stride, factors, to);
    }
}

dispatched! {
    fn finish_plain<E: Element>(sums: &[f32], stride: usize, factors: &[f32], to: &mut BlockMut<'_, E>)
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
        for (to, sums) in to.iter_mut().zip(sums) {
            let mut values = [0.0; LANES];
            for j in 0..LANES {
                values[j] = sums[j] * factor;
            }
            round(&values, to);
        }
        to_rest.iter_mut().zip(rest).for_each(|(to, x)| *to = E::of(x * factor));
    }
}
