//! Everything after the sums; shared with AVX-VNNI.

use std::arch::x86_64::*;

use super::bytes::Bytes;
use crate::kernel::{Job, Tile, through_memory};

/// A tile whose sums are in registers. Bytes of one whole block without a residual are computed
/// there, two pixels at a time; the rest goes through memory.
///
/// # Safety
/// As [`crate::kernel::Lanes::end`].
#[inline(always)]
pub(crate) unsafe fn end<const P: usize, const B: usize>(
    job: &Job<'_>,
    sums: &[[[__m256i; 2]; B]; P],
    tile: Tile,
) {
    // SAFETY: passed on.
    unsafe {
        if B > 1 || !packs(job, tile) || !job.output.residual.is_null() {
            through_memory::<Bytes, P, B>(job, sums, tile);
        } else if is_plain(job) {
            registers::<true, P, B>(job, sums, tile);
        } else {
            registers::<false, P, B>(job, sums, tile);
        }
    }
}

/// Whether a tile's bytes may be packed with saturation before they are clamped: all channels
/// exist, and rounded values fit into 32 bits.
#[inline(always)]
fn packs(job: &Job<'_>, tile: Tile) -> bool {
    job.epilogue.narrow && !job.epilogue.real && job.weights.channels - tile.channel >= 16 * tile.blocks
}

/// Whether bytes are unsigned with zero point 0, as behind ReLU, so that saturation is all the
/// clamping.
#[inline(always)]
fn is_plain(job: &Job<'_>) -> bool {
    let epilogue = &job.epilogue;
    epilogue.zero == 0 && epilogue.flip == 0 && (epilogue.low, epilogue.high) == (0.0, 255.0)
}

/// The case of [`end`] that stays in registers.
///
/// # Safety
/// As [`end`]; the tile [`packs`].
#[inline(always)]
unsafe fn registers<const PLAIN: bool, const P: usize, const B: usize>(
    job: &Job<'_>,
    sums: &[[[__m256i; 2]; B]; P],
    tile: Tile,
) {
    const { assert!(P <= 6) };
    // SAFETY: all channels exist.
    unsafe {
        let scales = [
            _mm256_loadu_ps(job.weights.scales.add(tile.channel)),
            _mm256_loadu_ps(job.weights.scales.add(tile.channel + 8)),
        ];
        let out = job.output.first.add(tile.first * job.output.stride + tile.channel);
        // Indices are constants: with a variable one the array would be kept in memory.
        macro_rules! two {
            ($($a:literal $b:literal),+) => {$(
                if $a < P {
                    let a = scaled(sums[const { if $a < P { $a } else { 0 } }][0], scales);
                    let b = scaled(sums[const { if $b < P { $b } else { P - 1 } }][0], scales);
                    let bytes = packed::<PLAIN>(job, a, b);
                    _mm_storeu_si128(out.add($a * job.output.stride).cast(), _mm256_castsi256_si128(bytes));
                    if $b < P {
                        let bytes = _mm256_extracti128_si256::<1>(bytes);
                        _mm_storeu_si128(out.add($b * job.output.stride).cast(), bytes);
                    }
                }
            )+};
        }
        two!(0 1, 2 3, 4 5);
    }
}

