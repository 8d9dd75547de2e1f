//! Attention of rows of one head over the keys and values of a text.

use crate::bf16::Element;
use crate::isa::{dispatched, fetch};
use crate::math::{exp_by, fma};

/// Positions whose keys lie side by side.
const SIDE: usize = 16;
/// Channels of values that are summed at once.
const CHANNELS: usize = 64;
/// Rows that go over the keys and values together.
pub const ATTEND_ROWS: usize = 4;

/// The place of a key's channel in a head's keys.
pub fn key_at(position: usize, channel: usize, channels: usize) -> usize {
    (position / SIDE * channels + channel) * SIDE + position % SIDE
}

dispatched! {
    /// `out = softmax(scale · q Kᵀ) V` for rows that follow each other, q and out `[rows, D]`: the first sees `positions`
    /// positions, each further one one more. Kept are keys `[T / 16, D, 16]`, the positions of a block side
    /// by side, and values `[T, D]`; `scores` is working memory of 4 T numbers, T rounded up to a multiple of 16. Each row is computed as if it
    /// were alone. Panics when the slices do not fit each other.
    pub fn attend<T: Element>(
        q: &[f32],
        kept: (&[T], &[T]),
        channels: usize,
        positions: usize,
        scale: f32,
        scores: &mut [f32],
        out: &mut [f32],
    ) = attend_body;
}

#[inline(always)]
fn attend_body<T: Element, const FMA: bool>(
    q: &[f32],
    kept: (&[T], &[T]),
    channels: usize,
    positions: usize,
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let tiles = q.chunks(ATTEND_ROWS * channels).zip(out.chunks_mut(ATTEND_ROWS * channels));
    for (i, (q, out)) in tiles.enumerate() {
        let first = positions + i * ATTEND_ROWS;
        if q.len() == ATTEND_ROWS * channels {
            tile::<T, FMA, ATTEND_ROWS>(q, kept, channels, first, scale, scores, out);
            continue;
        }
        for (row, (q, out)) in q.chunks_exact(channels).zip(out.chunks_exact_mut(channels)).enumerate() {
            tile::<T, FMA, 1>(q, kept, channels, first + row, scale, scores, out);
        }
    }
}

/// R rows, of which the first sees `positions` positions.
#[inline(always)]
fn tile<T: Element, const FMA: bool, const R: usize>(
    q: &[f32],
    (keys, values): (&[T], &[T]),
    d: usize,
    positions: usize,
    scale: f32,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (most, room) = (positions + R - 1, (positions + R - 1).next_multiple_of(SIDE));
    let (keys, values) = (&keys[..room * d], &values[..most * d]);
    let scores = &mut scores[..R * room];
    for (block, (keys, values)) in keys.chunks_exact(SIDE * d).zip(values.chunks(SIDE * d)).enumerate() {
        // Of many texts, each with a row, values come from memory, and each head has too few for the processor to see
        // where it goes on.
        if R == 1 {
            fetch(values);
        }
        for (row, products) in products::<T, FMA, R>(q, keys, d, scale).into_iter().enumerate() {
            scores[row * room + block * SIDE..][..SIDE].copy_from_slice(&products);
        }
    }
    let mut sums = [1.0; R];
    for (row, (scores, sum)) in scores.chunks_exact_mut(room).zip(&mut sums).enumerate() {
        *sum = exponentials::<FMA>(&mut scores[..positions + row]);
    }
    let mut first = 0;
    while first < d {
        first += match d - first {
            CHANNELS.. => weighted::<T, FMA, R, CHANNELS>(scores, values, d, first, positions, &sums, out),
            SIDE.. => weighted::<T, FMA, R, SIDE>(scores, values, d, first, positions, &sums, out),
            _ => weighted::<T, FMA, R, 1>(scores, values, d, first, positions, &sums, out),
        };
    }
}

