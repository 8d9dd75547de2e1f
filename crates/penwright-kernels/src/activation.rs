//! The non-linearities that GPT-2 configurations name beside its own GELU, with their derivatives.

use crate::isa::dispatched;
use crate::math::{exp_by, fma, sigmoid_by, tanh_by};

/// Defines `y = f(x)` and `d *= f'(x)` over slices.
macro_rules! activation {
    ($(#[$doc:meta])* $forward:ident, $backward:ident = |$x:ident| $value:expr, $slope:expr;
     $forward_body:ident, $backward_body:ident) => {
        dispatched! {
            $(#[$doc])*
            pub fn $forward(x: &[f32], y: &mut [f32]) = $forward_body;
        }

        #[inline(always)]
        fn $forward_body<const FMA: bool>(x: &[f32], y: &mut [f32]) {
            for (y, &$x) in y.iter_mut().zip(x) {
                *y = $value;
            }
        }

        dispatched! {
            /// `d` holds the gradient of the function's value and becomes that of x.
            pub fn $backward(x: &[f32], d: &mut [f32]) = $backward_body;
        }

        #[inline(always)]
        fn $backward_body<const FMA: bool>(x: &[f32], d: &mut [f32]) {
            for (d, &$x) in d.iter_mut().zip(x) {
                *d *= $slope;
            }
        }
    };
}

/// Φ(x), the normal distribution function, by the rational approximation 7.1.26 of erf in Abramowitz and Stegun 1964,
/// to about 1e-7 absolute.
#[inline(always)]
fn normal<const FMA: bool>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<FMA>(0.327_591_1, z, 1.0);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = fma::<FMA>(p, t, coefficient);
    }
    let half_tail = 0.5 * p * t * exp_by::<FMA>(-z * z);
    if x < 0.0 { half_tail } else { 1.0 - half_tail }
}

/// φ(x), the normal density.
#[inline(always)]
fn density<const FMA: bool>(x: f32) -> f32 {
    0.398_942_3 * exp_by::<FMA>(-0.5 * x * x)
}

activation! {
    /// GELU exactly (Hendrycks and Gimpel 2016): `x Φ(x)`.
    gelu_exact, gelu_exact_backward = |x| x * normal::<FMA>(x), fma::<FMA>(x, density::<FMA>(x), normal::<FMA>(x));
    gelu_exact_body, gelu_exact_backward_body
}

/// The factor of the sigmoid form of GELU.
const QUICK: f32 = 1.702;

activation! {
    /// GELU in its sigmoid form (Hendrycks and Gimpel 2016): `x σ(1.702 x)`.
    gelu_quick, gelu_quick_backward = |x| x * sigmoid_by::<FMA>(QUICK * x), {
        let s = sigmoid_by::<FMA>(QUICK * x);
        fma::<FMA>(QUICK * x * s, 1.0 - s, s)
    };
    gelu_quick_body, gelu_quick_backward_body
}

activation! {
    /// `max(x, 0)`.
    relu, relu_backward = |x| if x > 0.0 { x } else { 0.0 }, if x > 0.0 { 1.0 } else { 0.0 };
    relu_body, relu_backward_body
}

activation! {
    /// SiLU, also called swish (Elfwing et al. 2017): `x σ(x)`.
    silu, silu_backward = |x| x * sigmoid_by::<FMA>(x), {
        let s = sigmoid_by::<FMA>(x);
        fma::<FMA>(x * s, 1.0 - s, s)
    };
    silu_body, silu_backward_body
}

activation! {
    /// Hyperbolic tangent.
    tanh_of, tanh_of_backward = |x| tanh_by::<FMA>(x), {
        let t = tanh_by::<FMA>(x);
        fma::<FMA>(-t, t, 1.0)
    };
    tanh_of_body, tanh_of_backward_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::with_each;
    use proptest::prelude::*;

    /// Φ(x) by its series, in double precision.
    fn normal_exactly(x: f64) -> f64 {
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term.abs() > 1e-17 && n < 400.0 {
            n += 2.0;
            term *= x * x / n;
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    fn sigmoid_exactly(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    type Pass = fn(&[f32], &mut [f32]);
    type Case = (&'static str, Pass, Pass, fn(f64) -> f64);

    proptest! {
        #[test]
        fn values_and_slopes(x in prop::collection::vec(-7f32..7.0, 1..90)) {
            let all: [Case; 5] = [
                ("gelu_exact", gelu_exact, gelu_exact_backward, |x| x * normal_exactly(x)),
                ("gelu_quick", gelu_quick, gelu_quick_backward, |x| x * sigmoid_exactly(1.702 * x)),
                ("relu", relu, relu_backward, |x| x.max(0.0)),
                ("silu", silu, silu_backward, |x| x * sigmoid_exactly(x)),
                ("tanh", tanh_of, tanh_of_backward, f64::tanh),
            ];
            with_each(|isa| for (name, forward, backward, exactly) in all {
                let (mut y, mut d) = (vec![0.0; x.len()], vec![2.0; x.len()]);
                forward(&x, &mut y);
                backward(&x, &mut d);
                for ((x, y), d) in x.iter().map(|&x| f64::from(x)).zip(&y).zip(&d) {
                    let error = (exactly(x) - f64::from(*y)).abs();
                    assert!(error < 2e-6, "{name} {isa:?} at {x}: {error}");
                    let slope = (exactly(x + 1e-5) - exactly(x - 1e-5)) / 1e-5;
                    assert!(name == "relu" && x.abs() < 2e-5 || (slope - f64::from(*d)).abs() < 1e-5, "{name} {isa:?} slope at {x}");
                }
            });
        }
    }
}
