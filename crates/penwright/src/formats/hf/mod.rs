//! Hugging Face's directories.

pub(crate) mod config;
