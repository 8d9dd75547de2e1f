//! Hugging Face's directories.

pub(crate) mod config;
pub(crate) mod weights;
