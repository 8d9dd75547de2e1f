//! What moves on a terminal while something takes its time.
//!
//! [`View`] is a state machine: events in, a picture of any size out; it knows no terminal. [`Painter`] shows a
//! [`Scene`] such as it at the bottom of the terminal, at most ten times a second, and keeps what is said once above.
//! ratatui makes the pictures; they are written by [`screen`], relative to the cursor, because ratatui's own inline
//! viewport asks the terminal for the cursor's place through standard output, which may be a file.

mod chart;
mod draw;
mod painter;
mod screen;
mod status;
mod view;
pub(crate) mod words;

pub(crate) use painter::{Painter, Scene};
pub(crate) use screen::{can_paint, restore};
pub(crate) use status::Status;
pub(crate) use view::View;
#[cfg(test)]
pub(crate) use view::tests as events;
