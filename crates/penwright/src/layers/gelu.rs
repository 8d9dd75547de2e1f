//! GELU in its tanh form (Hendrycks and Gimpel 2016): `½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.

use penwright_kernels::tanh;
use rayon::prelude::*;

const SCALE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
const TASK: usize = 4096;

/// y = gelu(x).
pub fn gelu(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = 0.5 * x * (1.0 + tanh(SCALE * (x + CUBIC * x * x * x)));
        }
    });
}

/// `d` holds dy and becomes dx.
pub fn gelu_backward(x: &[f32], d: &mut [f32]) {
    d.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(d, x)| {
        for (d, &x) in d.iter_mut().zip(x) {
            let t = tanh(SCALE * (x + CUBIC * x * x * x));
            let slope = SCALE * (1.0 + 3.0 * CUBIC * x * x);
            *d *= 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope;
        }
    });
}
