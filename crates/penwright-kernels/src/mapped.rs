//! Memory-mapped files: temporary ones, for texts and token ids larger than memory, and weights, paged in as they are
//! read.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// A whole file as a slice of bytes: a temporary one that has no name any more, such as `tempfile::tempfile()` gives,
/// which is gone when the value is dropped; or one of weights, by its name.
#[derive(Debug)]
pub struct Mapped {
    map: Option<Mmap>,
    // Keeps the file alive for as long as the map; on Windows it is deleted when this handle closes.
    _file: File,
}

impl Mapped {
    /// Maps the whole file. The caller gives up the handle and must keep no clone of it to write through.
    ///
    /// # Errors
    /// When the file still has a name (on Unix), is not a regular file, or the system refuses the map.
    pub fn from_file(file: File) -> io::Result<Mapped> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "only a regular file can be mapped"));
        }
        refuse_named(&metadata)?;
        Self::map(file)
    }

    /// Maps a file of weights, to be read. The file must not be written to or shortened in place for as long as the
    /// value lives: replace it by renaming another over it, as Penwright, Hugging Face's libraries and llama.cpp do.
    /// A file that shrinks ends the process when the missing part is read.
    ///
    /// # Errors
    /// When the file cannot be opened, is no regular file, or the system refuses the map.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        Self::map(file)
    }

    fn map(file: File) -> io::Result<Mapped> {
        let len = usize::try_from(file.metadata()?.len())
            .map_err(|_| io::Error::new(io::ErrorKind::OutOfMemory, "the file exceeds the address space"))?;
        // A map of no bytes is refused by some systems.
        let map = if len == 0 {
            None
        } else {
            // SAFETY: a map is unsound only if its bytes change or the file shrinks while slices of it live. A temporary
            // file has no name (checked on Unix; elsewhere temporary files are opened for this process alone), so no one
            // can open it anew, and its handle is owned here, never given out and never written through. Of a file with
            // a name the same is asked of the caller of `open`; any bits of it are numbers, and no decision of this
            // program about memory rests on a byte of it that is read twice. The map is read-only and lives no longer
            // than the handle.
            Some(unsafe { MmapOptions::new().len(len).map(&file) }?)
        };
        Ok(Mapped { map, _file: file })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The file as numbers of 32 bits in this machine's byte order; up to three bytes left over at the end are not
    /// seen.
    pub fn words(&self) -> &[u32] {
        let bytes = self.bytes();
        let whole = bytes.len() / 4 * 4;
        // Maps begin at a page, so the alignment always fits.
        bytemuck::try_cast_slice(&bytes[..whole]).unwrap_or_default()
    }

    /// The file as numbers of 32 bits in floating point, likewise.
    pub fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(self.words())
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes()
    }
}

#[cfg(unix)]
fn refuse_named(metadata: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if metadata.nlink() == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "only a temporary file without a name can be mapped"))
}

#[cfg(not(unix))]
fn refuse_named(_: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn bytes_and_words_of_a_nameless_file_only() {
        let path = std::env::temp_dir().join(format!("penwright-mapped-{}", std::process::id()));
        let open = || File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let mut file = open();
        for word in [1_u32, u32::MAX, 7] {
            file.write_all(&word.to_ne_bytes()).unwrap();
        }
        file.write_all(b"xy").unwrap();
        if cfg!(unix) {
            assert!(Mapped::from_file(file.try_clone().unwrap()).unwrap_err().to_string().contains("without a name"));
        }
        let mapped = Mapped::open(&path).unwrap();
        assert!(mapped.words() == [1, u32::MAX, 7] && mapped.floats()[1].is_nan());
        assert!(Mapped::open(&std::env::temp_dir()).is_err());
        std::fs::remove_file(&path).unwrap();
        let mapped = Mapped::from_file(file).unwrap();
        assert_eq!((mapped.words(), mapped.len(), &mapped[12..]), (&[1, u32::MAX, 7][..], 14, &b"xy"[..]));

        let empty = open();
        std::fs::remove_file(&path).unwrap();
        let mapped = Mapped::from_file(empty).unwrap();
        assert!(mapped.bytes().is_empty() && mapped.words().is_empty());
    }
}
