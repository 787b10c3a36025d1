//! Pooling over NHWC bytes, with requantisation.

use crate::conv::{Dims, Padding, product, size};
use crate::error::{Error, Result, length};
use crate::isa::{Isa, multiversion};
use crate::quant::{Quant, clamp, multiplier, round};
use crate::scratch::Scratch;

/// How a window becomes one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The greatest value; padding is ignored.
    Max,
    /// The mean of the pixels inside the picture.
    Average,
    /// The mean with padding counted as zero.
    AveragePadded,
}

/// Pooling by a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Max or average.
    pub kind: PoolKind,
    /// Height and width of the window; `[0, 0]` is the whole picture.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Around the picture; less than the window on each side.
    pub padding: Padding,
    /// Channels.
    pub channels: usize,
    /// What the input's bytes mean.
    pub input: Quant,
    /// What the output's bytes mean.
    pub output: Quant,
}

/// Pooling that has been checked.
#[derive(Debug, Clone)]
pub struct PackedPool {
    pool: Pool,
    isa: Isa,
}

struct Job<'a> {
    pool: &'a Pool,
    kernel: [usize; 2],
    input: &'a [u8],
    dims: Dims,
    out: Dims,
    output: &'a mut [u8],
    sums: &'a mut [i32],
}

impl Pool {
    /// The mean of each channel over the whole picture.
    pub const fn global_average(channels: usize, input: Quant, output: Quant) -> Pool {
        let padding = Padding::same(0);
        Pool { kind: PoolKind::Average, kernel: [0, 0], stride: [1, 1], padding, channels, input, output }
    }
}

impl PackedPool {
    /// Checks the layer, for [`Isa::chosen`].
    ///
    /// # Errors
    /// Names the value that is out of range.
    pub fn new(pool: Pool) -> Result<PackedPool> {
        PackedPool::for_isa(Isa::chosen()?, pool)
    }

    /// [`PackedPool::new`] for an instruction set of the caller's choice.
    ///
    /// # Errors
    /// As [`PackedPool::new`], and where this processor does not have `isa`.
    pub fn for_isa(isa: Isa, pool: Pool) -> Result<PackedPool> {
        isa.require()?;
        size("channels", pool.channels)?;
        pool.input.check("input")?;
        pool.output.check("output")?;
        multiplier(pool.input.scale as f64 / pool.output.scale as f64, || {
            "input scale / output scale".into()
        })?;
        let p = pool.padding;
        if pool.kernel == [0, 0] {
            if p != Padding::default() {
                let value = p.top.max(p.left).max(p.bottom).max(p.right);
                return Err(Error::Shape {
                    what: "padding",
                    value,
                    reason: "must be 0 for the whole picture",
                });
            }
            return Ok(PackedPool { pool, isa });
        }
        for (what, value) in [
            ("window height", pool.kernel[0]),
            ("window width", pool.kernel[1]),
            ("vertical stride", pool.stride[0]),
            ("horizontal stride", pool.stride[1]),
        ] {
            size(what, value)?;
        }
        let [kh, kw] = pool.kernel;
        for (value, kernel) in [(p.top, kh), (p.bottom, kh), (p.left, kw), (p.right, kw)] {
            if value >= kernel {
                return Err(Error::Shape { what: "padding", value, reason: "must be less than the window" });
            }
        }
        if product(&[kh, kw], "window")? > LARGEST_WINDOW {
            return Err(Error::Shape {
                what: "window",
                value: kh * kw,
                reason: "sums would not fit in 32 bits",
            });
        }
        Ok(PackedPool { pool, isa })
    }

    /// The layer that was packed.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Dimensions of the output for an input of `dims`.
    ///
    /// # Errors
    /// The padded input is smaller than the window, or a size is zero or absurd.
    pub fn out_dims(&self, dims: Dims) -> Result<Dims> {
        dims.pixels()?;
        let Pool { kernel, stride, padding: p, .. } = self.pool;
        if kernel == [0, 0] {
            if dims.h * dims.w > LARGEST_WINDOW {
                let reason = "sums would not fit in 32 bits";
                return Err(Error::Shape { what: "pixels of the picture", value: dims.h * dims.w, reason });
            }
            return Ok(Dims { n: dims.n, h: 1, w: 1 });
        }
        let (h, w) = (dims.h + p.top + p.bottom, dims.w + p.left + p.right);
        for (value, kernel) in [(h, kernel[0]), (w, kernel[1])] {
            if value < kernel {
                let what = "padded side";
                return Err(Error::Shape { what, value, reason: "smaller than the window" });
            }
        }
        Ok(Dims { n: dims.n, h: (h - kernel[0]) / stride[0] + 1, w: (w - kernel[1]) / stride[1] + 1 })
    }

    /// Runs the layer over NHWC bytes.
    ///
    /// # Errors
    /// Lengths that do not fit `dims`.
    pub fn run(&self, input: &[u8], dims: Dims, output: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let out = self.out_dims(dims)?;
        let pool = &self.pool;
        length("input", input.len(), dims.len(pool.channels)?)?;
        length("output", output.len(), out.len(pool.channels)?)?;
        let kernel = if pool.kernel == [0, 0] { [dims.h, dims.w] } else { pool.kernel };
        let sums = scratch.words(pool.channels);
        pool_any(self.isa, &mut Job { pool, kernel, input, dims, out, output, sums });
        Ok(())
    }
}

