use super::*;
use crate::isa::with_each;
use proptest::collection::vec;
use proptest::prelude::*;

fn values(len: usize) -> impl Strategy<Value = Vec<f32>> {
    vec(-3.0f32..3.0, len)
}

fn close(what: &str, ours: &[f32], exact: impl IntoIterator<Item = f64>) {
    let exact: Vec<f64> = exact.into_iter().collect();
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (i, (x, y)) in ours.iter().zip(&exact).enumerate() {
        assert!((f64::from(*x) - y).abs() < 2e-4 * (1.0 + y.abs()), "{what}[{i}]: {x} for {y}");
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn gelu_exactly(x: f64) -> f64 {
    0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044715 * x * x * x)).tanh())
}

fn softmax_exactly(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
    x.iter().map(|x| (x - max).exp() / sum).collect()
}

fn norm_exactly(x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    x.iter().map(|x| (x - mean) / (var + 1e-5).sqrt()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn element_wise(x in (1usize..200).prop_flat_map(values)) {
        with_each(|isa| {
            let mut y = vec![0.0; x.len()];
            gelu(&x, &mut y);
            close(&format!("gelu {isa:?}"), &y, wide(&x).into_iter().map(gelu_exactly));
            let mut d = vec![2.0; x.len()];
            gelu_backward(&x, &mut d);
            let slope = |x: f64| (gelu_exactly(x + 1e-5) - gelu_exactly(x - 1e-5)) / 1e-5;
            close("gelu_backward", &d, wide(&x).into_iter().map(slope));
            add(&mut y, &x);
            close("add", &y, wide(&x).into_iter().map(|x| gelu_exactly(x) + x));
            let sum: f64 = wide(&x).iter().map(|x| x * x).sum();
            prop_assert_close(sum_squares(&x), sum);
            prop_assert_close(f64::from(crate::dot(&x, &x)), sum);
        });
    }

    #[test]
    fn layer_norms((x, dy, gain) in (2usize..90).prop_flat_map(|c| (values(3 * c), values(3 * c), values(c)))) {
        let c = gain.len();
        let forward = |x: &[f64]| -> Vec<f64> {
            let rows = x.chunks(c).flat_map(norm_exactly);
            rows.enumerate().map(|(i, n)| n * f64::from(gain[i % c]) + 0.5).collect()
        };
        let loss = |x: &[f64]| -> f64 { forward(x).iter().zip(wide(&dy)).map(|(y, d)| y * d).sum() };
        with_each(|_| {
            let (mut y, mut dx, mut sums) = (vec![0.0; 3 * c], vec![1.0; 3 * c], vec![0.0; 2 * c]);
            layer_norm(&x, &gain, &vec![0.5; c], 1e-5, &mut y);
            close("layer_norm", &y, forward(&wide(&x)));
            layer_norm_backward(&x, &gain, 1e-5, &dy, &mut dx, &mut sums);
            let normed: Vec<f64> = wide(&x).chunks(c).flat_map(norm_exactly).collect();
            let column = |f: &dyn Fn(usize) -> f64| (0..c).map(|j| (0..3).map(|r| f(r * c + j)).sum()).collect::<Vec<f64>>();
            close("gain", &sums[..c], column(&|i| normed[i] * f64::from(dy[i])));
            close("bias", &sums[c..], column(&|i| f64::from(dy[i])));
            let mut bias = vec![0.0; c];
            add_columns(&mut bias, &dy, c, 0);
            close("add_columns", &bias, column(&|i| f64::from(dy[i])));
            if c > 3 {
                let mut some = vec![0.0; c - 3];
                add_columns(&mut some, &dy, c, 2);
                assert_eq!(some, bias[2..c - 1]);
            }
            // Rows that are almost constant have derivatives too steep to compare.
            let steep = wide(&x).chunks(c).any(|x| norm_exactly(x).iter().zip(x).any(|(n, x)| n.abs() > 4.0 * (1.0 + x.abs())));
            if c > 8 && !steep {
                let mut moved = wide(&x);
                for i in 0..3 * c {
                    let middle = moved[i];
                    moved[i] = middle + 1e-5;
                    let more = loss(&moved);
                    moved[i] = middle - 1e-5;
                    let slope = 1.0 + (more - loss(&moved)) / 2e-5;
                    moved[i] = middle;
                    assert!((f64::from(dx[i]) - slope).abs() < 1e-2 * (1.0 + slope.abs()), "dx {} for {slope}", dx[i]);
                }
            }
        });
    }

    #[test]
    fn softmaxes(x in (2usize..100).prop_flat_map(|v| values(3 * v))) {
        let v = x.len() / 3;
        let targets = [0, (v - 1) as u32, (v / 2) as u32];
        with_each(|_| {
            let exact: Vec<f64> = wide(&x).chunks(v).flat_map(softmax_exactly).collect();
            let mut y = x.clone();
            let mut d = vec![9.0; 3 * (v + 1)];
            let loss = cross_entropy(&mut y, &targets, 0.25, &mut d);
            let at = |row: usize| row * v + targets[row] as usize;
            prop_assert_close(loss, (0..3).map(|row| -exact[at(row)].ln()).sum());
            let hit = |i: usize| f64::from(u8::from(i == at(i / v)));
            assert!(d.chunks(v + 1).all(|d| d[v] == 0.0));
            let d: Vec<f32> = d.chunks(v + 1).flat_map(|d| &d[..v]).copied().collect();
            close("cross_entropy", &d, exact.iter().enumerate().map(|(i, p)| (p - hit(i)) * 0.25));
            let mut y = x[..v].to_vec();
            log_softmax(&mut y);
            close("log_softmax", &y, exact[..v].iter().map(|p| p.ln()));
            const TEMPERATURES: [f32; 3] = [0.5, 1.0, 1.75];
            let mut losses = vec![[0.0; 3]; v];
            (0..v).for_each(|i| tempered_losses(&x[..v], i, &TEMPERATURES, &mut losses[i]));
            assert!(losses.iter().zip(&y).all(|(losses, p)| losses[1].to_bits() == (-p).to_bits()));
            for (t, temperature) in TEMPERATURES.into_iter().enumerate() {
                let flat: Vec<f64> = wide(&x[..v]).iter().map(|x| x / f64::from(temperature)).collect();
                let losses: Vec<f32> = losses.iter().map(|losses| losses[t]).collect();
                close("tempered_losses", &losses, softmax_exactly(&flat).iter().map(|p| -p.ln()));
            }
        });
    }

    #[test]
    fn adam_and_dropout((p, g, m) in (1usize..100).prop_flat_map(|n| (values(n), values(n), values(n))), key: u64) {
        with_each(|_| {
            let v: Vec<f32> = m.iter().map(|x| x * x).collect();
            let (mut p2, mut m2, mut v2) = (p.clone(), m.clone(), v.clone());
            let step = AdamStep { betas: (0.9, 0.99), unbias: (0.3, 0.2), lr: 0.01, epsilon: 1e-8, scale: 0.5 };
            adamw(&mut p2, &g, &mut m2, &mut v2, step, 0.97);
            let exact = (0..p.len()).map(|i| {
                let (p, g, m, v) = (f64::from(p[i]), f64::from(g[i]) * 0.5, f64::from(m[i]), f64::from(v[i]));
                let (m, v) = (0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g);
                0.97 * p - 0.01 * (m / 0.3) / ((v / 0.2).sqrt() + 1e-8)
            });
            close("adamw", &p2, exact.collect::<Vec<_>>());
            let mut dropped = p.clone();
            dropout(&mut dropped, key, 5, 0.3);
            let kept = |i: usize| (random(key, 5 + i as u64) >> 40) as f64 / f64::from(1u32 << 24) >= f64::from(0.3f32);
            close("dropout", &dropped, (0..p.len()).map(|i| if kept(i) { f64::from(p[i]) / 0.7 } else { 0.0 }));
        });
    }
}

fn prop_assert_close(x: f64, y: f64) {
    assert!((x - y).abs() < 1e-4 * (1.0 + y.abs()), "{x} for {y}");
}
