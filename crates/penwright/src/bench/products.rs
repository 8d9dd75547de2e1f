//! Matrix products of the sizes that the models' training steps have.

use penwright_kernels::{Bf16, Element, Factor, Init, Matrix, Output, Packed, product_into, product_packed, team};

use super::clock::Times;
use super::machine::{Arithmetic, Machine};
use super::training::{Shape, shapes};
use super::{Case, Figure};
use crate::Result;
use crate::layers::random;
use crate::run::ModelConfig;

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lies {
    /// Rows one after another.
    Rows,
    /// Transposed.
    Columns,
}

/// `[m, k] · [k, n]`.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    name: &'static str,
    m: usize,
    n: usize,
    k: usize,
    left: Lies,
    right: Lies,
}

/// The products of a model: of each kind of layer forward, and of the widest the gradients of input and weights.
fn products(shape: &Shape) -> Vec<Sizes> {
    let rows = shape.batch * shape.context;
    let (forward, turned) = (Lies::Rows, Lies::Columns);
    let sizes = |name, [m, n, k]: [usize; 3], left, right| Sizes { name, m, n, k, left, right };
    match &shape.model {
        ModelConfig::Gpt2(c) => vec![
            sizes("qkv", [rows, 3 * c.width, c.width], forward, forward),
            sizes("out", [rows, c.width, c.width], forward, forward),
            sizes("up", [rows, c.inner(), c.width], forward, forward),
            sizes("down", [rows, c.width, c.inner()], forward, forward),
            sizes("up-input", [rows, c.width, c.inner()], forward, turned),
            sizes("up-weight", [c.width, c.inner(), rows], turned, forward),
            sizes("head", [rows, c.vocab, c.width], forward, turned),
        ],
        ModelConfig::Lstm(c) => vec![
            sizes("input", [rows, 4 * c.hidden, c.hidden], forward, turned),
            sizes("recurrent", [shape.batch, 4 * c.hidden, c.hidden], forward, turned),
            sizes("recurrent-state", [shape.batch, c.hidden, 4 * c.hidden], forward, forward),
            sizes("weight", [4 * c.hidden, c.hidden, rows], turned, forward),
            sizes("head", [rows, c.vocab, c.hidden], forward, turned),
        ],
        ModelConfig::Ngram(_) => Vec::new(),
    }
}

impl Sizes {
    fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

fn matrix<E: Element>(data: &[E], rows: usize, cols: usize, lies: Lies) -> Matrix<'_, E> {
    match lies {
        Lies::Rows => Matrix::new(data, rows, cols),
        Lies::Columns => Matrix::new(data, cols, rows).t(),
    }
}

fn noise<E: Element>(len: usize, seed: u64) -> Vec<E> {
    (0..len).map(|n| E::of((random(seed, n as u64) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)).collect()
}

/// Packing included, or on a right factor that is packed already.
fn measure<E: Factor>(name: &str, machine: &mut Machine, sizes: Sizes, packed: bool) -> Result<Figure> {
    let Sizes { m, n, k, .. } = sizes;
    let (a, b, mut c) = (noise::<E>(m * k, 1), noise::<E>(k * n, 2), vec![0.0; m * n]);
    let (left, right) = (matrix(&a, m, k, sizes.left), matrix(&b, k, n, sizes.right));
    let effort = machine.effort.brief();
    let mut ready = Packed::<E>::default();
    if packed {
        ready.pack(right);
    }
    let times = team(|| {
        Times::of(effort, || match packed {
            true => product_packed(Output::sums(&mut c, Init::Zero), left, &ready),
            false => product_into::<E, _, _>(Output::sums(&mut c, Init::Zero), left, right),
        })
    });
    let arithmetic = if E::GROUP == 1 { Arithmetic::F32 } else { Arithmetic::Bf16 };
    let limit = machine.peak(arithmetic) / 1e9;
    Ok(Figure::new(name, "GFLOP/s", sizes.flops() / times.median() / 1e9, &times).within(limit, "arithmetic"))
}

/// The kinds of products: precision, whether a factor is packed before, and what measures it.
type Kind = (&'static str, fn(&str, &mut Machine, Sizes) -> Result<Figure>);
const KINDS: &[Kind] = &[
    ("f32.packing", |name, machine, sizes| measure::<f32>(name, machine, sizes, false)),
    ("f32.packed", |name, machine, sizes| measure::<f32>(name, machine, sizes, true)),
    ("bf16.packing", |name, machine, sizes| measure::<Bf16>(name, machine, sizes, false)),
    ("bf16.packed", |name, machine, sizes| measure::<Bf16>(name, machine, sizes, true)),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in shapes() {
        for sizes in products(&shape) {
            for &(kind, measure) in KINDS {
                let name = format!("products.{}.{}.{kind}", shape.name, sizes.name);
                let short = shape.name == "gpt2-124m-4x64" && sizes.name == "up";
                cases.push(Case::new("products", name, short, move |name, machine| measure(name, machine, sizes)));
            }
        }
    }
    cases
}
