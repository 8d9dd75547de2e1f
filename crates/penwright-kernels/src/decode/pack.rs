//! From a model's numbers to the blocks of a format.

use super::inputs::{nearest, to_bf16};
use super::{CODES, Format, LANES, SCALES, Shape, Source};
use crate::isa::dispatched;

/// Inputs that are looked at together: a multiple of every format's block.
const STEP: usize = 64;

/// The weights of the `index`th group of outputs.
pub(super) fn group(shape: Shape, w: Source<'_>, index: usize, group: &mut [u8]) {
    let (block, bytes) = (shape.format.block(), shape.format.block_bytes());
    let first = index * LANES;
    let outputs = LANES.min(shape.outputs - first);
    let mut part = [0.0; STEP * LANES];
    for (i, to) in group.chunks_mut(STEP / block * bytes).enumerate() {
        let begin = i * STEP;
        let inputs = STEP.min(shape.inputs - begin);
        if inputs < STEP || outputs < LANES {
            part.fill(0.0);
        }
        match w {
            Source::InOut(w) => {
                for k in 0..inputs {
                    let row = &w[(begin + k) * shape.outputs + first..][..outputs];
                    part[k * LANES..][..outputs].copy_from_slice(row);
                }
            }
            Source::OutIn(w) => {
                for n in 0..outputs {
                    let column = &w[(first + n) * shape.inputs + begin..][..inputs];
                    for (k, &w) in column.iter().enumerate() {
                        part[k * LANES + n] = w;
                    }
                }
            }
        }
        for (to, w) in to.chunks_exact_mut(bytes).zip(part.chunks_exact(block * LANES)) {
            match shape.format {
                Format::F32 => to.copy_from_slice(bytemuck::cast_slice(w)),
                Format::Bf16 => bf16(to, w),
                Format::Int8 => int8(to, w),
                Format::Int4 => int4(to, w),
            }
        }
    }
}

dispatched! {
    /// `[2][LANES]` to `[LANES][2]`.
    fn bf16(to: &mut [u8], w: &[f32]) = bf16_body;
}

#[inline(always)]
fn bf16_body<const FMA: bool>(to: &mut [u8], w: &[f32]) {
    let (first, second) = w.split_at(LANES);
    for ((to, &a), &b) in to.as_chunks_mut::<4>().0.iter_mut().zip(first).zip(second) {
        *to = (to_bf16(a) | to_bf16(b) << 16).to_le_bytes();
    }
}

/// The bf16 next to a positive number, away from zero, so that no weight exceeds its code's range.
#[inline(always)]
fn up(x: f32) -> u32 {
    x.to_bits().wrapping_add(0xFFFF) >> 16
}

dispatched! {
    fn int8(to: &mut [u8], w: &[f32]) = int8_body;
}

#[inline(always)]
fn int8_body<const FMA: bool>(to: &mut [u8], w: &[f32]) {
    let mut inverse = [0.0f32; LANES];
    for row in w.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            inverse[i] = if row[i].abs() > inverse[i] { row[i].abs() } else { inverse[i] };
        }
    }
    let (scales, to) = to.split_at_mut(SCALES);
    for (scale, inverse) in scales.as_chunks_mut::<2>().0.iter_mut().zip(&mut inverse) {
        let bits = up(*inverse / 127.0);
        *scale = (bits as u16).to_le_bytes();
        let value = f32::from_bits(bits << 16);
        *inverse = if value > 1e-30 { 1.0 / value } else { 0.0 };
    }
    for (to, w) in to.as_chunks_mut::<{ 4 * LANES }>().0.iter_mut().zip(w.as_chunks::<{ 4 * LANES }>().0) {
        let mut words = [0u32; LANES];
        for (k, w) in w.as_chunks::<LANES>().0.iter().enumerate() {
            for i in 0..LANES {
                words[i] |= ((nearest(w[i] * inverse[i]) + 128) as u32 & 255) << (8 * k);
            }
        }
        for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

/// Half way between neighbouring codes.
const BETWEEN: [f32; 15] = {
    let (mut between, mut i) = ([0.0; 15], 0);
    while i < 15 {
        between[i] = (CODES[i] as f32 + CODES[i + 1] as f32) / 2.0;
        i += 1;
    }
    between
};

dispatched! {
    fn int4(to: &mut [u8], w: &[f32]) = int4_body;
}

/// The scale is first the largest weight's share of the first code, then the one with the least squared error for the
/// codes chosen by that.
#[inline(always)]
fn int4_body<const FMA: bool>(to: &mut [u8], w: &[f32]) {
    let w: &[[f32; LANES]] = w.as_chunks().0;
    let mut scale = [0.0f32; LANES];
    for row in w {
        for i in 0..LANES {
            scale[i] = if row[i].abs() > scale[i].abs() { row[i] } else { scale[i] };
        }
    }
    scale = scale.map(|largest| largest / f32::from(CODES[0]));
    for _ in 0..2 {
        let inverse = scale.map(inverse);
        let (mut products, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
        for row in w {
            for i in 0..LANES {
                let code = code_of(choose(row[i] * inverse[i]));
                products[i] += code * row[i];
                squares[i] += code * code;
            }
        }
        for i in 0..LANES {
            scale[i] = if squares[i] > 0.0 { products[i] / squares[i] } else { 0.0 };
        }
    }
    let bits = scale.map(to_bf16);
    let inverse = bits.map(|bits| inverse(f32::from_bits(bits << 16)));
    let (scales, to) = to.split_at_mut(SCALES);
    for (scale, bits) in scales.as_chunks_mut::<2>().0.iter_mut().zip(bits) {
        *scale = (bits as u16).to_le_bytes();
    }
    for (to, w) in to.as_chunks_mut::<{ 4 * LANES }>().0.iter_mut().zip(w.as_chunks::<8>().0) {
        let mut words = [0u32; LANES];
        for (k, w) in w.iter().enumerate() {
            let shift = 8 * (k % 4) + 4 * (k / 4);
            for i in 0..LANES {
                words[i] |= (choose(w[i] * inverse[i]) as u32) << shift;
            }
        }
        for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 }
}

/// The index of the nearest code.
#[inline(always)]
fn choose(x: f32) -> i32 {
    let mut index = 0;
    for between in BETWEEN {
        index += i32::from(x > between);
    }
    index
}

/// The code of an index, without a table.
#[inline(always)]
fn code_of(index: i32) -> f32 {
    let mut code = f32::from(CODES[0]);
    for i in 1..16 {
        let step = f32::from(CODES[i]) - f32::from(CODES[i - 1]);
        code += if index >= i as i32 { step } else { 0.0 };
    }
    code
}
