//! Memory for weights, in large pages where the system has them: they are filled and read faster.

use std::io;

use memmap2::MmapMut;

/// Size of a large page.
const LARGE: usize = 2 << 20;

/// Zeroed memory that begins on a page.
#[derive(Debug)]
pub(super) struct Pages {
    map: Option<MmapMut>,
    begin: usize,
    len: usize,
}

impl Pages {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Pages { map: None, begin: 0, len });
        }
        let map = MmapMut::map_anon(len + if len >= LARGE { LARGE } else { 0 })?;
        let begin = if len >= LARGE { map.as_ptr().align_offset(LARGE) } else { 0 };
        // A system that refuses has small pages, which work as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Pages { map: Some(map), begin, len })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.map.as_deref().map_or(&[], |map| &map[self.begin..self.begin + self.len])
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().map_or(&mut [], |map| &mut map[self.begin..self.begin + self.len])
    }
}
