//! The average of the weights as they go (Polyak and Juditsky 1992): what is validated, sampled and saved in place of the
//! weights that are trained.

use std::fmt;
use std::str::FromStr;

use penwright_kernels::{approach, chunks, chunks_mut, each, team};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::TASK;
use crate::model::Values;

/// Validations that must have brought nothing before averaging begins, n in Merity et al. (2018).
const NON_MONOTONE: usize = 5;

/// How weights are averaged. As text: `off`, `nt`, or the decay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Averaging {
    /// The weights count as they are.
    #[default]
    Off,
    /// Exponentially, with this decay for each step; at the start it is lower (see [`Average::exponential`]).
    Decay(f32),
    /// Evenly, from when validation no longer improves (NT-ASGD, Merity, Keskar and Socher 2018).
    Triggered,
}

impl fmt::Display for Averaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Averaging::Off => f.write_str("off"),
            Averaging::Decay(decay) => decay.fmt(f),
            Averaging::Triggered => f.write_str("nt"),
        }
    }
}

impl FromStr for Averaging {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Averaging::Off),
            "nt" => Ok(Averaging::Triggered),
            number => match number.parse::<f32>() {
                Ok(decay) if decay > 0.0 && decay < 1.0 => Ok(Averaging::Decay(decay)),
                _ => Err(format!("`{text}` is not a decay between 0 and 1 (such as 0.999), nt or off")),
            },
        }
    }
}

impl Serialize for Averaging {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Averaging {
    /// From its text; a decay also as a number.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Averaging;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decay between 0 and 1, \"nt\" or \"off\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Averaging, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: Error>(self, decay: f64) -> Result<Averaging, E> {
                self.visit_str(&decay.to_string())
            }

            fn visit_i64<E: Error>(self, decay: i64) -> Result<Averaging, E> {
                self.visit_str(&decay.to_string())
            }
        }
        d.deserialize_any(Text)
    }
}

/// A running average of an arena.
pub struct Average {
    pub(in crate::train) values: Values,
    /// The decay; `None` for an even average.
    decay: Option<f32>,
    steps: u64,
}

impl Average {
    /// An exponential average that begins with weights. Its decay is the lower of `decay` and (1 + t) / (10 + t) at step
    /// t, as TensorFlow's `ExponentialMovingAverage` has it: it reaches back over the last tenth of a run that is short,
    /// and no beginning remains in it.
    pub fn exponential(values: Vec<f32>, decay: f32) -> Self {
        Average { values: values.into(), decay: Some(decay), steps: 0 }
    }

    /// An even average of the weights that are to come.
    pub fn even(values: Vec<f32>) -> Self {
        Average { values: values.into(), decay: None, steps: 0 }
    }

    /// The average.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Weights that are averaged already.
    pub(in crate::train) fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes up an average of so many weights; false when it belongs to another arena.
    pub(in crate::train) fn restore(&mut self, values: Vec<f32>, steps: u64) -> bool {
        let fits = values.len() == self.values.len();
        (self.values, self.steps) = (values.into(), steps);
        fits
    }

    /// Takes in the weights after a step.
    pub fn update(&mut self, params: &[f32]) {
        self.steps += 1;
        let step = self.steps as f64;
        let rate = match self.decay {
            Some(decay) => 1.0 - f64::from(decay).min((1.0 + step) / (10.0 + step)),
            None => 1.0 / step,
        };
        let parts = (chunks_mut(&mut self.values, TASK), chunks(params, TASK));
        team(|| each(parts, |_, (average, p)| approach(average, p, rate as f32)));
    }
}

/// The validation losses so far, from which averaging is triggered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validations(Vec<f64>);

impl Validations {
    /// Takes in a loss and tells whether averaging begins: when it is worse than the best of all but the last five
    /// validations before it (Merity, Keskar and Socher 2018; n = 5).
    pub fn triggers(&mut self, loss: f64) -> bool {
        let old = &self.0[..self.0.len().saturating_sub(NON_MONOTONE)];
        let triggers = old.iter().any(|&before| loss > before);
        self.0.push(loss);
        triggers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_what_their_definitions_say() {
        let weights: Vec<[f32; 2]> = (0..300).map(|t| [t as f32, (t as f32).sqrt()]).collect();
        let mut even = Average::even(vec![7.0; 2]);
        let mut late = Average::exponential(vec![7.0; 2], 0.9);
        for w in &weights {
            even.update(w);
            late.update(w);
        }
        for i in 0..2 {
            let exact = weights.iter().map(|w| f64::from(w[i])).sum::<f64>() / 300.0;
            assert!((f64::from(even.values()[i]) - exact).abs() < 1e-3 * exact);
            // From step 81 on the decay is 0.9, and what was before counts 0.9²²⁰.
            let weight = |t: usize| 0.1 * 0.9f64.powi(299 - t as i32);
            let exact: f64 = (0..300).map(|t| weight(t) * f64::from(weights[t][i])).sum();
            assert!((f64::from(late.values()[i]) - exact).abs() < 1e-3 * exact);
        }
        // The first decays are 2/11, 3/12 …: of what was there at the start next to nothing is left after ten steps.
        let mut short = Average::exponential(vec![1.0], 0.9999);
        (0..10).for_each(|_| short.update(&[0.0]));
        assert!(short.values()[0] < 1e-4);
    }

    #[test]
    fn averaging_begins_when_validation_no_longer_improves() {
        let first = |losses: &[f64]| {
            let mut validations = Validations::default();
            losses.iter().position(|&loss| validations.triggers(loss))
        };
        assert_eq!(first(&[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), None);
        // Worse than the one before is not yet worse than what was six validations ago.
        assert_eq!(first(&[2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 2.05, 1.9]), Some(6));
        assert_eq!(first(&[2.0, 2.5, 2.4, 2.3, 2.2, 2.1, 1.9, 1.95]), None);
        assert_eq!(first(&[1.0, 2.0, 2.0, 2.0, 2.0]), None);
    }

    #[test]
    fn averaging_is_written_as_it_is_read() {
        for text in ["off", "nt", "0.999"] {
            assert_eq!(text.parse::<Averaging>().unwrap().to_string(), text);
        }
        for wrong in ["", "1", "0", "-0.5", "NaN", "on", "1.5"] {
            assert!(wrong.parse::<Averaging>().is_err(), "{wrong}");
        }
        #[derive(Deserialize)]
        struct File {
            average: Averaging,
        }
        for text in ["average = 0.99", "average = \"0.99\""] {
            assert_eq!(toml::from_str::<File>(text).unwrap().average, Averaging::Decay(0.99));
        }
        assert!(toml::from_str::<File>("average = 2").is_err());
    }
}
