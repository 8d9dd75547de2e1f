//! The flags of how tokens are chosen that `generate` and `chat` share.

use clap::{Args, ValueEnum};
use penwright::generate::{self, Sampling};

/// How the numbers of the weights are stored while writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// f32 up to 16 million parameters, else bf16
    Auto,
    /// As they are
    F32,
    /// 16 bits
    Bf16,
    /// 8 bits and scales
    Int8,
    /// 4 bits and scales
    Int4,
}

impl From<Precision> for generate::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Auto => generate::Precision::Auto,
            Precision::F32 => generate::Precision::F32,
            Precision::Bf16 => generate::Precision::Bf16,
            Precision::Int8 => generate::Precision::Int8,
            Precision::Int4 => generate::Precision::Int4,
        }
    }
}

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
    /// Numbers of the weights while writing; fewer bits are faster and less exact (`eval --precision` says how much)
    #[arg(long, value_enum, default_value = "auto", value_name = "P")]
    pub(crate) precision: Precision,
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
