//! What can go wrong before the first request.

use std::net::SocketAddr;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server does not start or goes on. Its `Display` is one sentence: what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library's.
    #[error(transparent)]
    Model(#[from] penwright::Error),
    /// A setting has a value that cannot work. The name is the flag's, without dashes.
    #[error("--{name}: {problem}")]
    Setting {
        /// The setting's name as on the command line, without dashes.
        name: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The address cannot be had.
    #[error("cannot listen at {addr}: {source}; choose another port with --addr")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start the server's threads: {0}; close other programs or lower --threads")]
    Threads(String),
    /// The system's event queue fails.
    #[error("the network cannot be used: {0}")]
    Network(#[from] std::io::Error),
}