/// The bytes of two pixels' 16 values each, which are rounded here.
#[inline]
#[target_feature(enable = "avx2")]
fn packed<const PLAIN: bool>(job: &Job<'_>, a: [__m256; 2], b: [__m256; 2]) -> __m256i {
    let [a, b] = [a, b].map(|x| _mm256_packs_epi32(_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1])));
    let bytes = if PLAIN {
        _mm256_packus_epi16(a, b)
    } else {
        let zero = _mm256_set1_epi16(job.epilogue.zero as i16);
        let low = _mm256_set1_epi8((job.epilogue.low as i32 + job.epilogue.zero) as u8 as i8);
        let high = _mm256_set1_epi8((job.epilogue.high as i32 + job.epilogue.zero) as u8 as i8);
        let bytes = _mm256_packus_epi16(_mm256_adds_epi16(a, zero), _mm256_adds_epi16(b, zero));
        let bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, low), high);
        _mm256_xor_si256(bytes, _mm256_set1_epi8(job.epilogue.flip as i8))
    };
    // Packing works on halves: four channels of `a`, four of `a`, four of `b`, four of `b`.
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// A tile whose sums are in memory.
///
/// # Safety
/// As [`crate::kernel::Lanes::finish`].
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn finish(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile) {
    // SAFETY: passed on.
    unsafe {
        if packs(job, tile) {
            let open = job.epilogue.inner == (f32::NEG_INFINITY, f32::INFINITY);
            match (job.output.residual.is_null(), open, is_plain(job)) {
                (true, _, true) => memory::<false, false, true>(job, sums, tile),
                (true, _, false) => memory::<false, false, false>(job, sums, tile),
                (false, true, true) => memory::<true, false, true>(job, sums, tile),
                (false, true, false) => memory::<true, false, false>(job, sums, tile),
                (false, false, _) => memory::<true, true, false>(job, sums, tile),
            }
        } else if job.epilogue.real || job.weights.channels - tile.channel < 16 * tile.blocks {
            for block in 0..tile.blocks {
                some(job, sums.add(block), tile, tile.channel + 16 * block);
            }
        } else if job.output.residual.is_null() {
            all::<false>(job, sums, tile);
        } else {
            all::<true>(job, sums, tile);
        }
    }
}

/// Bytes of whole blocks that [`packs`] allows, two pixels at a time.
///
/// # Safety
/// As [`finish`]; the tile [`packs`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn memory<const RESIDUAL: bool, const INNER: bool, const PLAIN: bool>(
    job: &Job<'_>,
    sums: *const [__m256i; 2],
    tile: Tile,
) {
    for block in 0..tile.blocks {
        let channel = tile.channel + 16 * block;
        // SAFETY: one sum a pixel and block.
        unsafe {
            let scales = [
                _mm256_loadu_ps(job.weights.scales.add(channel)),
                _mm256_loadu_ps(job.weights.scales.add(channel + 8)),
            ];
            let value = |pixel: usize| {
                let x = scaled(*sums.add(pixel * tile.blocks + block), scales);
                if !RESIDUAL {
                    return x;
                }
                let at = (tile.first + pixel) * job.output.stride + channel;
                add_residual::<INNER>(job, x, _mm_loadu_si128(job.output.residual.add(at).cast()))
            };
            let mut out = job.output.first.add(tile.first * job.output.stride + channel);
            for pixel in (0..tile.pixels).step_by(2) {
                let next = (pixel + 1).min(tile.pixels - 1);
                let bytes = packed::<PLAIN>(job, value(pixel), value(next));
                _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(bytes));
                if next > pixel {
                    let bytes = _mm256_extracti128_si256::<1>(bytes);
                    _mm_storeu_si128(out.add(job.output.stride).cast(), bytes);
                }
                out = out.wrapping_add(2 * job.output.stride);
            }
        }
    }
}

/// Bytes of whole blocks.
///
/// # Safety
/// As [`finish`]; all channels exist.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn all<const RESIDUAL: bool>(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile) {
    for block in 0..tile.blocks {
        let channel = tile.channel + 16 * block;
        // SAFETY: one sum a pixel and block.
        unsafe {
            let mut sums = sums.add(block);
            let mut at = tile.first * job.output.stride + channel;
            let scales = [
                _mm256_loadu_ps(job.weights.scales.add(channel)),
                _mm256_loadu_ps(job.weights.scales.add(channel + 8)),
            ];
            for _ in 0..tile.pixels {
                let mut x = scaled(*sums, scales);
                if RESIDUAL {
                    x = add_residual::<true>(job, x, _mm_loadu_si128(job.output.residual.add(at).cast()));
                }
                _mm_storeu_si128(
                    job.output.first.add(at).cast(),
                    bytes(job, clamped(x, (job.epilogue.low, job.epilogue.high))),
                );
                at += job.output.stride;
                sums = sums.add(tile.blocks);
            }
        }
    }
}