/// 255 * 2^23 fits in 31 bits.
const LARGEST_WINDOW: usize = 1 << 23;

multiversion! {
    fn pool_any(job: &mut Job<'_>) = pool_body;
}

#[inline(always)]
fn pool_body(job: &mut Job<'_>) {
    let Job { pool, kernel: [kh, kw], dims, out, .. } = *job;
    let channels = pool.channels;
    for index in 0..out.n * out.h * out.w {
        let (n, y, x) = (index / (out.h * out.w), index / out.w % out.h, index % out.w);
        // Padding is less than the window and the window lies in the padded picture: never empty.
        let (rows, columns) = (
            inside(y * pool.stride[0], kh, pool.padding.top, dims.h),
            inside(x * pool.stride[1], kw, pool.padding.left, dims.w),
        );
        let count = match pool.kind {
            PoolKind::AveragePadded => kh * kw,
            _ => rows.len() * columns.len(),
        };
        let output = &mut job.output[index * channels..(index + 1) * channels];
        let window = Window { input: job.input, dims, n, rows, columns, channels };
        match (pool.kind, pool.input.ty) {
            (PoolKind::Max, crate::Byte::U8) => max(&window, output, pool, |bits| bits),
            (PoolKind::Max, crate::Byte::S8) => max(&window, output, pool, |bits| bits ^ 0x80),
            (_, crate::Byte::U8) => mean(&window, output, job.sums, pool, count, |bits| bits as i32),
            (_, crate::Byte::S8) => mean(&window, output, job.sums, pool, count, |bits| bits as i8 as i32),
        }
    }
}

/// The part of a picture inside a window.
struct Window<'a> {
    input: &'a [u8],
    dims: Dims,
    n: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    channels: usize,
}

impl<'a> Window<'a> {
    /// The pixels of each row side by side.
    #[inline(always)]
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        let length = self.columns.len() * self.channels;
        let first = (self.n * self.dims.h * self.dims.w + self.columns.start) * self.channels;
        self.rows.clone().map(move |y| &self.input[first + y * self.dims.w * self.channels..][..length])
    }
}

#[inline(always)]
fn inside(start: usize, kernel: usize, before: usize, size: usize) -> std::ops::Range<usize> {
    start.saturating_sub(before)..(start + kernel - before).min(size)
}

/// Channels at once: as many as stay in a register.
const BLOCK: usize = 32;

#[inline(always)]
fn max(window: &Window<'_>, output: &mut [u8], pool: &Pool, order: impl Fn(u8) -> u8) {
    let channels = window.channels;
    let (blocks, rest) = output.as_chunks_mut::<BLOCK>();
    for (index, best) in blocks.iter_mut().enumerate() {
        let mut highest = [0; BLOCK];
        for line in window.lines() {
            for pixel in line.chunks_exact(channels) {
                let block: &[u8; BLOCK] = pixel[index * BLOCK..][..BLOCK].try_into().expect("as many");
                for (best, &bits) in highest.iter_mut().zip(block) {
                    *best = (*best).max(order(bits));
                }
            }
        }
        for (best, highest) in best.iter_mut().zip(highest) {
            *best = order(highest);
        }
    }
    if !rest.is_empty() {
        let from = channels - rest.len();
        rest.fill(order(0));
        for pixel in window.lines().flat_map(|line| line.chunks_exact(channels)) {
            for (best, &bits) in rest.iter_mut().zip(&pixel[from..]) {
                *best = order(order(*best).max(order(bits)));
            }
        }
    }
    if pool.input != pool.output {
        let scale = (pool.input.scale as f64 / pool.output.scale as f64) as f32;
        let (low, high) = limits(&pool.output);
        for best in output {
            let value = pool.input.ty.value(*best) - pool.input.zero_point;
            *best = (round(clamp(value as f32 * scale, low, high)) + pool.output.zero_point) as u8;
        }
    }
}

#[inline(always)]
fn mean(
    window: &Window<'_>,
    output: &mut [u8],
    sums: &mut [i32],
    pool: &Pool,
    count: usize,
    value: impl Fn(u8) -> i32,
) {
    sums.fill(0);
    let mut inside = 0;
    for pixel in window.lines().flat_map(|line| line.chunks_exact(window.channels)) {
        inside += 1;
        for (sum, &bits) in sums.iter_mut().zip(pixel) {
            *sum += value(bits);
        }
    }
    let scale = (pool.input.scale as f64 / (pool.output.scale as f64 * count as f64)) as f32;
    let (low, high) = limits(&pool.output);
    let zero = inside * pool.input.zero_point;
    for (out, &sum) in output.iter_mut().zip(sums.iter()) {
        *out = (round(clamp((sum - zero) as f32 * scale, low, high)) + pool.output.zero_point) as u8;
    }
}

fn limits(q: &Quant) -> (f32, f32) {
    ((q.ty.low() - q.zero_point) as f32, (q.ty.high() - q.zero_point) as f32)
}