/// The scores of a block of positions, in four partial sums each.
#[inline(always)]
fn products<T: Element, const FMA: bool, const R: usize>(
    q: &[f32],
    keys: &[T],
    d: usize,
    scale: f32,
) -> [[f32; SIDE]; R] {
    let mut sums = [[[0.0f32; SIDE]; R]; 4];
    let (fours, rest) = keys.as_chunks::<SIDE>().0.as_chunks::<4>();
    // Slices of one length need no checks in the loop, which would keep the sums out of the registers; and so would
    // calls of closures.
    let queries: [&[[f32; 4]]; R] = std::array::from_fn(|row| &q[row * d..][..d].as_chunks().0[..fours.len()]);
    for (k, keys) in fours.iter().enumerate() {
        for j in 0..4 {
            let mut wide = [0.0; SIDE];
            for i in 0..SIDE {
                wide[i] = keys[j][i].get();
            }
            for row in 0..R {
                let q = queries[row][k][j];
                for i in 0..SIDE {
                    sums[j][row][i] = fma::<FMA>(q, wide[i], sums[j][row][i]);
                }
            }
        }
    }
    let [mut first, second, third, fourth] = sums;
    for (k, keys) in rest.iter().enumerate() {
        for row in 0..R {
            let q = q[row * d + d / 4 * 4 + k];
            for i in 0..SIDE {
                first[row][i] = fma::<FMA>(q, keys[i].get(), first[row][i]);
            }
        }
    }
    for row in 0..R {
        for i in 0..SIDE {
            first[row][i] = scale * ((first[row][i] + second[row][i]) + (third[row][i] + fourth[row][i]));
        }
    }
    first
}

/// Replaces scores by `exp(score − max)` and returns their sum.
#[inline(always)]
fn exponentials<const FMA: bool>(scores: &mut [f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; SIDE];
    let (parts, rest) = scores.as_chunks_mut::<SIDE>();
    for part in &*parts {
        for i in 0..SIDE {
            largest[i] = if part[i] > largest[i] { part[i] } else { largest[i] };
        }
    }
    largest.iter_mut().zip(&*rest).for_each(|(a, &b)| *a = if b > *a { b } else { *a });
    let largest = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sums = [0.0f32; SIDE];
    for part in parts {
        for i in 0..SIDE {
            part[i] = exp_by::<FMA>(part[i] - largest);
            sums[i] += part[i];
        }
    }
    for (sum, score) in sums.iter_mut().zip(rest) {
        *score = exp_by::<FMA>(*score - largest);
        *sum += *score;
    }
    sums.iter().sum()
}

/// The weighted means of `N` channels of the values; returns N.
#[inline(always)]
fn weighted<T: Element, const FMA: bool, const R: usize, const N: usize>(
    scores: &[f32],
    values: &[T],
    d: usize,
    first: usize,
    positions: usize,
    sums: &[f32; R],
    out: &mut [f32],
) -> usize {
    let room = scores.len() / R;
    let mut total = [[0.0f32; N]; R];
    // What all rows see, then what some do.
    let seen: [&[f32]; R] = std::array::from_fn(|row| &scores[row * room..][..positions]);
    for (t, values) in values.chunks_exact(d).take(positions).enumerate() {
        let Some(values) = values[first..].first_chunk::<N>() else { break };
        let values = values.map(T::get);
        for row in 0..R {
            let weight = seen[row][t];
            for i in 0..N {
                total[row][i] = fma::<FMA>(weight, values[i], total[row][i]);
            }
        }
    }
    for row in 1..R {
        for t in positions..positions + row {
            let Some(values) = values[t * d + first..].first_chunk::<N>() else { break };
            for i in 0..N {
                total[row][i] = fma::<FMA>(scores[row * room + t], values[i].get(), total[row][i]);
            }
        }
    }
    for row in 0..R {
        let inverse = 1.0 / sums[row];
        out[row * d + first..][..N].iter_mut().zip(total[row]).for_each(|(out, total)| *out = total * inverse);
    }
    N
}
