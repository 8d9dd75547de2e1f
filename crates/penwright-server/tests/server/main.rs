//! The server over real connections on the loopback, with small models of random weights.

mod bad_input;
mod endpoints;
mod faults;
mod limits;
mod page;
mod properties;
mod support;
mod texts;
