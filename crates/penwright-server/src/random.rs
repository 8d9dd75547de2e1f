//! Random numbers of the system's.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Another number each time, that nobody can guess.
pub(crate) fn random() -> u64 {
    // The standard library seeds its hashers from the system's randomness.
    RandomState::new().build_hasher().finish()
}
