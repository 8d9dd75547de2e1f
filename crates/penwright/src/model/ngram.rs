//! The n-gram model (a file; becomes a folder `ngram/` as it grows).
