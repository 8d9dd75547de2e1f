//! The arithmetic of Penwright.
