//! Working memory that is kept from call to call.

/// Memory that a layer needs while it runs. It grows to the largest need and stays; one a thread.
#[derive(Default)]
pub struct Scratch {
    lines: Vec<Line>,
    words: Vec<i32>,
}

/// A cache line, so that rows begin aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Scratch {
    /// Empty; grows at the first use.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * 64 + self.words.capacity() * 4
    }

    /// At least `bytes` initialised bytes, aligned to 64; their contents are arbitrary.
    #[allow(dead_code)]
    pub(crate) fn buffer(&mut self, bytes: usize) -> &mut [u8] {
        let lines = bytes.div_ceil(64);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 64]));
        }
        // SAFETY: the vector holds at least `lines` lines of 64 plain, initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), lines * 64) }
    }

    /// `count` 32-bit words; their contents are arbitrary.
    pub(crate) fn words(&mut self, count: usize) -> &mut [i32] {
        if self.words.len() < count {
            self.words.resize(count, 0);
        }
        &mut self.words[..count]
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch").field("bytes", &self.bytes()).finish()
    }
}
