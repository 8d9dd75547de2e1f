//! What a file's content must be: the hub's ETags are hashes of it.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A file's hash and size, as the hub states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// 64 hexadecimal digits: SHA-256 of the content (large files); 40: git's hash of it (the others).
    pub(super) hash: String,
    /// Bytes.
    pub(super) size: u64,
}

impl Identity {
    /// From an ETag with or without quotes and `W/`; `None` if it is no hash.
    pub(super) fn new(etag: &str, size: u64) -> Option<Identity> {
        let hash = etag.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let hex = hash.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && (hash.len() == 40 || hash.len() == 64)).then_some(Identity { hash, size })
    }
}

/// The hash of a content that arrives in pieces.
pub(super) enum Hasher {
    /// SHA-256 of the content.
    Sha256(Sha256),
    /// SHA-1 of `blob <size>`, a zero byte and the content, as git names it.
    Git(Sha1),
}

impl Hasher {
    pub(super) fn new(identity: &Identity) -> Hasher {
        match identity.hash.len() {
            64 => Hasher::Sha256(Sha256::new()),
            _ => Hasher::Git(Sha1::new_with_prefix(format!("blob {}\0", identity.size))),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    /// The hash as lower-case hexadecimal digits.
    pub(super) fn finish(self) -> String {
        match self {
            Hasher::Sha256(hasher) => format!("{:x}", hasher.finalize()),
            Hasher::Git(hasher) => format!("{:x}", hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_sha256sum_and_git_hash_object_give_them() {
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for etag in [sha256, git] {
            let identity = Identity::new(&format!("W/\"{}\"", etag.to_uppercase()), 5).unwrap();
            let mut hasher = Hasher::new(&identity);
            hasher.update(b"hel");
            hasher.update(b"lo");
            assert_eq!(hasher.finish(), etag);
        }
        assert_eq!(Identity::new("\"../../x\"", 5), None);
        assert_eq!(Identity::new("d41d8cd98f00b204e9800998ecf8427e-2", 5), None);
    }
}
