//! The embedded book, written for this project (see `assets/novel/README.md`).

use std::io::Read;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/novel.gz"));

/// The whole text.
pub(crate) fn text() -> String {
    let mut text = String::new();
    // The bytes are made by build.rs; a test reads them, so they cannot be damaged.
    let _ = flate2::read::GzDecoder::new(PACKED).read_to_string(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn is_a_whole_novel_without_repetition() {
        let text = super::text();
        assert!(text.len() >= 200_000, "{} bytes", text.len());
        assert!(text.matches("Chapter ").count() >= 20);
        // No passage of 200 characters stands in it twice.
        let chars: Vec<char> = text.chars().collect();
        let mut seen = HashSet::new();
        assert!(chars.windows(200).all(|passage| seen.insert(passage)));
    }
}
