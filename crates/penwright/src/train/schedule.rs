//! The learning rate over the course of training.

use serde::{Deserialize, Serialize};

/// The form of the schedule after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to a tenth (Loshchilov and Hutter 2017).
    #[default]
    Cosine,
    /// Warm-up, stable, decay: constant, then linearly to a tenth over the last fifth.
    Wsd,
    /// Constant.
    Constant,
}

impl Schedule {
    /// The factor on the peak learning rate when `progress` of the training (0 to 1) is done.
    pub fn factor(self, progress: f64) -> f64 {
        const FLOOR: f64 = 0.1;
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Wsd => 1.0 - (1.0 - FLOOR) * ((progress - 0.8) / 0.2).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn starts_at_one_and_ends_at_a_tenth() {
        for schedule in [Schedule::Cosine, Schedule::Wsd] {
            assert!((schedule.factor(0.0) - 1.0).abs() < 1e-12);
            assert!((schedule.factor(1.0) - 0.1).abs() < 1e-12);
        }
        assert_eq!(Schedule::Wsd.factor(0.8), 1.0);
        assert_eq!(Schedule::Constant.factor(0.9), 1.0);
    }
}
