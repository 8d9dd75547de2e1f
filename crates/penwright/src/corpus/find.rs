//! Which files an input stands for, and what their names say about their form.

use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use super::report::Skipped;
use crate::{Error, Result};

/// The form of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Text,
    Markdown,
    Html,
    Epub,
    Jsonl,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Markdown => "markdown",
            Format::Html => "html",
            Format::Epub => "epub",
            Format::Jsonl => "jsonl",
        }
    }

    fn of_extension(extension: &str) -> Option<Format> {
        Some(match extension {
            "txt" | "text" => Format::Text,
            "md" | "markdown" => Format::Markdown,
            "html" | "htm" | "xhtml" => Format::Html,
            "epub" => Format::Epub,
            "jsonl" | "ndjson" => Format::Jsonl,
            _ => return None,
        })
    }
}

/// One file to read, or standard input.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Named by the caller; a failure is then an error, while a file met in a folder is skipped and reported.
    pub(super) explicit: bool,
    /// What its name says; `None` when it says nothing and the content decides.
    pub(super) format: Option<Format>,
    /// Its size on disk; `None` for pipes.
    pub(super) bytes: Option<u64>,
}

impl Source {
    pub(super) fn is_stdin(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    pub(super) fn name(&self) -> String {
        if self.is_stdin() { "standard input".into() } else { self.path.display().to_string() }
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> Error {
        Error::damaged(self.name(), problem)
    }
}

const PACKED: [&str; 3] = [".gz", ".zst", ".zstd"];

/// Whether the name ends in `.gz`, `.zst` or `.zstd`.
pub(super) fn is_packed(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    PACKED.iter().any(|packed| name.ends_with(packed))
}

/// What a file's name says: its format, with one ending of [`is_packed`] looked through.
pub(super) fn format_of_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = PACKED.iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
    Format::of_extension(name.rsplit_once('.')?.1)
}

/// The files of all inputs in order: files as given, folders in order of name, depth first.
///
/// Hidden files and folders (a leading dot) are passed over; `.gitignore` and its kin are not obeyed, since a text that
/// is kept out of version control is a text all the same. Links to files are followed, links to folders are not. Files
/// of other kinds are skipped and reported.
pub(super) fn sources(inputs: &[PathBuf]) -> Result<(Vec<Source>, Vec<Skipped>)> {
    let (mut sources, mut skipped) = (Vec::new(), Vec::new());
    for input in inputs {
        if input.as_os_str() == "-" {
            sources.push(Source { path: input.clone(), explicit: true, format: None, bytes: None });
            continue;
        }
        let metadata = std::fs::metadata(input).map_err(Error::io("read", input))?;
        if metadata.is_dir() {
            walk(input, &mut sources, &mut skipped)?;
        } else {
            let bytes = metadata.is_file().then_some(metadata.len());
            sources.push(Source { path: input.clone(), explicit: true, format: format_of_name(input), bytes });
        }
    }
    Ok((sources, skipped))
}

fn walk(folder: &Path, sources: &mut Vec<Source>, skipped: &mut Vec<Skipped>) -> Result<()> {
    std::fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let walk = WalkBuilder::new(folder).standard_filters(false).hidden(true).sort_by_file_name(Ord::cmp).build();
    for entry in walk {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                skipped.push(Skipped { name: folder.display().to_string(), reason: error.to_string() });
                continue;
            }
        };
        let path = entry.path();
        let mut skip = |reason: &str| skipped.push(Skipped { name: path.display().to_string(), reason: reason.into() });
        // Of a link, the metadata of what it leads to.
        match std::fs::metadata(path) {
            Err(error) => skip(&error.to_string()),
            Ok(metadata) if metadata.is_dir() => {
                if entry.path_is_symlink() && entry.depth() > 0 {
                    skip("a link to a folder");
                }
            }
            Ok(metadata) if metadata.is_file() => match format_of_name(path) {
                Some(format) => sources.push(Source {
                    path: path.to_path_buf(),
                    explicit: false,
                    format: Some(format),
                    bytes: Some(metadata.len()),
                }),
                None => skip("not .txt, .md, .html, .epub or .jsonl"),
            },
            Ok(_) => skip("not a regular file"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_order_of_name_and_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("b/.git")).unwrap();
        for name in
            ["b/2.MD", "b/1.txt.gz", "b/.hidden.txt", "b/.git/x.txt", "a.epub", "c.jsonl.zst", "c.png", ".ignore"]
        {
            std::fs::write(root.join(name), "*").unwrap();
        }
        std::fs::write(root.join(".gitignore"), "*\n").unwrap();
        let (sources, skipped) = sources(&[root.to_path_buf()]).unwrap();
        let names: Vec<_> = sources.iter().map(|s| s.path.strip_prefix(root).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.epub", "b/1.txt.gz", "b/2.MD", "c.jsonl.zst"]);
        assert_eq!(sources[3].format, Some(Format::Jsonl));
        assert!(skipped.len() == 1 && skipped[0].name.ends_with("c.png"), "{skipped:?}");
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_are_followed_and_circles_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("real"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link.txt")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("circle")).unwrap();
        let (sources, skipped) = sources(&[dir.path().to_path_buf()]).unwrap();
        assert_eq!((sources.len(), skipped.len()), (1, 2), "{skipped:?}");
    }
}
