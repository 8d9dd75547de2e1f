//! The names of models on the hub, told apart from paths.

use std::fmt;
use std::path::Path;

use crate::{Error, Result};

/// GPT-2's published sizes have names of one word, from before the hub had users.
const CANONICAL: [&str; 5] = ["distilgpt2", "gpt2", "gpt2-large", "gpt2-medium", "gpt2-xl"];

/// What no model is called, but a mistyped file name is.
const ENDINGS: [&str; 8] = [".bin", ".gguf", ".json", ".jsonl", ".md", ".safetensors", ".toml", ".txt"];

/// A model on the hub at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    /// `gpt2` or `user/name`.
    pub(super) repo: String,
    /// `main` if none was named.
    pub(super) revision: String,
}

impl Id {
    /// Reads `name`, `user/name` or either with `@revision`; `None` if it is not of that form.
    pub(super) fn parse(text: &str) -> Option<Id> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let known = CANONICAL.contains(&repo) || repo.split_once('/').is_some_and(|(u, n)| is_part(u) && is_part(n));
        let path = ENDINGS.iter().any(|ending| repo.ends_with(ending));
        (known && !path && is_revision(revision)).then(|| Id { repo: repo.into(), revision: revision.into() })
    }

    /// [`Self::parse`], or the sentence that says what an id looks like.
    pub(super) fn expect(text: &str) -> Result<Id> {
        Id::parse(text).ok_or_else(|| {
            Error::Unsupported(format!(
                "{text} is not the name of a model on the hub; those are {} or user/name, with @branch, @tag or \
                 @commit after it if need be",
                CANONICAL.join(", ")
            ))
        })
    }

    /// Whether the revision is a commit, which never changes.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.revision.as_str() {
            "main" => write!(f, "{}", self.repo),
            revision => write!(f, "{}@{revision}", self.repo),
        }
    }
}

/// Whether a name given for a run is the id of a model on the hub rather than a path.
///
/// It is an id if nothing of that name exists here and it is `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`,
/// `distilgpt2` or `user/name`, each also with `@branch`, `@tag` or `@commit`. In `user/name` both parts are of the
/// letters, digits, `-`, `_` and `.` that the hub allows, and no folder `user` exists here, so that a mistyped
/// `runs/book` beside a folder `runs` stays a missing path. Everything else is a path: what begins with `/`, `./` or
/// `~`, has more slashes or a backslash, or ends like a file (`.gguf`, `.json`, `.txt`, …).
pub fn is_id(name: &str) -> bool {
    let Some(id) = Id::parse(name) else { return false };
    let taken = id.repo.split_once('/').is_some_and(|(user, _)| Path::new(user).is_dir());
    !taken && std::fs::symlink_metadata(name).is_err()
}

/// The hub's rule for names of users and models.
fn is_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    bytes.len() <= 96
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !part.contains("..")
        && !part.contains("--")
        && !part.ends_with(".git")
}

/// A branch, tag, `refs/pr/1` or commit that is safe as a path below `refs` and in an address.
fn is_revision(revision: &str) -> bool {
    revision.len() <= 200
        && revision.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.ends_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
        })
}

/// Forty hexadecimal digits, as git writes them.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_and_paths() {
        for id in
            ["gpt2", "gpt2-xl", "distilgpt2", "openai-community/gpt2", "gpt2@main", "a/b.c-d_e@refs/pr/1", "_u/n1"]
        {
            assert!(is_id(id), "{id}");
        }
        let long = "x".repeat(97);
        for path in [
            "",
            "book",
            "GPT2",
            "./gpt2",
            "/gpt2",
            "~/gpt2",
            "a/b/c",
            "a\\b",
            "C:\\b",
            "a/b.gguf",
            "a/b.json",
            "a/b.txt",
            "../b",
            "a/..",
            "-a/b",
            "a-/b",
            "a/.b",
            "a//b",
            "a/",
            "/",
            "@main",
            "gpt2@",
            "gpt2@../x",
            "gpt2@a//b",
            "gpt2@/a",
            "gpt2@a b",
            "gpt2@a@b",
            "a/b--c",
            "a/b\n",
            "http://a/b",
            "a/b.git",
            &format!("a/{long}"),
        ] {
            assert!(!is_id(path), "{path}");
        }
        // The tests run in the crate's folder: what exists, or would lie in a folder that exists, is a path.
        for path in ["src/hub", "src/nothing", "src/nothing@main", "tests/hub"] {
            assert!(!is_id(path), "{path}");
        }
        assert_eq!(Id::parse("u/n@v1.0").map(|id| id.to_string()).as_deref(), Some("u/n@v1.0"));
        assert!(
            Id::expect("a b").is_err_and(|e| e.to_string().starts_with("a b is not the name of a model on the hub"))
        );
    }

    proptest! {
        /// Whatever passes as an id stays inside the cache folder and inside an address.
        #[test]
        fn no_id_escapes(text in "[a-z.@/\\-_~%?# ]{1,24}") {
            if let Some(id) = Id::parse(&text) {
                for part in id.repo.split('/').chain(id.revision.split('/')) {
                    prop_assert!(!part.is_empty() && !part.starts_with('.'), "{text}");
                    prop_assert!(!part.contains(['%', '?', '#', ' ', '~', '@']), "{text}");
                }
            }
        }
    }
}
