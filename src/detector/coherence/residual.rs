//! What is left of a luma plane when its content is removed, in two ways: the pixel minus the
//! median of its neighbourhood, and a second difference in both directions. Both are compressed, so
//! that an edge counts no more than a grain of noise.

use multiversion::multiversion;

use super::luma::Luma;

/// Level (of 0..255) that is compressed to one half: about the noise of a good sensor, so that
/// smaller values keep their proportions and an edge of a hundred levels counts like one of ten.
const HALF: f32 = 2.5;

/// A plane without its content, row by row from the top, so that a strip of it fits into the processor's cache.
pub(super) trait Rows {
    /// Writes the next rows, as many as `out` holds; values in -1..1.
    fn next(&mut self, out: &mut [f32]);
}

/// `r / (|r| + 2.5)` with `r` the pixel minus the median of the 3x3 pixels around it. Pixels are replicated beyond the
/// border.
pub(super) struct Residual<'a> {
    luma: &'a Luma,
    /// The next row.
    y: usize,
    /// The row above, the row itself and the one below, with one more pixel on each side, so that the inner loop needs no
    /// border check.
    rows: [Vec<f32>; 3],
    sorted: Sorted,
}

impl<'a> Residual<'a> {
    pub fn of(luma: &'a Luma) -> Self {
        let width = luma.width + 2;
        let rows = [0, 0, 1].map(|y| padded(luma, y, vec![0.0; width]));
        Self { luma, y: 0, rows, sorted: Sorted::new(width) }
    }
}

/// A row with its outermost pixels repeated; the last one, if there are fewer.
fn padded(luma: &Luma, y: usize, mut row: Vec<f32>) -> Vec<f32> {
    let width = luma.width;
    let from = &luma.levels[y.min(luma.height - 1) * width..][..width];
    row[1..=width].copy_from_slice(from);
    (row[0], row[width + 1]) = (from[0], from[width - 1]);
    row
}

impl Rows for Residual<'_> {
    fn next(&mut self, out: &mut [f32]) {
        for line in out.chunks_exact_mut(self.luma.width) {
            self.sorted.fill(&self.rows[0], &self.rows[1], &self.rows[2]);
            self.sorted.residual(&self.rows[1], line);
            self.rows.rotate_left(1);
            self.rows[2] = padded(self.luma, self.y + 2, std::mem::take(&mut self.rows[2]));
            self.y += 1;
        }
    }
}

/// Weights of the second difference in both directions (Ker and Boehme, 2008), a zero-sum filter.
const SECOND: [[f32; 3]; 3] = [[-0.25, 0.5, -0.25], [0.5, -1.0, 0.5], [-0.25, 0.5, -0.25]];

/// Second difference of a plane in both directions, compressed like [`Residual`]. Pixels are
/// mirrored at the outermost one beyond the border.
pub(super) struct SecondDifference<'a> {
    luma: &'a Luma,
    /// The next row.
    y: usize,
    /// A row's vertical difference, with one more on each side.
    column: Vec<f32>,
}

impl<'a> SecondDifference<'a> {
    pub fn of(luma: &'a Luma) -> Self {
        Self { luma, y: 0, column: vec![0.0; luma.width + 2] }
    }
}

fn mirrored(at: isize, n: usize) -> usize {
    let n = n as isize;
    let at = if at < 0 {
        -at
    } else if at >= n {
        2 * n - 2 - at
    } else {
        at
    };
    at.clamp(0, n - 1) as usize
}