/// Real numbers, or the last channels.
///
/// # Safety
/// As [`finish`].
#[inline(never)]
#[target_feature(enable = "avx2")]
unsafe fn some(job: &Job<'_>, sums: *const [__m256i; 2], tile: Tile, channel: usize) {
    let count = (job.weights.channels - channel).min(16);
    // SAFETY: channels past the group's end are neither read from the residual nor written.
    unsafe {
        let scales = [
            _mm256_loadu_ps(job.weights.scales.add(channel)),
            _mm256_loadu_ps(job.weights.scales.add(channel + 8)),
        ];
        for pixel in 0..tile.pixels {
            let at = (tile.first + pixel) * job.output.stride + channel;
            let mut x = scaled(*sums.add(pixel * tile.blocks), scales);
            if !job.output.residual.is_null() {
                x = add_residual::<true>(job, x, load_part(job.output.residual.add(at), count));
            }
            let x = clamped(x, (job.epilogue.low, job.epilogue.high));
            if job.epilogue.real {
                store_part(job.output.first.cast::<f32>().add(at), x, count);
            } else {
                store_part(job.output.first.add(at), bytes(job, x), count);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn scaled(sums: [__m256i; 2], scales: [__m256; 2]) -> [__m256; 2] {
    [
        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[0]), scales[0]),
        _mm256_mul_ps(_mm256_cvtepi32_ps(sums[1]), scales[1]),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
fn clamped(x: [__m256; 2], (low, high): (f32, f32)) -> [__m256; 2] {
    let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
    // The result is the second operand if they are equal or unordered, as in `quant::clamp`.
    x.map(|x| _mm256_min_ps(_mm256_max_ps(x, low), high))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_residual<const INNER: bool>(job: &Job<'_>, x: [__m256; 2], bytes: __m128i) -> [__m256; 2] {
    let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(job.epilogue.residual_flip as i8));
    let (zero, scale) =
        (_mm256_set1_epi32(job.epilogue.residual_zero), _mm256_set1_ps(job.epilogue.residual_scale));
    let term = |eight| {
        let r = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(eight), zero));
        _mm256_mul_ps(r, scale)
    };
    let [a, b] = if INNER { clamped(x, job.epilogue.inner) } else { x };
    [_mm256_add_ps(a, term(bytes)), _mm256_add_ps(b, term(_mm_srli_si128::<8>(bytes)))]
}

/// Clamped values rounded to bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes(job: &Job<'_>, x: [__m256; 2]) -> __m128i {
    let zero = _mm256_set1_epi32(job.epilogue.zero);
    let q = x.map(|x| _mm256_add_epi32(_mm256_cvtps_epi32(x), zero));
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(q[0], q[1]));
    let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    _mm_xor_si128(bytes, _mm_set1_epi8(job.epilogue.flip as i8))
}

/// Writes the first `count` of the 16 values in `all`.
///
/// # Safety
/// `count` values can be written, and `all` has 16 of them.
#[inline(always)]
unsafe fn store_part<T: Copy, A>(at: *mut T, all: A, count: usize) {
    const { assert!(size_of::<A>() == 16 * size_of::<T>()) };
    // SAFETY: `count` is at most 16.
    unsafe { std::ptr::copy_nonoverlapping((&raw const all).cast(), at, count) }
}

/// The first `count` of 16 bytes.
///
/// # Safety
/// `count` bytes can be read.
#[inline(always)]
unsafe fn load_part(at: *const u8, count: usize) -> __m128i {
    let mut all = [0u8; 16];
    // SAFETY: `count` is below 16.
    unsafe {
        std::ptr::copy_nonoverlapping(at, all.as_mut_ptr(), count);
        _mm_loadu_si128(all.as_ptr().cast())
    }
}
