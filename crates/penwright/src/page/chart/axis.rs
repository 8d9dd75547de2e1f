//! Axes: from values to places, and ticks at round values.

use crate::page::format::{duration, si, significant};

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are equally far apart; values must be above zero.
    Log,
}

/// What an axis measures: where its ticks stand and how they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// A plain number.
    Number,
    /// A time in seconds.
    Seconds,
    /// A large number of something, with prefixes such as M and G.
    Count(&'static str),
}

impl Measure {
    /// A value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Measure::Number => significant(value),
            Measure::Seconds => duration(value),
            Measure::Count(unit) => si(value, unit),
        }
    }

    fn tick(self, value: f64) -> String {
        let short = |x: f64| format!("{x:.6}").trim_end_matches('0').trim_end_matches('.').to_string();
        match self {
            Measure::Number => short(value),
            Measure::Seconds => match value {
                v if v < 60.0 => format!("{}\u{a0}s", short(v)),
                // Half minutes read well as a decimal, ten seconds do not.
                v if v < 3600.0 && (v / 30.0).fract() > 1e-6 => duration(v),
                v if v < 3600.0 => format!("{}\u{a0}min", short(v / 60.0)),
                v => format!("{}\u{a0}h", short(v / 3600.0)),
            },
            Measure::Count(unit) => {
                let step = value.abs().max(1.0).log10().div_euclid(3.0).min(6.0);
                let prefix = ["", "k", "M", "G", "T", "P", "E"][step as usize];
                format!("{}\u{a0}{prefix}{unit}", short(value / 1000f64.powf(step))).trim_end().to_string()
            }
        }
    }
}

/// An axis over a range of values.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Values and how they read.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that holds all the values. `None` when there is none that it can show.
    pub(super) fn over(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        measure: Measure,
        ticks: usize,
    ) -> Option<Axis> {
        let shown = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let places = match scale {
            Scale::Linear => linear_ticks(low, high, measure, ticks),
            Scale::Log => log_ticks(low, high, measure, ticks),
        };
        let first = places.first().copied().unwrap_or(low).min(low);
        let last = places.last().copied().unwrap_or(high).max(high);
        // One value alone gets some room on both sides.
        let (low, high) = match scale {
            _ if last > first => (first, last),
            Scale::Linear => (first - 0.5, last + 0.5),
            Scale::Log => (first / 2.0, last * 2.0),
        };
        Some(Axis { scale, low, high, ticks: places.into_iter().map(|v| (v, measure.tick(v))).collect() })
    }

    /// The place of a value between 0 and 1; `None` when it cannot be shown.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let t = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        t.is_finite().then(|| t.clamp(0.0, 1.0))
    }
}

/// Multiples of a round step that reach around the range.
fn linear_ticks(low: f64, high: f64, measure: Measure, count: usize) -> Vec<f64> {
    const SECONDS: [f64; 14] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
    let least = (high - low).max(1e-9 * high.abs()).max(1e-12) / count.max(1) as f64;
    let magnitude = 10f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| *step >= least * 0.999);
    let decimal = round.unwrap_or(least);
    let step = match measure {
        Measure::Seconds if least <= 1800.0 => SECONDS.into_iter().find(|step| *step >= least).unwrap_or(decimal),
        Measure::Seconds => 3600.0 * (least / 3600.0).ceil(),
        _ => decimal,
    };
    let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
    (0..=(last - first).clamp(0.0, 50.0) as u32).map(|i| (first + f64::from(i)) * step).collect()
}

/// Round values within the range, evenly thinned to about `count`.
fn log_ticks(low: f64, high: f64, measure: Measure, count: usize) -> Vec<f64> {
    const SECONDS: [f64; 17] = [
        0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 10800.0, 36000.0, 86400.0,
        259200.0,
    ];
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let candidates: Vec<f64> = match measure {
        Measure::Seconds => SECONDS.to_vec(),
        _ if high / low > 1e4 => decades.map(|d| 10f64.powi(d)).collect(),
        _ if high / low > 10.0 => decades.flat_map(|d| [1.0, 3.0].map(|m| m * 10f64.powi(d))).collect(),
        _ => decades.flat_map(|d| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(d))).collect(),
    };
    let inside: Vec<f64> = candidates.into_iter().filter(|v| *v >= low * 0.999 && *v <= high * 1.001).collect();
    let every = inside.len().div_ceil(count.max(1)).max(1);
    inside.into_iter().step_by(every).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticks(low: f64, high: f64, scale: Scale, measure: Measure) -> Vec<String> {
        Axis::over([low, high].into_iter(), scale, measure, 5).unwrap().ticks.into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(1.72, 3.31, Scale::Linear, Measure::Number), ["1.5", "2", "2.5", "3", "3.5"]);
        let seconds = ticks(0.0, 140.0, Scale::Linear, Measure::Seconds).join(" ").replace('\u{a0}', "");
        assert_eq!(seconds, "0s 30s 1min 1.5min 2min 2.5min");
        let seconds = ticks(0.0, 70.0, Scale::Linear, Measure::Seconds).join(" ").replace('\u{a0}', "");
        assert_eq!(seconds, "0s 20s 40s 1min 1min20s");
        let flops = ticks(2e9, 7e13, Scale::Log, Measure::Count("FLOP")).join(" ").replace('\u{a0}', "");
        assert_eq!(flops, "10GFLOP 100GFLOP 1TFLOP 10TFLOP");
        assert!(Axis::over([f64::NAN, -1.0, 0.0].into_iter(), Scale::Log, Measure::Number, 5).is_none());
    }

    proptest! {
        #[test]
        fn every_value_has_a_place(low in 1e-3..1e6f64, ratio in 1.0..1e9f64, log: bool, kind in 0..3) {
            let scale = if log { Scale::Log } else { Scale::Linear };
            let measure = [Measure::Number, Measure::Seconds, Measure::Count("")][kind as usize];
            let axis = Axis::over([low, low * ratio].into_iter(), scale, measure, 5).unwrap();
            prop_assert!(axis.ticks.len() <= 52);
            let places: Vec<f64> = axis.ticks.iter().map(|(v, _)| axis.place(*v).unwrap()).collect();
            prop_assert!(places.windows(2).all(|p| p[0] < p[1]), "{:?}", axis);
            prop_assert!(axis.place(low).unwrap() <= axis.place(low * ratio).unwrap());
        }
    }
}
