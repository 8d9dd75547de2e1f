//! The vectors that a register tile is made of, for each instruction set and kind of number.

use crate::bf16::{Bf16, Element};
use crate::isa::PLAIN_FMA;

/// A vector of f32 sums, and the factors whose products are added to it.
pub(super) trait Vector: Copy {
    /// The numbers that are multiplied. A lane takes [`Element::GROUP`] of them at once.
    type Element: Element;
    /// A group of them for each lane.
    type Factor: Copy;
    const LANES: usize;

    fn zero() -> Self;

    fn add(self, other: Self) -> Self;

    /// `self + Σ_group a · b`.
    fn fma(self, a: Self::Factor, b: Self::Factor) -> Self;

    /// The same group in every lane.
    ///
    /// # Safety
    /// A group can be read.
    unsafe fn spread(from: *const Self::Element) -> Self::Factor;

    /// # Safety
    /// `LANES` groups can be read.
    unsafe fn groups(from: *const Self::Element) -> Self::Factor;

    /// # Safety
    /// `LANES` values can be read.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `LANES` values can be written.
    unsafe fn store(self, to: *mut f32);
}

/// The two numbers of a pair of bfloat16, whose first is the lower half.
#[inline(always)]
fn pair(bits: u32) -> [f32; 2] {
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xFFFF_0000)]
}

/// Vectors that every processor of the target has; the compiler maps them to its registers.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

impl Plain {
    #[inline(always)]
    fn fused(mut self, a: [f32; 4], b: [f32; 4]) -> Self {
        for i in 0..4 {
            self.0[i] = crate::math::fma::<PLAIN_FMA>(a[i], b[i], self.0[i]);
        }
        self
    }
}

impl Vector for Plain {
    type Element = f32;
    type Factor = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        Plain([0.0; 4])
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..4 {
            self.0[i] += other.0[i];
        }
        self
    }

    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4]) -> Self {
        self.fused(a, b)
    }

    #[inline(always)]
    unsafe fn spread(from: *const f32) -> [f32; 4] {
        // SAFETY: promised by the caller.
        [unsafe { *from }; 4]
    }

    #[inline(always)]
    unsafe fn groups(from: *const f32) -> [f32; 4] {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: promised by the caller.
        Plain(unsafe { Self::groups(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
}

/// The same, multiplying pairs of bfloat16 as two f32 each.
#[derive(Clone, Copy)]
pub(super) struct PlainPairs(Plain);

impl Vector for PlainPairs {
    type Element = Bf16;
    type Factor = [[f32; 4]; 2];
    const LANES: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        PlainPairs(Plain::zero())
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        PlainPairs(self.0.add(other.0))
    }

    #[inline(always)]
    fn fma(self, a: Self::Factor, b: Self::Factor) -> Self {
        PlainPairs(self.0.fused(a[0], b[0]).fused(a[1], b[1]))
    }

    #[inline(always)]
    unsafe fn spread(from: *const Bf16) -> Self::Factor {
        // SAFETY: promised by the caller: a pair.
        pair(unsafe { from.cast::<u32>().read_unaligned() }).map(|x| [x; 4])
    }

    #[inline(always)]
    unsafe fn groups(from: *const Bf16) -> Self::Factor {
        // SAFETY: promised by the caller: four pairs.
        let pairs = unsafe { from.cast::<[u32; 4]>().read_unaligned() }.map(pair);
        [pairs.map(|pair| pair[0]), pairs.map(|pair| pair[1])]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: promised by the caller.
        PlainPairs(unsafe { Plain::load(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: promised by the caller.
        unsafe { self.0.store(to) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::{Vector, pair};
    use crate::bf16::Bf16;

    /// Half of the pairs as f32: the lower ones by a shift, the upper ones by a mask.
    const UPPER: i32 = 0xFFFF_0000_u32.cast_signed();

    macro_rules! halves {
        ($all:expr, $cast:ident, $shift:expr, $and:ident, $set:ident) => {{
            let all = $all;
            [$cast($shift(all)), $cast($and(all, $set(UPPER)))]
        }};
    }

    // SAFETY of all in here: used only inside the functions of `tile` that enable the instructions; memory is
    // promised by the caller.
    macro_rules! vector {
        ($name:ident, $element:ty, $register:ty, $factor:ty, $lanes:expr, $zero:ident, $add:ident, $load:ident, $store:ident,
         fma: |$sum:ident, $a:ident, $b:ident| $fma:expr, spread: |$one:ident| $spread:expr, groups: |$many:ident| $groups:expr) => {
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name($register);

            impl Vector for $name {
                type Element = $element;
                type Factor = $factor;
                const LANES: usize = $lanes;

                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: see above.
                    $name(unsafe { $zero() })
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: see above.
                    $name(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                fn fma(self, $a: $factor, $b: $factor) -> Self {
                    let $sum = self.0;
                    // SAFETY: see above.
                    $name(unsafe { $fma })
                }

                #[inline(always)]
                unsafe fn spread($one: *const $element) -> $factor {
                    // SAFETY: see above.
                    unsafe { $spread }
                }

                #[inline(always)]
                unsafe fn groups($many: *const $element) -> $factor {
                    // SAFETY: see above.
                    unsafe { $groups }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: see above.
                    $name(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: see above.
                    unsafe { $store(to, self.0) }
                }
            }
        };
    }
    vector!(Avx512, f32, __m512, __m512, 16, _mm512_setzero_ps, _mm512_add_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        fma: |sum, a, b| _mm512_fmadd_ps(a, b, sum), spread: |x| _mm512_set1_ps(*x), groups: |x| _mm512_loadu_ps(x));
    vector!(Avx2, f32, __m256, __m256, 8, _mm256_setzero_ps, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps,
        fma: |sum, a, b| _mm256_fmadd_ps(a, b, sum), spread: |x| _mm256_set1_ps(*x), groups: |x| _mm256_loadu_ps(x));
    // The instruction multiplies pairs itself.
    vector!(Bf16Pairs, Bf16, __m512, __m512i, 16, _mm512_setzero_ps, _mm512_add_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        fma: |sum, a, b| _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)),
        spread: |x| _mm512_set1_epi32(x.cast::<i32>().read_unaligned()), groups: |x| _mm512_loadu_si512(x.cast()));
    vector!(Avx512Pairs, Bf16, __m512, [__m512; 2], 16, _mm512_setzero_ps, _mm512_add_ps, _mm512_loadu_ps, _mm512_storeu_ps,
        fma: |sum, a, b| _mm512_fmadd_ps(a[1], b[1], _mm512_fmadd_ps(a[0], b[0], sum)),
        spread: |x| pair(x.cast::<u32>().read_unaligned()).map(|x| _mm512_set1_ps(x)),
        groups: |x| halves!(_mm512_loadu_si512(x.cast()), _mm512_castsi512_ps, _mm512_slli_epi32::<16>, _mm512_and_si512, _mm512_set1_epi32));
    vector!(Avx2Pairs, Bf16, __m256, [__m256; 2], 8, _mm256_setzero_ps, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps,
        fma: |sum, a, b| _mm256_fmadd_ps(a[1], b[1], _mm256_fmadd_ps(a[0], b[0], sum)),
        spread: |x| pair(x.cast::<u32>().read_unaligned()).map(|x| _mm256_set1_ps(x)),
        groups: |x| halves!(_mm256_loadu_si256(x.cast()), _mm256_castsi256_ps, _mm256_slli_epi32::<16>, _mm256_and_si256, _mm256_set1_epi32));
}
