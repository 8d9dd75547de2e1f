//! The speed of this machine's own limits, and of what Penwright does beside them.
//!
//! A figure is named by its group and what it measures: `peak_f32`, `products.gpt2-124m-4x64.up.f32.packed`,
//! `train.lstm-2x512-64x128.f32`. A limit is what the machine could do at most, measured in the same process: the
//! fastest of several repetitions; everything else is the median. What a piece of work needs at least is counted, not
//! what it happens to do: arithmetic at the peak of its precision, or weights, moments and gradients through memory at
//! its bandwidth, whichever takes longer.

mod clock;
mod decoding;
mod machine;
mod products;
mod threads;
mod training;

use std::ops::ControlFlow;

use serde::Serialize;

use crate::layers::random;
use crate::{Error, Result};
use clock::{Effort, Times};
use machine::Machine;

/// One thing measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// The median of the repetitions; of a limit of the machine the best.
    pub value: f64,
    /// `GFLOP/s`, `GOP/s`, `GB/s` (10⁹ bytes), `tokens/s`, `×`; less is better in `ms` alone.
    pub unit: &'static str,
    /// What the machine allows at most (at least, in `ms`), in the same unit.
    pub limit: Option<f64>,
    /// How much of the limit was reached.
    pub fraction: Option<f64>,
    /// What the limit comes from: `arithmetic`, `memory` (or cache, where the weights stay there) or `threads`.
    pub limited_by: Option<&'static str>,
    /// How often it was measured.
    pub repetitions: usize,
    /// Distance between the quartiles of the repetitions, as a part of their median.
    pub spread: f64,
    /// Threads it ran on.
    pub threads: usize,
}

impl Figure {
    fn new(name: &str, unit: &'static str, value: f64, times: &Times) -> Self {
        let (repetitions, spread) = (times.count(), times.spread());
        let threads = rayon::current_num_threads();
        let name = name.into();
        Figure { name, value, unit, limit: None, fraction: None, limited_by: None, repetitions, spread, threads }
    }

    fn within(mut self, limit: f64, by: &'static str) -> Self {
        self.limit = Some(limit);
        self.fraction = Some(if self.unit == "ms" { limit / self.value } else { self.value / limit });
        self.limited_by = Some(by);
        self
    }
}

/// What happens as figures are measured.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// This one is measured now.
    Begins(&'a str),
    /// It was measured.
    Measured(&'a Figure),
    /// It cannot be measured here, and why.
    Skipped(&'a str, String),
}

/// One figure that can be measured.
pub struct Case {
    name: String,
    group: &'static str,
    /// Whether it is among those measured when none is named.
    short: bool,
    work: Work,
}

type Work = Box<dyn Fn(&str, &mut Machine) -> Result<Figure> + Send>;

impl Case {
    fn new(
        group: &'static str,
        name: String,
        short: bool,
        work: impl Fn(&str, &mut Machine) -> Result<Figure> + Send + 'static,
    ) -> Self {
        Case { name, group, short, work: Box::new(work) }
    }

    /// The figure's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its group: `peak`, `products`, `train`, `decode` or `threads`.
    pub fn group(&self) -> &'static str {
        self.group
    }
}

/// All figures, in the order in which they are measured.
pub fn cases() -> Vec<Case> {
    let groups = [machine::cases(), products::cases(), training::cases(), decoding::cases(), threads::cases()];
    groups.into_iter().flatten().collect()
}

/// Those whose group, name or beginning of a name is among `names`; without names a short selection.
///
/// # Errors
/// When a name fits nothing.
pub fn select(names: &[String]) -> Result<Vec<Case>> {
    let fits = |case: &Case, name: &str| case.group == name || case.name.starts_with(name);
    let all = cases();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|case| fits(case, name))) {
        let problem = format!("there is no figure named {name}; see penwright bench --list");
        return Err(Error::Unsupported(problem));
    }
    let wanted = |case: &Case| match names {
        [] => case.short,
        names => names.iter().any(|name| fits(case, name)),
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Measures the figures one after another on the threads of the current pool; `quick` repeats less. `on_event` may end
/// it after any.
pub fn run(cases: &[Case], quick: bool, on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) {
    let mut machine = Machine::new(if quick { Effort::QUICK } else { Effort::FULL });
    for case in cases {
        if on_event(Event::Begins(&case.name)).is_break() {
            return;
        }
        let flow = match (case.work)(&case.name, &mut machine) {
            Ok(figure) => on_event(Event::Measured(&figure)),
            Err(error) => on_event(Event::Skipped(&case.name, error.to_string())),
        };
        if flow.is_break() {
            return;
        }
    }
}

/// The n-th token of a text drawn at random.
fn draw(text: u64, n: usize, vocab: usize) -> u32 {
    (((random(text, n as u64) >> 32) * vocab as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_and_found_by_their_beginnings() {
        let names: Vec<String> = cases().iter().map(|case| case.name.clone()).collect();
        let single: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(single.len(), names.len());
        let select = |names: &[&str]| select(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(select(&["peak"]).unwrap().iter().any(|case| case.name == "memory_read"));
        let rows = select(&["train.gpt2-124m-4x64"]).unwrap();
        assert!(!rows.is_empty() && rows.iter().all(|case| case.name.starts_with("train.gpt2-124m-4x64.")));
        assert!(!select(&[]).unwrap().is_empty() && select(&[]).unwrap().len() < names.len());
        assert!(select(&["peak", "trian"]).err().unwrap().to_string().contains("trian"));
    }

    #[test]
    fn what_is_quick_to_measure_is_within_its_limits() {
        let cases = select(&["peak_f32".into(), "products.gpt2-4x128-12x64.out".into()]).unwrap();
        let mut figures = Vec::new();
        run(&cases, true, &mut |event| {
            match event {
                Event::Measured(figure) => figures.push(figure.clone()),
                Event::Skipped(name, reason) => panic!("{name}: {reason}"),
                Event::Begins(_) => {}
            }
            ControlFlow::Continue(())
        });
        assert_eq!(figures.len(), cases.len());
        for figure in &figures {
            assert!(figure.value > 0.0 && figure.repetitions > 2, "{figure:?}");
            // On a machine that does other things too a limit may be measured too low, but not by much.
            assert!(figure.fraction.is_none_or(|fraction| fraction > 0.0 && fraction < 3.0), "{figure:?}");
        }
    }
}
