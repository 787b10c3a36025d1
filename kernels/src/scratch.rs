//! Memory for vector kernels, and working memory that is reused from call to call.

/// Working memory of layers. It grows to the largest need and stays allocated; one per thread.
#[derive(Default)]
pub struct Scratch {
    band: Lines,
    pixels: Vec<usize>,
    taps: Vec<usize>,
    words: Vec<i32>,
}

/// Bytes whose first is aligned to a cache line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Vec<Line>);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Lines {
    /// At least `bytes` zeros.
    pub(crate) fn new(bytes: usize) -> Lines {
        Lines(vec![Line([0; 64]); bytes.div_ceil(64)])
    }

    /// A copy that is aligned.
    pub(crate) fn of(bytes: &[u8]) -> Lines {
        let mut lines = Lines::new(bytes.len());
        lines.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        lines
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the vector holds so many lines of 64 plain, initialised bytes.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 64) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }
}

impl Scratch {
    /// Empty; grows at the first use.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let offsets = self.pixels.capacity() + self.taps.capacity();
        self.band.0.capacity() * 64 + offsets * size_of::<usize>() + self.words.capacity() * 4
    }

    /// At least `bytes` bytes of arbitrary contents, aligned to 64, and lists for the offsets of
    /// pixels and taps.
    pub(crate) fn band(&mut self, bytes: usize) -> (&mut [u8], &mut Vec<usize>, &mut Vec<usize>) {
        let lines = bytes.div_ceil(64);
        if self.band.0.len() < lines {
            self.band.0.resize(lines, Line([0; 64]));
        }
        (self.band.bytes_mut(), &mut self.pixels, &mut self.taps)
    }

    /// `count` 32-bit words of arbitrary contents.
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
