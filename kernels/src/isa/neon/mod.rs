//! NEON. Products with `sdot` ([`dotprod`]), with `usdot` ([`i8mm`]), or of 16-bit words with
//! `smlal` ([`words`]); what follows the sum is the same for all.

pub(crate) mod dotprod;
pub(crate) mod i8mm;
pub(crate) mod words;

use std::arch::aarch64::*;

use crate::kernel::{Job, Tile};

/// 16 sums from memory.
///
/// # Safety
/// 16 can be read.
#[inline(always)]
pub(crate) unsafe fn start(bias: *const i32) -> [int32x4_t; 4] {
    // SAFETY: as said.
    unsafe { std::array::from_fn(|i| vld1q_s32(bias.add(4 * i))) }
}

/// 64 bytes from memory.
///
/// # Safety
/// 64 can be read.
#[inline(always)]
pub(crate) unsafe fn load(at: *const u8) -> [int8x16_t; 4] {
    // SAFETY: as said.
    unsafe { std::array::from_fn(|i| vld1q_s8(at.cast::<i8>().add(16 * i))) }
}

/// A scalar in the first lane: `ldr s`, which unlike `ld1r` needs no vector pipe.
///
/// # Safety
/// 4 bytes can be read.
#[inline(always)]
pub(crate) unsafe fn first_lane(at: *const u8) -> f32 {
    // SAFETY: as said.
    unsafe { at.cast::<f32>().read_unaligned() }
}

/// Hides a register from the compiler. As on other architectures, the caller has the instruction
/// set.
#[inline(always)]
pub(crate) unsafe fn hidden<T: Register>(x: T) -> T {
    x.hidden()
}

/// What [`hidden`] takes.
pub(crate) trait Register {
    /// The same, of which the compiler knows nothing.
    fn hidden(self) -> Self;
}

macro_rules! register {
    ($($ty:ty)+) => {$(
        impl Register for $ty {
            #[inline(always)]
            fn hidden(mut self) -> Self {
                // SAFETY: no instruction.
                unsafe {
                    std::arch::asm!("/* {0:v} */", inout(vreg) self, options(nomem, nostack, preserves_flags));
                }
                self
            }
        }
    )+};
}
register!(f32 int16x4_t);

/// Everything after the sums.
///
/// # Safety
/// As [`crate::kernel::Lanes::finish`].
#[inline(never)]
pub(crate) unsafe fn finish(job: &Job<'_>, sums: *const [int32x4_t; 4], tile: Tile) {
    for block in 0..tile.blocks {
        for pixel in 0..tile.pixels {
            // SAFETY: one sum a pixel and block.
            unsafe {
                let sums = *sums.add(pixel * tile.blocks + block);
                finish_pixel(job, sums, tile.first + pixel, tile.channel + 16 * block);
            }
        }
    }
}

/// Compared and selected, as in `quant::clamp`: `fmax` and `fmin` differ in the sign of zero.
#[inline(always)]
unsafe fn clamped(x: float32x4_t, (low, high): (f32, f32)) -> float32x4_t {
    // SAFETY: registers only.
    unsafe {
        let (low, high) = (vdupq_n_f32(low), vdupq_n_f32(high));
        let x = vbslq_f32(vcgtq_f32(x, low), x, low);
        vbslq_f32(vcltq_f32(x, high), x, high)
    }
}

/// Everything after the sums of one pixel and block.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_pixel(job: &Job<'_>, sums: [int32x4_t; 4], pixel: usize, channel: usize) {
    // SAFETY: channels past the group's end are neither read from the residual nor written.
    unsafe {
        let at = pixel * job.output.stride + channel;
        let count = (job.weights.channels - channel).min(16);
        let mut x: [float32x4_t; 4] = std::array::from_fn(|i| {
            vmulq_f32(vcvtq_f32_s32(sums[i]), vld1q_f32(job.weights.scales.add(channel + 4 * i)))
        });
        if !job.output.residual.is_null() {
            let mut part = [0u8; 16];
            let mut from = job.output.residual.add(at);
            if count < 16 {
                std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), count);
                from = part.as_ptr();
            }
            let bytes = veorq_u8(vld1q_u8(from), vdupq_n_u8(job.epilogue.residual_flip));
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            let words = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ];
            let (zero, scale) =
                (vdupq_n_s32(job.epilogue.residual_zero), vdupq_n_f32(job.epilogue.residual_scale));
            for (x, r) in x.iter_mut().zip(words) {
                let r = vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(r), zero));
                *x = vaddq_f32(clamped(*x, job.epilogue.inner), vmulq_f32(r, scale));
            }
        }
        if job.epilogue.narrow && !job.epilogue.real && count == 16 {
            vst1q_u8(job.output.first.add(at), packed(job, x));
            return;
        }
        let x = x.map(|x| clamped(x, (job.epilogue.low, job.epilogue.high)));
        if job.epilogue.real {
            let out = job.output.first.cast::<f32>().add(at);
            if count == 16 {
                for (i, x) in x.into_iter().enumerate() {
                    vst1q_f32(out.add(4 * i), x);
                }
            } else {
                let all: [f32; 16] = std::mem::transmute(x);
                std::ptr::copy_nonoverlapping(all.as_ptr(), out, count);
            }
            return;
        }
        let zero = vdupq_n_s32(job.epilogue.zero);
        let q = x.map(|x| vaddq_s32(vcvtnq_s32_f32(x), zero));
        let low = vmovn_high_s32(vmovn_s32(q[0]), q[1]);
        let high = vmovn_high_s32(vmovn_s32(q[2]), q[3]);
        let bytes = vreinterpretq_u8_s8(vmovn_high_s16(vmovn_s16(low), high));
        let bytes = veorq_u8(bytes, vdupq_n_u8(job.epilogue.flip));
        let out = job.output.first.add(at);
        if count == 16 {
            vst1q_u8(out, bytes);
        } else {
            let all: [u8; 16] = std::mem::transmute(bytes);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, count);
        }
    }
}

/// The bytes of values that fit into 32 bits when they are rounded: narrowing saturates, and they
/// are clamped after it.
#[inline(always)]
unsafe fn packed(job: &Job<'_>, x: [float32x4_t; 4]) -> uint8x16_t {
    // SAFETY: registers only.
    unsafe {
        let q = x.map(|x| vcvtnq_s32_f32(x));
        let zero = vdupq_n_s16(job.epilogue.zero as i16);
        let low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), zero);
        let high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(q[2]), q[3]), zero);
        let bytes = vqmovun_high_s16(vqmovun_s16(low), high);
        let least = vdupq_n_u8((job.epilogue.low as i32 + job.epilogue.zero) as u8);
        let most = vdupq_n_u8((job.epilogue.high as i32 + job.epilogue.zero) as u8);
        veorq_u8(vminq_u8(vmaxq_u8(bytes, least), most), vdupq_n_u8(job.epilogue.flip))
    }
}
