//! The learning rate over the course of training.

use serde::{Deserialize, Serialize};

/// The form of the schedule after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine down to a tenth (Loshchilov and Hutter 2017).
    Cosine,
    /// Warm-up, stable, decay (Hu et al. 2024): constant, then linearly to nothing over the last fifth.
    #[default]
    Wsd,
    /// Linearly to nothing over the whole (Bergsma et al. 2025, arXiv 2502.15938).
    Linear,
    /// Constant.
    Constant,
}

impl Schedule {
    /// The factor on the peak learning rate when `progress` of the training (0 to 1) is done.
    pub fn factor(self, progress: f64) -> f64 {
        const FLOOR: f64 = 0.1;
        const DECAY: f64 = 0.2;
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => FLOOR + (1.0 - FLOOR) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Wsd => ((1.0 - progress) / DECAY).min(1.0),
            Schedule::Linear => 1.0 - progress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn starts_at_one_and_ends_low() {
        let ends = [(Schedule::Cosine, 0.1), (Schedule::Wsd, 0.0), (Schedule::Linear, 0.0), (Schedule::Constant, 1.0)];
        for (schedule, end) in ends {
            assert!((schedule.factor(0.0) - 1.0).abs() < 1e-12);
            assert!((schedule.factor(1.0) - end).abs() < 1e-12);
        }
        assert!((Schedule::Wsd.factor(0.79) - 1.0).abs() < 1e-12 && (Schedule::Wsd.factor(0.9) - 0.5).abs() < 1e-12);
        assert!((Schedule::Linear.factor(0.4) - 0.6).abs() < 1e-12);
    }
}
