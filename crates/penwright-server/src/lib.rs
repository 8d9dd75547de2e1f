//! Serves Penwright's models over HTTP: an OpenAI-compatible API and a page.
//!
//! ```text
//! connection ─► http (keys, limits, CORS) ─► api (a request's fields) ─► engine (queue, batches) ─► events ─► answer
//! ```
//!
//! [`Server::bind`] takes runs opened by [`Run::open_to_write`](penwright::run::Run::open_to_write) and listens;
//! [`Server::run`] answers until a [`Stopper`] says otherwise. Nothing is printed.

mod api;
mod app;
mod engine;
mod error;
mod http;
mod metrics;
mod models;
mod options;
mod page;
mod random;
mod server;
mod train;

pub use error::{Error, Result};
pub use models::name_of;
pub use options::{Keys, Options};
pub use server::{Server, Stopped, Stopper};
