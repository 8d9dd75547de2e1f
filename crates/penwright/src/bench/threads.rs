//! One thread against all, on each training step.

use rayon::ThreadPoolBuilder;

use super::clock::Times;
use super::machine::Machine;
use super::training::{PRECISIONS, Precision, Shape, Training, shapes};
use super::{Case, Figure};
use crate::{Error, Result};

fn speedup(name: &str, machine: &mut Machine, shape: &Shape, precision: Precision) -> Result<Figure> {
    let threads = rayon::current_num_threads();
    let none = |e| Error::Unsupported(format!("cannot start threads: {e}"));
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().map_err(none);
    if threads < 2 {
        return Err(Error::Unsupported("there is one thread only; give --threads 2".into()));
    }
    let (one, all) = (pool(1)?, pool(threads)?);
    let mut training = Training::new(shape, precision)?;
    all.install(|| training.step());
    // Steps alternate, so that whatever else the machine does falls on both.
    let mut single = Vec::new();
    let times = Times::measured(machine.effort, || {
        single.push(one.install(|| training.step()));
        all.install(|| training.step())
    });
    let figure = Figure::new(name, "×", Times::from(single).median() / times.median(), &times);
    Ok(figure.within(threads as f64, "threads"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in shapes() {
        for &precision in PRECISIONS {
            let (name, shape) = (format!("threads.{}.{}", shape.name, precision.name), shape.clone());
            let work = move |name: &str, machine: &mut Machine| speedup(name, machine, &shape, precision);
            cases.push(Case::new("threads", name, false, work));
        }
    }
    cases
}
