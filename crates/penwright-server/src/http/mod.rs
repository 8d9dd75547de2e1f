//! HTTP: connections, bodies, events, and how it is answered when something is wrong.

mod body;
mod connection;
mod error;
mod events;

pub(crate) use body::{parsed, read};
pub(crate) use connection::Connections;
pub(crate) use error::{ApiError, JSON, json, typed};
pub(crate) use events::{Events, events};