impl Rows for SecondDifference<'_> {
    fn next(&mut self, out: &mut [f32]) {
        let (width, height) = (self.luma.width, self.luma.height);
        let column = &mut self.column;
        // The filter is the negated product of (-1, 2, -1) / 2 vertically and horizontally.
        for line in out.chunks_exact_mut(width) {
            let row = |at: isize| &self.luma.levels[mirrored(at, height) * width..][..width];
            let y = self.y as isize;
            let (above, here, below) = (row(y - 1), row(y), row(y + 1));
            vertical(above, here, below, &mut column[1..=width]);
            column[0] = column[1 + mirrored(-1, width)];
            column[width + 1] = column[1 + mirrored(width as isize, width)];
            horizontal(column, line);
            self.y += 1;
        }
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn vertical(above: &[f32], here: &[f32], below: &[f32], out: &mut [f32]) {
    for (to, ((&a, &b), &c)) in out.iter_mut().zip(above.iter().zip(here).zip(below)) {
        *to = SECOND[0][1] * (a + c) + SECOND[1][1] * b;
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn horizontal(column: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (left, here, right) = (&column[..n], &column[1..=n], &column[2..n + 2]);
    for (to, ((&a, &b), &c)) in out.iter_mut().zip(left.iter().zip(here).zip(right)) {
        let r = b - 0.5 * (a + c);
        *to = r / (r.abs() + HALF);
    }
}

/// Every column's three vertically adjacent pixels, sorted: that is two thirds of the work of a
/// median, and serves three neighbouring columns.
struct Sorted {
    low: Vec<f32>,
    middle: Vec<f32>,
    high: Vec<f32>,
}

impl Sorted {
    fn new(width: usize) -> Self {
        Self { low: vec![0.0; width], middle: vec![0.0; width], high: vec![0.0; width] }
    }

    fn fill(&mut self, above: &[f32], here: &[f32], below: &[f32]) {
        sort([above, here, below], [&mut self.low, &mut self.middle, &mut self.high]);
    }

    /// The residual of the pixels `here`, which have one more on each side.
    fn residual(&self, here: &[f32], out: &mut [f32]) {
        let n = out.len();
        medians([&self.low[..n + 2], &self.middle[..n + 2], &self.high[..n + 2]], &here[1..=n], out);
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn sort([above, here, below]: [&[f32]; 3], [low, middle, high]: [&mut [f32]; 3]) {
    let columns = low.iter_mut().zip(middle).zip(high);
    for (((low, middle), high), ((&a, &b), &c)) in columns.zip(above.iter().zip(here).zip(below)) {
        *low = min(min(a, b), c);
        *high = max(max(a, b), c);
        *middle = median(a, b, c);
    }
}

/// The median of nine is the median of: the greatest of the least, the median of the medians,
/// the least of the greatest (Paeth, Graphics Gems I, 1990).
#[multiversion(targets("x86_64+avx2"))]
fn medians([low, middle, high]: [&[f32]; 3], here: &[f32], out: &mut [f32]) {
    let n = out.len();
    let three = |v: &[f32], i: usize| (v[i], v[i + 1], v[i + 2]);
    let (low, middle, high, here) = (&low[..n + 2], &middle[..n + 2], &high[..n + 2], &here[..n]);
    for i in 0..n {
        let (a, b, c) = three(low, i);
        let least = max(max(a, b), c);
        let (a, b, c) = three(middle, i);
        let between = median(a, b, c);
        let (a, b, c) = three(high, i);
        let greatest = min(min(a, b), c);
        let r = here[i] - median(least, between, greatest);
        out[i] = r / (r.abs() + HALF);
    }
}

// Not f32::min and max: these handle NaN, which keeps the loop from being vectorised. Levels are
// never NaN.
#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn median(a: f32, b: f32, c: f32) -> f32 {
    max(min(a, b), min(max(a, b), c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The whole plane.
    fn all(luma: &Luma, rows: &mut dyn Rows) -> Vec<f32> {
        let mut out = vec![0.0; luma.levels.len()];
        rows.next(&mut out);
        out
    }

    #[test]
    fn the_second_difference_is_the_filter_with_its_borders_mirrored() {
        let (width, height) = (7, 5);
        let levels: Vec<f32> = (0..35).map(|i| ((i * 37) % 101) as f32).collect();
        let luma = Luma { width, height, levels };
        let got = all(&luma, &mut SecondDifference::of(&luma));
        let at = |y: i32, x: i32| {
            let fold = |at: i32, n: i32| {
                if at < 0 {
                    -at
                } else if at >= n {
                    2 * n - 2 - at
                } else {
                    at
                }
            };
            luma.levels[(fold(y, 5) * 7 + fold(x, 7)) as usize]
        };
        for y in 0..5i32 {
            for x in 0..7i32 {
                let mut r = 0.0;
                for (dy, row) in SECOND.iter().enumerate() {
                    for (dx, k) in row.iter().enumerate() {
                        r += k * at(y + dy as i32 - 1, x + dx as i32 - 1);
                    }
                }
                let want = r / (r.abs() + HALF);
                let got = got[(y * 7 + x) as usize];
                assert!((got - want).abs() < 1e-4, "({x}, {y}) is {got}, not {want}");
            }
        }
    }

    #[test]
    fn strips_are_the_plane_in_parts() {
        let (width, height) = (9, 11);
        let luma = Luma { width, height, levels: (0..99).map(|i| ((i * 41) % 103) as f32).collect() };
        let strips = |rows: &mut dyn Rows| {
            let mut out = vec![0.0; width * height];
            out.chunks_mut(4 * width).for_each(|strip| rows.next(strip));
            out
        };
        assert_eq!(strips(&mut Residual::of(&luma)), all(&luma, &mut Residual::of(&luma)));
        assert_eq!(strips(&mut SecondDifference::of(&luma)), all(&luma, &mut SecondDifference::of(&luma)));
    }

    proptest! {
        #[test]
        fn it_is_the_median_of_nine(width in 1usize..20, height in 1usize..20, seed: u64) {
            let mut state = seed | 1;
            let levels: Vec<f32> = (0..width * height).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % 256) as f32
            }).collect();
            let luma = Luma { width, height, levels };
            let got = all(&luma, &mut Residual::of(&luma));
            for y in 0..height {
                for x in 0..width {
                    let near = |n: usize, d: usize, limit: usize| (n + d).saturating_sub(1).min(limit - 1);
                    let mut nine: Vec<f32> = (0..9)
                        .map(|i| luma.levels[near(y, i / 3, height) * width + near(x, i % 3, width)])
                        .collect();
                    nine.sort_by(f32::total_cmp);
                    let r = luma.levels[y * width + x] - nine[4];
                    prop_assert_eq!(got[y * width + x], r / (r.abs() + 2.5));
                }
            }
        }
    }
}
