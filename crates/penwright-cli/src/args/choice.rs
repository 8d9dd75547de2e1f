//! The flags of how tokens are chosen that `generate` and `chat` share.

use clap::Args;
use penwright::generate::Sampling;

#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Below 1 likelier, above 1 bolder; 0 takes the likeliest token always [default: 0.8]
    #[arg(long, value_name = "X", help_heading = "Choice of tokens", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,
    /// Only the N likeliest tokens; 0 for all [default: 0]
    #[arg(long, value_name = "N", help_heading = "Choice of tokens")]
    pub(crate) top_k: Option<usize>,
    /// Only the likeliest tokens that together have probability X
    #[arg(
        long,
        value_name = "X",
        help_heading = "Choice of tokens",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    top_p: f32,
    /// Only tokens at least X times as likely as the likeliest
    #[arg(
        long,
        value_name = "X",
        help_heading = "Choice of tokens",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    min_p: f32,
    /// Multiplies the log-probability of tokens that the text (in a chat, the model's own turns) has already; 1 for none
    #[arg(
        long,
        value_name = "X",
        help_heading = "Choice of tokens",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    repetition_penalty: f32,
}

impl Choice {
    /// What the flags say, the rest being the defaults.
    pub(crate) fn sampling(&self, seed: u64) -> Sampling {
        let defaults = Sampling::default();
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed,
            ..defaults
        }
    }
}
