//! The numbers that products multiply: f32, or bfloat16 (the upper half of an f32), whose products run twice as fast.

use std::fmt::{self, Debug};

use bytemuck::{Pod, Zeroable};

/// A bfloat16: sign, the eight bits of an f32's exponent, seven of its mantissa. It keeps the range of f32 and about
/// two and a half decimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

// SAFETY: a `u16` in other clothes, whatever its bits are.
unsafe impl Zeroable for Bf16 {}
// SAFETY: as above.
unsafe impl Pod for Bf16 {}

impl Bf16 {
    /// By its bits.
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        Bf16(bits)
    }

    /// Its bits.
    #[inline(always)]
    pub const fn to_bits(self) -> u16 {
        self.0
    }
}

impl Debug for Bf16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The bits of the nearest bfloat16, ties to even, in the upper half; the lower half is left over. NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let near = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { bits | 0x0040_0000 } else { near }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for super::Bf16 {}
}

/// A number that products multiply; sums are always f32.
pub trait Element: sealed::Sealed + Pod + Default + PartialEq + Debug + Send + Sync {
    /// How many steps of the inner dimension are multiplied by one instruction, and so lie side by side when packed.
    const GROUP: usize;
    /// Binary digits of its significand.
    const DIGITS: u32;

    /// Its value.
    fn get(self) -> f32;

    /// The nearest to a value, ties to even.
    fn of(x: f32) -> Self;
}

impl Element for f32 {
    const GROUP: usize = 1;
    const DIGITS: u32 = f32::MANTISSA_DIGITS;

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }
}

impl Element for Bf16 {
    const GROUP: usize = 2;
    const DIGITS: u32 = 8;

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        Bf16((rounded(x) >> 16) as u16)
    }
}

/// The same numbers, when they are of the kind T already.
pub fn same_kind<E: Element, T: Element>(x: &[E]) -> Option<&[T]> {
    (std::any::TypeId::of::<E>() == std::any::TypeId::of::<T>()).then(|| bytemuck::cast_slice(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounds_to_the_nearest(bits: u32) {
            let x = f32::from_bits(bits);
            let near = Bf16::of(x).get();
            if x.is_nan() {
                prop_assert!(near.is_nan());
            } else {
                // Neither neighbour is nearer; of two equally near ones the even one is taken.
                let below = f32::from_bits(bits & 0xFFFF_0000);
                let above = f32::from_bits((bits & 0xFFFF_0000).wrapping_add(0x1_0000));
                let (down, up) = (bits & 0xFFFF, 0x1_0000 - (bits & 0xFFFF));
                let even = bits >> 16 & 1 == 0;
                let expected = if down < up || (down == up && even) { below } else { above };
                prop_assert_eq!(near.to_bits(), expected.to_bits());
            }
        }
    }
}
