//! Element-wise functions that the compiler can turn into vector code: no branch, no table, no call.

use crate::isa::{PLAIN_FMA, dispatched};

/// `a · b + c`, in one instruction where `FMA` says that there is one.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Range reduction to `2^n · e^r`, `|r| ≤ ln 2 / 2`, and the Taylor polynomial of degree 7 for `e^r`.
#[inline(always)]
pub(crate) fn exp_by<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let sum = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = sum - ROUND;
    let r = fma::<FMA>(-n, LN2_LOW, fma::<FMA>(-n, LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = fma::<FMA>(p, r, coefficient);
    }
    p * f32::from_bits(sum.to_bits().wrapping_add(127) << 23)
}

#[inline(always)]
pub(crate) fn sigmoid_by<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp_by::<FMA>(-x))
}

#[inline(always)]
pub(crate) fn tanh_by<const FMA: bool>(x: f32) -> f32 {
    1.0 - 2.0 / (exp_by::<FMA>(2.0 * x) + 1.0)
}

/// `e^x` to about 2e-7 relative; arguments are clamped to [-87, 88].
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_by::<PLAIN_FMA>(x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_by::<PLAIN_FMA>(x)
}

/// Hyperbolic tangent, to about 1e-7 absolute.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    tanh_by::<PLAIN_FMA>(x)
}

/// The n-th random number of a key: the output function of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
pub fn random(key: u64, n: u64) -> u64 {
    let mut z = key.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Partial sums of a reduction: their number is fixed, so that the order of the additions is.
pub(crate) const SUMS: usize = 32;

/// `Σ f(values of the slices)`, in [`SUMS`] partial sums of a fixed order, so that the compiler can use vectors.
macro_rules! sum_of {
    (|$($x:ident),+| $term:expr, $($slice:expr),+) => {{
        let mut sums = [0.0f32; $crate::math::SUMS];
        let mut at = 0;
        let len = usize::MAX$(.min($slice.len()))+;
        while at + $crate::math::SUMS <= len {
            $(let $x: &[f32; $crate::math::SUMS] = $slice[at..at + $crate::math::SUMS].try_into().unwrap_or(&[0.0; _]);)+
            for i in 0..$crate::math::SUMS {
                $(let $x = $x[i];)+
                sums[i] += $term;
            }
            at += $crate::math::SUMS;
        }
        let mut rest = 0.0f32;
        for i in at..len {
            $(let $x = $slice[i];)+
            rest += $term;
        }
        $crate::math::total(sums) + rest
    }};
}
pub(crate) use sum_of;

/// The sum by halves.
#[inline(always)]
pub(crate) fn total(mut sums: [f32; SUMS]) -> f32 {
    let mut half = SUMS / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    sum_of!(|x, y| x * y, a, b)
}

dispatched! {
    /// The dot product, its terms added in a fixed order.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_standard_library() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let close = |exp: f32, tanh: f32, sigmoid: f32| {
                assert!((f64::from(exp) - exact).abs() <= 1e-6 * exact, "exp({x})");
                assert!((f64::from(tanh) - f64::from(x).tanh()).abs() < 3e-7, "tanh({x})");
                assert!((f64::from(sigmoid) - 1.0 / (1.0 + f64::from(-x).exp())).abs() < 3e-7);
            };
            close(exp(x), tanh(x), sigmoid(x));
            close(exp_by::<true>(x), tanh_by::<true>(x), sigmoid_by::<true>(x));
        }
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
