//! Train language models on your own text and write with them.
//!
//! The modules stand in the order in which the data flows:
//!
//! ```text
//! corpus ─► tokenizer ─► train (batches ─► model ─► optimizer) ─► run directory
//!                                                                    │
//!                                              score ◄───────────────┴─► generate
//! ```
//!
//! The library never prints, never exits and never reads flags: progress goes to callbacks, errors are
//! [`Error`] values.

pub mod bench;
pub mod compare;
pub mod corpus;
pub mod duration;
pub mod error;
pub mod export;
pub mod files;
mod formats;
pub mod generate;
pub mod hub;
pub mod inside;
pub mod layers;
pub mod memory;
pub mod model;
mod page;
pub mod report;
pub mod run;
pub mod score;
pub mod tokenizer;
pub mod tokens;
pub mod train;

pub use error::{Error, Result};
