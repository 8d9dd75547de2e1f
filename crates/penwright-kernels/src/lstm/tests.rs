//! Cells against the equations in double precision, gradients against differences.

use super::*;
use crate::bf16::Bf16;
use crate::isa::with_each;
use proptest::collection::vec;
use proptest::prelude::*;

fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    vec(-3.0f32..3.0, len)
}

/// Cell and hidden state.
fn exact(a: [f64; 4], before: f64) -> (f64, f64) {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let cell = sigmoid(a[1]) * before + sigmoid(a[0]) * a[2].tanh();
    (cell, sigmoid(a[3]) * cell.tanh())
}

/// The gradients of the sums and of the cell state before, by differences of `½ cell + dh · hidden`.
fn slopes(a: [f64; 4], before: f64, dh: f64) -> ([f64; 4], f64) {
    let loss = |a, before| {
        let (cell, hidden) = exact(a, before);
        0.5 * cell + dh * hidden
    };
    let gates = [0, 1, 2, 3].map(|gate| {
        let (mut more, mut less) = (a, a);
        more[gate] += 1e-5;
        less[gate] -= 1e-5;
        (loss(more, before) - loss(less, before)) / 2e-5
    });
    (gates, (loss(a, before + 1e-5) - loss(a, before - 1e-5)) / 2e-5)
}

#[derive(Debug)]
struct Case {
    below: Vec<f32>,
    recurrent: Vec<f32>,
    before: Vec<f32>,
    dh: Vec<f32>,
    which: Option<Vec<u32>>,
    width: usize,
}

/// Three texts and a block of `width` units.
fn case() -> impl Strategy<Value = Case> {
    let which = prop_oneof![Just(None), vec(0..2u32, 3).prop_map(Some)];
    let sums = (values(3 * ROW), values(3 * ROW), values(3 * UNITS), values(3 * UNITS));
    (sums, which, 1..=UNITS).prop_map(|((below, recurrent, before, dh), which, width)| Case {
        below,
        recurrent,
        before,
        dh,
        which,
        width,
    })
}

fn check<E: Element>(case: &Case) {
    let Case { below, recurrent, before, dh, which, width } = case;
    let unit = if E::GROUP == 1 { 2e-4 } else { 0.02 };
    let close = |what: &str, x: f64, y: f64| assert!((x - y).abs() < unit * (1.0 + y.abs()), "{what}: {x} for {y}");
    let (mut gates, mut cell) = (vec![E::default(); 3 * 4 * width], vec![0.0; 3 * UNITS]);
    let mut hidden = vec![E::default(); 3 * UNITS];
    let sums = LstmSums { below, which: which.as_deref(), recurrent };
    let mut blocks = (
        BlockMut::grouped(&mut gates, 3, 4 * width, 4),
        BlockMut::whole(&mut cell, 3, UNITS),
        BlockMut::whole(&mut hidden, 3, UNITS),
    );
    lstm_forward(sums, before, &mut blocks.0, &mut blocks.1, &mut blocks.2);
    let mut dcell = vec![0.5; 3 * UNITS];
    let (mut bias, mut by_input) = (vec![0.0; ROW], vec![0.0; 2 * ROW]);
    let by_input_of = which.as_ref().map(|which| (&mut by_input[..], &which[..]));
    let mut totals = LstmGradients { bias: &mut bias, by_input: by_input_of };
    let mut block = BlockMut::grouped(&mut gates, 3, 4 * width, 4);
    lstm_backward(&mut block, before, &cell, dh, &mut BlockMut::whole(&mut dcell, 3, UNITS), &mut totals);
    let (mut all, mut some) = (vec![0.0; ROW], vec![0.0; 2 * ROW]);
    for row in 0..3 {
        let from = which.as_ref().map_or(row, |which| which[row] as usize);
        for j in 0..*width {
            let at = row * UNITS + j;
            let a = [0, 1, 2, 3].map(|gate| {
                f64::from(below[from * ROW + gate * UNITS + j]) + f64::from(recurrent[row * ROW + gate * UNITS + j])
            });
            let b = f64::from(before[at]);
            let (c, h) = exact(a, b);
            close("cell", cell[at].into(), c);
            close("hidden", hidden[at].get().into(), h);
            let (d, d_before) = slopes(a, b, dh[at].into());
            close("dcell", dcell[at].into(), d_before);
            for gate in 0..4 {
                close("gate", gates[(row * 4 + gate) * width + j].get().into(), d[gate]);
                all[gate * UNITS + j] += d[gate];
                if which.is_some() {
                    some[from * ROW + gate * UNITS + j] += d[gate];
                }
            }
        }
    }
    for gate in 0..4 {
        for j in gate * UNITS..gate * UNITS + width {
            close("bias", f64::from(bias[j]) / 3.0, all[j] / 3.0);
            close("by input", f64::from(by_input[j]) / 3.0, some[j] / 3.0);
            close("by input", f64::from(by_input[ROW + j]) / 3.0, some[ROW + j] / 3.0);
        }
    }
}

proptest! {
    #[test]
    fn steps_and_their_gradients(case in case()) {
        with_each(|_| {
            check::<f32>(&case);
            check::<Bf16>(&case);
        });
    }
}
