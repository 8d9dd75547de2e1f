//! Reading texts: find, decode, clean, join, split.
