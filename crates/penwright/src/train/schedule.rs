//! The learning rate over the course of training.

use serde::{Deserialize, Serialize};

/// The form of the schedule after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to a tenth (Loshchilov and Hutter 2017).
    Cosine,
    /// Warm-up, stable, decay (Hu et al. 2024): constant, then linearly to nothing over the last part, a fifth
    /// where none is given.
    #[default]
    Wsd,
    /// Linearly to nothing over the whole (Bergsma et al. 2025, arXiv 2502.15938).
    Linear,
    /// Constant.
    Constant,
}

/// The part of the training over which the learning rate of [`Schedule::Wsd`] falls, where none is given.
pub const LR_DECAY: f64 = 0.2;

impl Schedule {
    /// The factor on the peak learning rate when `progress` of the training (0 to 1) is done; `decay` is the part over
    /// which that of [`Schedule::Wsd`] falls.
    pub fn factor(self, progress: f64, decay: f64) -> f64 {
        const FLOOR: f64 = 0.1;
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Wsd => ((1.0 - progress) / decay).min(1.0),
            Schedule::Linear => 1.0 - progress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_one_and_ends_low() {
        let ends = [(Schedule::Cosine, 0.1), (Schedule::Wsd, 0.0), (Schedule::Linear, 0.0), (Schedule::Constant, 1.0)];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        for (schedule, end) in ends {
            assert!(close(schedule.factor(0.0, LR_DECAY), 1.0) && close(schedule.factor(1.0, LR_DECAY), end));
        }
        let wsd = |progress, decay| Schedule::Wsd.factor(progress, decay);
        assert!(close(wsd(0.79, 0.2), 1.0) && close(wsd(0.9, 0.2), 0.5));
        assert!(close(wsd(0.59, 0.4), 1.0) && close(wsd(0.7, 0.4), 0.75));
        for progress in [0.0, 0.4, 1.0] {
            assert!(close(wsd(progress, 1.0), Schedule::Linear.factor(progress, 0.2)));
        }
    }
}
