//! What is left of a luma plane when its content is removed, in two ways: the pixel minus the
//! median of its neighbourhood, and a second difference in both directions. Both are compressed, so
//! that an edge counts no more than a grain of noise.

use super::luma::Luma;

/// Level (of 0..255) that is compressed to one half: about the noise of a good sensor, so that
/// smaller values keep their proportions and an edge of a hundred levels counts like one of ten.
const HALF: f32 = 2.5;

/// Residual of a plane: `r / (|r| + 2.5)` with `r` the pixel minus the median of the 3x3 pixels
/// around it. Pixels are replicated beyond the border. Row by row, as long as the plane; values in
/// -1..1.
pub(super) fn residual(luma: &Luma) -> Vec<f32> {
    let (width, height) = (luma.width, luma.height);
    let mut out = vec![0.0; width * height];
    // One more pixel on each side, so that the inner loop needs no border check.
    let padded = |y: usize, row: &mut [f32]| {
        let from = &luma.levels[y * width..(y + 1) * width];
        row[1..=width].copy_from_slice(from);
        row[0] = from[0];
        row[width + 1] = from[width - 1];
    };
    let mut rows = [vec![0.0; width + 2], vec![0.0; width + 2], vec![0.0; width + 2]];
    let mut sorted = Sorted::new(width + 2);
    padded(0, &mut rows[0]);
    padded(0, &mut rows[1]);
    padded(1.min(height - 1), &mut rows[2]);
    for y in 0..height {
        sorted.fill(&rows[0], &rows[1], &rows[2]);
        sorted.residual(&rows[1], &mut out[y * width..(y + 1) * width]);
        rows.rotate_left(1);
        padded((y + 2).min(height - 1), &mut rows[2]);
    }
    out
}

/// Weights of the second difference in both directions (Ker and Boehme, 2008), a zero-sum filter.
const SECOND: [[f32; 3]; 3] = [[-0.25, 0.5, -0.25], [0.5, -1.0, 0.5], [-0.25, 0.5, -0.25]];

/// Second difference of a plane in both directions, compressed like [`residual`]. Pixels are
/// mirrored at the outermost one beyond the border.
pub(super) fn second_difference(luma: &Luma) -> Vec<f32> {
    let (width, height) = (luma.width, luma.height);
    let mirrored = |at: isize, n: usize| {
        let n = n as isize;
        let at = if at < 0 {
            -at
        } else if at >= n {
            2 * n - 2 - at
        } else {
            at
        };
        at.clamp(0, n - 1) as usize
    };
    let mut out = vec![0.0; width * height];
    // The filter is the negated product of (-1, 2, -1) / 2 vertically and horizontally.
    let mut column = vec![0.0; width + 2];
    for y in 0..height {
        let row = |at: isize| {
            let at = mirrored(at, height);
            &luma.levels[at * width..(at + 1) * width]
        };
        let (above, here, below) = (row(y as isize - 1), row(y as isize), row(y as isize + 1));
        for (to, ((&a, &b), &c)) in column[1..=width].iter_mut().zip(above.iter().zip(here).zip(below)) {
            *to = SECOND[0][1] * (a + c) + SECOND[1][1] * b;
        }
        column[0] = column[1 + mirrored(-1, width)];
        column[width + 1] = column[1 + mirrored(width as isize, width)];
        for (x, to) in out[y * width..(y + 1) * width].iter_mut().enumerate() {
            let r = column[x + 1] - 0.5 * (column[x] + column[x + 2]);
            *to = r / (r.abs() + HALF);
        }
    }
    out
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
        let columns = self.low.iter_mut().zip(&mut self.middle).zip(&mut self.high);
        for (((low, middle), high), ((&a, &b), &c)) in columns.zip(above.iter().zip(here).zip(below)) {
            *low = min(min(a, b), c);
            *high = max(max(a, b), c);
            *middle = median(a, b, c);
        }
    }

    /// The median of nine is the median of: the greatest of the least, the median of the medians,
    /// the least of the greatest (Paeth, Graphics Gems I, 1990).
    fn residual(&self, here: &[f32], out: &mut [f32]) {
        let n = out.len();
        let three = |v: &[f32], i: usize| (v[i], v[i + 1], v[i + 2]);
        let (low, middle, high) = (&self.low[..n + 2], &self.middle[..n + 2], &self.high[..n + 2]);
        let here = &here[1..=n];
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

    #[test]
    fn the_second_difference_is_the_filter_with_its_borders_mirrored() {
        let (width, height) = (7, 5);
        let levels: Vec<f32> = (0..35).map(|i| ((i * 37) % 101) as f32).collect();
        let luma = Luma { width, height, levels };
        let got = second_difference(&luma);
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
            let got = residual(&luma);
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
