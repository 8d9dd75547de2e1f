//! The binary `penwright`.
fn main() {}
