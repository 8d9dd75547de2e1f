//! Attention of one row of one head over the keys and values of a text.

use crate::isa::dispatched;
use crate::math::{exp_by, fma};

/// Positions whose keys lie side by side.
const SIDE: usize = 16;
/// Channels of values that are summed at once.
const CHANNELS: usize = 64;

/// A number that a cache keeps: as it is, or as the bits of a bf16.
pub trait Kept: Copy + Default + Send + Sync + 'static {
    /// The number nearest to x.
    fn keep(x: f32) -> Self;
    /// Its value.
    fn value(self) -> f32;
    /// [`attend`] for these numbers.
    fn attend(q: &[f32], keys: &[Self], values: &[Self], scale: f32, scores: &mut [f32], out: &mut [f32]);
}

impl Kept for f32 {
    #[inline(always)]
    fn keep(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }

    fn attend(q: &[f32], keys: &[Self], values: &[Self], scale: f32, scores: &mut [f32], out: &mut [f32]) {
        attend_f32(q, keys, values, scale, scores, out);
    }
}

impl Kept for u16 {
    #[inline(always)]
    fn keep(x: f32) -> Self {
        super::inputs::to_bf16(x) as u16
    }

    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    fn attend(q: &[f32], keys: &[Self], values: &[Self], scale: f32, scores: &mut [f32], out: &mut [f32]) {
        attend_bf16(q, keys, values, scale, scores, out);
    }
}

/// `out = softmax(scale · q Kᵀ) V` for one row: q and out `[D]`; values `[T, D]`; keys `[T / 16, D, 16]`, the positions of
/// a block side by side; `scores` is working memory of T numbers, T rounded up to a multiple of 16.
/// Panics when the slices do not fit each other.
pub fn attend<T: Kept>(q: &[f32], keys: &[T], values: &[T], scale: f32, scores: &mut [f32], out: &mut [f32]) {
    T::attend(q, keys, values, scale, scores, out);
}

/// The place of a key's channel in a head's keys.
pub fn key_at(position: usize, channel: usize, channels: usize) -> usize {
    (position / SIDE * channels + channel) * SIDE + position % SIDE
}

dispatched! {
    fn attend_f32(q: &[f32], keys: &[f32], values: &[f32], scale: f32, scores: &mut [f32], out: &mut [f32]) = f32_body;
}
dispatched! {
    fn attend_bf16(q: &[f32], keys: &[u16], values: &[u16], scale: f32, scores: &mut [f32], out: &mut [f32]) = bf16_body;
}

#[inline(always)]
fn f32_body<const FMA: bool>(q: &[f32], keys: &[f32], values: &[f32], scale: f32, scores: &mut [f32], out: &mut [f32]) {
    attend_body::<FMA, f32>(q, keys, values, scale, scores, out);
}

#[inline(always)]
fn bf16_body<const FMA: bool>(
    q: &[f32],
    keys: &[u16],
    values: &[u16],
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    attend_body::<FMA, u16>(q, keys, values, scale, scores, out);
}

#[inline(always)]
fn attend_body<const FMA: bool, T: Kept>(
    q: &[f32],
    keys: &[T],
    values: &[T],
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let d = q.len();
    let positions = values.len() / d;
    assert!(out.len() == d && keys.len() >= positions.div_ceil(SIDE) * SIDE * d, "shapes differ");
    let scores = &mut scores[..positions.next_multiple_of(SIDE)];
    for (scores, keys) in scores.as_chunks_mut::<SIDE>().0.iter_mut().zip(keys.chunks_exact(SIDE * d)) {
        *scores = products::<FMA, T>(q, keys, scale);
    }
    let scores = &mut scores[..positions];
    let mut largest = [f32::NEG_INFINITY; SIDE];
    for part in scores.chunks(SIDE) {
        largest.iter_mut().zip(part).for_each(|(a, &b)| *a = if b > *a { b } else { *a });
    }
    let largest = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    scores.iter_mut().for_each(|score| *score = exp_by::<FMA>(*score - largest));
    let mut sums = [0.0f32; SIDE];
    for part in scores.chunks(SIDE) {
        sums.iter_mut().zip(part).for_each(|(a, b)| *a += b);
    }
    let sum: f32 = sums.iter().sum();
    let mut first = 0;
    while first + CHANNELS <= d {
        weighted::<FMA, T, CHANNELS>(scores, values, d, first, sum, out);
        first += CHANNELS;
    }
    while first + SIDE <= d {
        weighted::<FMA, T, SIDE>(scores, values, d, first, sum, out);
        first += SIDE;
    }
    while first < d {
        weighted::<FMA, T, 1>(scores, values, d, first, sum, out);
        first += 1;
    }
}

/// The scores of a block of positions, in four partial sums each.
#[inline(always)]
fn products<const FMA: bool, T: Kept>(q: &[f32], keys: &[T], scale: f32) -> [f32; SIDE] {
    let mut sums = [[0.0f32; SIDE]; 4];
    let (fours, rest) = q.as_chunks::<4>();
    let (keys, keys_rest) = keys.split_at(fours.len() * 4 * SIDE);
    for (q, keys) in fours.iter().zip(keys.as_chunks::<{ 4 * SIDE }>().0) {
        for j in 0..4 {
            for i in 0..SIDE {
                sums[j][i] = fma::<FMA>(q[j], keys[j * SIDE + i].value(), sums[j][i]);
            }
        }
    }
    for (q, keys) in rest.iter().zip(keys_rest.as_chunks::<SIDE>().0) {
        for i in 0..SIDE {
            sums[0][i] = fma::<FMA>(*q, keys[i].value(), sums[0][i]);
        }
    }
    std::array::from_fn(|i| scale * ((sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i])))
}

/// The weighted mean of `N` channels of the values.
#[inline(always)]
fn weighted<const FMA: bool, T: Kept, const N: usize>(
    weights: &[f32],
    values: &[T],
    d: usize,
    first: usize,
    sum: f32,
    out: &mut [f32],
) {
    let mut total = [0.0f32; N];
    for (weight, values) in weights.iter().zip(values.chunks_exact(d)) {
        if let Some(values) = values[first..].first_chunk::<N>() {
            for i in 0..N {
                total[i] = fma::<FMA>(*weight, values[i].value(), total[i]);
            }
        }
    }
    let inverse = 1.0 / sum;
    out[first..first + N].iter_mut().zip(total).for_each(|(out, total)| *out = total * inverse);
}
