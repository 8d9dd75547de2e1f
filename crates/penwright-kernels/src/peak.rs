//! What the machine can do at most: multiply–adds from registers, bytes read and copied. Nothing is computed for use;
//! speeds are measured against these. Each function works on the thread that calls it.

use std::hint::black_box;

use crate::isa::dispatched;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use crate::math::fma;

/// Sums that are under way at once: more than latency times the units of any processor, no more than it has
/// registers (one or two hold the factors).
#[cfg(target_arch = "x86_64")]
const MANY: usize = 24;
#[cfg(target_arch = "x86_64")]
const FEWER: usize = 12;

/// Multiplies and adds f32 numbers in registers `rounds` times, with the instruction set in use; returns the number of
/// operations, a multiplication and an addition counted as two.
pub fn multiply_f32(rounds: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    match isa() {
        Isa::Plain => {}
        Isa::Avx2 => {
            // SAFETY: the processor has AVX2 with fused multiply–add (`isa`).
            unsafe { x86::f32_avx2(rounds) };
            return rounds * (FEWER * 8 * 2) as u64;
        }
        _ => {
            // SAFETY: the processor has AVX-512 (`isa`).
            unsafe { x86::f32_avx512(rounds) };
            return rounds * (MANY * 16 * 2) as u64;
        }
    }
    plain(rounds);
    rounds * (PLAIN * 2) as u64
}

/// The same with products of pairs of bf16 numbers added to f32 (`vdpbf16ps`); `None` where the instruction set in use
/// has none.
pub fn multiply_bf16(rounds: u64) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512Bf16 {
        // SAFETY: the processor has AVX-512 with BF16 (`isa`).
        unsafe { x86::bf16_avx512(rounds) };
        return Some(rounds * (MANY * 32 * 2) as u64);
    }
    let _ = rounds;
    None
}

/// The same with products of four bytes added to an i32 (`vpdpbusd`); `None` where there are none.
pub fn multiply_int8(rounds: u64) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if isa() > Isa::Avx2 && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has AVX-512 with VNNI, as was just asked.
        unsafe { x86::int8_avx512(rounds) };
        return Some(rounds * (MANY * 64 * 2) as u64);
    } else if isa() >= Isa::Avx2 && is_x86_feature_detected!("avxvnni") {
        // SAFETY: the processor has AVX2 with VNNI, as was just asked.
        unsafe { x86::int8_avx2(rounds) };
        return Some(rounds * (FEWER * 32 * 2) as u64);
    }
    let _ = rounds;
    None
}

/// Numbers in flight of the plain path: 16 vectors of four.
const PLAIN: usize = 64;

fn plain(rounds: u64) {
    let mut sums = [0.0f32; PLAIN];
    let (x, y) = (black_box(0.999), black_box(0.001));
    for _ in 0..rounds {
        // A loop of its own for the compiler to turn into vectors; so that it does not compute ahead, the sums are
        // what the round before made of them.
        sums.iter_mut().for_each(|sum| *sum = fma::<{ crate::isa::PLAIN_FMA }>(*sum, x, y));
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::array::from_fn;
    use std::hint::black_box;

    use super::{FEWER, MANY};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2(rounds: u64) {
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums: [__m256; FEWER] = from_fn(|i| _mm256_set1_ps(i as f32));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512(rounds: u64) {
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums: [__m512; MANY] = from_fn(|i| _mm512_set1_ps(i as f32));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn bf16_avx512(rounds: u64) {
        let pairs = |value: f32| _mm512_cvtne2ps_pbh(_mm512_set1_ps(value), _mm512_set1_ps(value));
        let (x, y) = (pairs(black_box(1.5)), pairs(black_box(1e-3)));
        let mut sums: [__m512; MANY] = from_fn(|i| _mm512_set1_ps(i as f32));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_avx512(rounds: u64) {
        let (x, y) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
        let mut sums: [__m512i; MANY] = from_fn(|i| _mm512_set1_epi32(i as i32));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn int8_avx2(rounds: u64) {
        let (x, y) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-5)));
        let mut sums: [__m256i; FEWER] = from_fn(|i| _mm256_set1_epi32(i as i32));
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_dpbusd_avx_epi32(*sum, x, y);
            }
        }
        black_box(sums);
    }
}

/// Parts of a slice that are read side by side, so that the processor fetches from several pages ahead.
const STREAMS: usize = 4;

dispatched! {
    /// Reads a slice once, to measure how fast memory is; the sum is there so that nothing is left out.
    pub fn read(data: &[u64]) -> u64 = read_body;
}

#[inline(always)]
fn read_body<const FMA: bool>(data: &[u64]) -> u64 {
    const LINES: usize = 32;
    let len = data.len() / STREAMS / LINES * LINES;
    let parts: [&[u64]; STREAMS] = std::array::from_fn(|i| &data[i * len..][..len]);
    let mut sums = [0u64; LINES];
    for at in (0..len).step_by(LINES) {
        for part in parts {
            let values = &part[at..at + LINES];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_add(*value);
            }
        }
    }
    let rest = data[STREAMS * len..].iter();
    sums.iter().chain(rest).fold(0, |sum, &value| sum.wrapping_add(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::with_each;

    #[test]
    fn every_number_is_read() {
        let data: Vec<u64> = (0..1003u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        with_each(|_| {
            for len in [0, 1, 127, 128, 1003] {
                let sum = data[..len].iter().fold(0u64, |sum, &x| sum.wrapping_add(x));
                assert_eq!(read(&data[..len]), sum);
            }
        });
    }

    #[test]
    fn operations_are_counted() {
        with_each(|isa| {
            assert!(multiply_f32(10) >= 1280 && multiply_f32(10) == 2 * multiply_f32(5), "{isa:?}");
            let twice = |of: fn(u64) -> Option<u64>| of(4) == of(2).map(|n| 2 * n);
            assert!(twice(multiply_bf16) && twice(multiply_int8), "{isa:?}");
        });
    }
}
