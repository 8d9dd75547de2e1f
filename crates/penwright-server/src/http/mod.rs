//! HTTP: connections, bodies, events, and how it is answered when something is wrong.

mod body;
mod connection;
mod error;
mod events;

pub(crate) use body::read;
pub(crate) use connection::Connections;
pub(crate) use error::{ApiError, json};
pub(crate) use events::{Events, events};
