//! Passes of optimizers beside AdamW, each on one thread: the callers cut the work. Compiled for each instruction set
//! ([`crate::isa`]).

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::fma;

dispatched! {
    /// Nesterov's momentum of `scale · g`: `m ← β m + (1 − β) scale g`, then `u = β m + (1 − β) scale g`.
    pub fn nesterov(g: &[f32], m: &mut [f32], u: &mut [f32], scale: f32, beta: f32) = nesterov_body;
}

#[inline(always)]
fn nesterov_body<const FMA: bool>(g: &[f32], m: &mut [f32], u: &mut [f32], scale: f32, beta: f32) {
    let scale = (1.0 - beta) * scale;
    for ((g, m), u) in g.iter().zip(m).zip(u) {
        let g = scale * g;
        *m = fma::<FMA>(beta, *m, g);
        *u = fma::<FMA>(beta, *m, g);
    }
}

dispatched! {
    /// `to = scale · from`, rounded to the kind of number that products multiply.
    pub fn scaled<E: Element>(from: &[f32], to: &mut [E], scale: f32) = scaled_body;
}

#[inline(always)]
fn scaled_body<E: Element, const FMA: bool>(from: &[f32], to: &mut [E], scale: f32) {
    from.iter().zip(to).for_each(|(from, to)| *to = E::of(scale * from));
}

dispatched! {
    /// `square ← b · x + c · square`: two terms of a polynomial of x.
    pub fn polynomial(x: &[f32], square: &mut [f32], b: f32, c: f32) = polynomial_body;
}

#[inline(always)]
fn polynomial_body<const FMA: bool>(x: &[f32], square: &mut [f32], b: f32, c: f32) {
    x.iter().zip(square).for_each(|(x, square)| *square = fma::<FMA>(c, *square, b * x));
}

dispatched! {
    /// `p ← keep · p − rate · u`.
    pub fn descend<E: Element>(p: &mut [f32], u: &[E], rate: f32, keep: f32) = descend_body;
}

#[inline(always)]
fn descend_body<E: Element, const FMA: bool>(p: &mut [f32], u: &[E], rate: f32, keep: f32) {
    p.iter_mut().zip(u).for_each(|(p, u)| *p = fma::<FMA>(keep, *p, -rate * u.get()));
}

dispatched! {
    /// Momentum of `scale · g`: `m ← β m + scale g`.
    pub fn momentum(g: &[f32], m: &mut [f32], scale: f32, beta: f32) = momentum_body;
}

#[inline(always)]
fn momentum_body<const FMA: bool>(g: &[f32], m: &mut [f32], scale: f32, beta: f32) {
    g.iter().zip(m).for_each(|(g, m)| *m = fma::<FMA>(beta, *m, scale * g));
}

dispatched! {
    /// `x ← x + rate · (to − x)`: a step of a running average. Where both are equal, x stays as it is.
    pub fn approach(x: &mut [f32], to: &[f32], rate: f32) = approach_body;
}

#[inline(always)]
fn approach_body<const FMA: bool>(x: &mut [f32], to: &[f32], rate: f32) {
    x.iter_mut().zip(to).for_each(|(x, to)| *x = fma::<FMA>(rate, to - *x, *x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Bf16;
    use crate::isa::with_each;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Each value as the formula says in double precision, within `tolerance` of its size.
    fn close(what: &str, ours: &[f32], exact: impl Iterator<Item = f64>, tolerance: f64) {
        for (i, (x, y)) in ours.iter().zip(exact).enumerate() {
            assert!((f64::from(*x) - y).abs() <= tolerance * (1.0 + y.abs()), "{what}[{i}]: {x} for {y}");
        }
    }

    fn wide(x: &[f32]) -> impl Iterator<Item = f64> {
        x.iter().map(|&x| f64::from(x))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn as_the_formulas_say(
            (x, y) in (1usize..150).prop_flat_map(|n| (vec(-3.0f32..3.0, n), vec(-3.0f32..3.0, n))),
            s in -2.0f32..2.0,
            beta in 0.0f32..1.0,
        ) {
            let (s64, b64) = (f64::from(s), f64::from(beta));
            let pairs = || wide(&x).zip(wide(&y));
            with_each(|_| {
                let (mut m, mut u) = (y.clone(), vec![0.0; x.len()]);
                nesterov(&x, &mut m, &mut u, s, beta);
                let mean = |g: f64, m: f64| b64 * m + (1.0 - b64) * s64 * g;
                close("nesterov's m", &m, pairs().map(|(g, m)| mean(g, m)), 1e-6);
                close("nesterov's u", &u, pairs().map(|(g, m)| mean(g, mean(g, m))), 1e-6);
                let mut z = y.clone();
                momentum(&x, &mut z, s, beta);
                close("momentum", &z, pairs().map(|(g, m)| b64 * m + s64 * g), 1e-6);
                z.copy_from_slice(&y);
                polynomial(&x, &mut z, s, beta);
                close("polynomial", &z, pairs().map(|(x, y)| s64 * x + b64 * y), 1e-6);
                z.copy_from_slice(&y);
                descend(&mut z, &x, s, beta);
                close("descend", &z, pairs().map(|(u, p)| b64 * p - s64 * u), 1e-6);
                z.copy_from_slice(&y);
                approach(&mut z, &x, beta);
                close("approach", &z, pairs().map(|(to, x)| x + b64 * (to - x)), 1e-6);
                scaled(&x, &mut z, s);
                close("scaled", &z, wide(&x).map(|x| s64 * x), 1e-6);
                let mut rounded = vec![Bf16::default(); x.len()];
                scaled(&x, &mut rounded, s);
                let rounded: Vec<f32> = rounded.iter().map(|x| x.get()).collect();
                close("rounded", &rounded, wide(&x).map(|x| s64 * x), 4e-3);
            });
        }

        #[test]
        fn what_has_arrived_stays(x in vec(-3.0f32..3.0, 1..90), rate in 0.0f32..1.0) {
            with_each(|_| {
                let mut y = x.clone();
                approach(&mut y, &x, rate);
                assert_eq!(x, y);
            });
        }
    }
}
