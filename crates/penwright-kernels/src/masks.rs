//! Passes over values and the factors of a dropout mask that is shared by many of them.

use crate::bf16::Element;
use crate::isa::dispatched;

dispatched! {
    /// `x *= mask`, as far as the shorter reaches.
    pub fn multiply(x: &mut [f32], mask: &[f32]) = multiply_body;
}

#[inline(always)]
fn multiply_body<const FMA: bool>(x: &mut [f32], mask: &[f32]) {
    x.iter_mut().zip(mask).for_each(|(x, m)| *x *= m);
}

dispatched! {
    /// `y = x ⊙ mask`, rounded to the kind of number E, as far as the shortest reaches.
    pub fn masked<E: Element>(x: &[E], mask: &[f32], y: &mut [E]) = masked_body;
}

#[inline(always)]
fn masked_body<E: Element, const FMA: bool>(x: &[E], mask: &[f32], y: &mut [E]) {
    y.iter_mut().zip(x).zip(mask).for_each(|((y, x), m)| *y = E::of(x.get() * m));
}

/// A row of hidden states and its neighbours in time; at an end of the window a neighbour is the row itself.
#[derive(Clone, Copy, Debug)]
pub struct Neighbours<'a, E> {
    /// One step earlier.
    pub before: &'a [E],
    /// The row.
    pub now: &'a [E],
    /// One step later.
    pub after: &'a [E],
}

dispatched! {
    /// From the gradient `d` of `m ⊙ h` to that of h, with those of `activity / 2 · Σ (m ⊙ h)²` and of
    /// `change / 2 · Σ (h − h of the step before)²`:
    /// `d ← m (d + activity · m h) + change · (2 h − before − after)`. All rows are as long as `d`.
    pub fn outputs_backward<E: Element>(d: &mut [E], h: Neighbours<'_, E>, mask: &[f32], activity: f32, change: f32)
        = outputs_backward_body;
}

#[inline(always)]
fn outputs_backward_body<E: Element, const FMA: bool>(
    d: &mut [E],
    h: Neighbours<'_, E>,
    mask: &[f32],
    activity: f32,
    change: f32,
) {
    let values = d.iter_mut().zip(h.before).zip(h.now).zip(h.after).zip(mask);
    for ((((d, before), now), after), m) in values {
        let (before, now, after) = (before.get(), now.get(), after.get());
        let kept = m * (d.get() + activity * (m * now));
        *d = E::of(kept + change * ((now - before) - (after - now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16::Bf16;
    use crate::isa::with_each;
    use crate::random;

    fn values(n: usize, key: u64) -> Vec<f32> {
        (0..n as u64).map(|i| (random(key, i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }

    fn kinds<E: Element>(tolerance: f32) {
        for n in [0, 1, 7, 16, 33, 100] {
            let [x, mask, d, before, after] = [1, 2, 3, 4, 5].map(|key| values(n, key));
            let round = |x: &[f32]| x.iter().map(|x| E::of(*x)).collect::<Vec<E>>();
            let [x, d, before, after] = [x, d, before, after].map(|x| round(&x));
            with_each(|isa| {
                let mut y = vec![E::default(); n];
                masked(&x, &mask, &mut y);
                let mut gradient = d.clone();
                let h = Neighbours { before: &before, now: &x, after: &after };
                outputs_backward(&mut gradient, h, &mask, 0.7, 0.3);
                for i in 0..n {
                    let [x, d, a, b] = [&x, &d, &before, &after].map(|v| v[i].get());
                    assert!((y[i].get() - x * mask[i]).abs() <= tolerance, "{isa:?}");
                    let expected = mask[i] * d + 0.7 * mask[i] * mask[i] * x + 0.3 * (2.0 * x - a - b);
                    assert!((gradient[i].get() - expected).abs() <= 4.0 * tolerance, "{isa:?}");
                }
            });
        }
    }

    #[test]
    fn as_defined_in_either_kind_of_number() {
        kinds::<f32>(1e-6);
        kinds::<Bf16>(1.0 / 128.0);
        let mut x = values(50, 1);
        multiply(&mut x, &values(40, 2));
        let expected =
            values(50, 1).into_iter().enumerate().map(|(i, x)| if i < 40 { x * values(40, 2)[i] } else { x });
        assert_eq!(x, expected.collect::<Vec<_>>());
    }
}
