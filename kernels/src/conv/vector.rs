//! Runs a layer on a vector kernel: fills bands and passes them to the kernel, group by group.

use super::band::{self, Fill, Plan};
use super::pack::Packed;
use super::{Conv, Dims, Epilogue, Residual, folded, woven};
use crate::error::{Error, Result};
use crate::isa::Isa;
use crate::kernel::{self, DepthwiseOrder, Element, Job, Kernels, Woven};
use crate::quant::Byte;
use crate::scratch::Scratch;

/// A layer packed for one instruction set, which the processor has.
#[derive(Debug, Clone)]
pub(super) struct Vector {
    isa: Isa,
    run: unsafe fn(&Job<'_>),
    depthwise: bool,
    woven: bool,
    direct: bool,
    element: Element,
    packed: Packed,
    /// The layer with its kernel's rows as channels, if they are [folded](super::folded).
    folded: Option<Box<Conv>>,
}

/// The data of a call. Lengths have been checked.
pub(super) struct Call<'a> {
    pub conv: &'a Conv,
    pub epilogue: &'a Epilogue,
    pub input: &'a [u8],
    pub dims: Dims,
    pub out: Dims,
    /// Bytes or f32.
    pub output: *mut u8,
    pub residual: Option<&'a [u8]>,
}

impl Vector {
    /// `isa` must be available, and `kernels` are its own, preferred ones first.
    pub(super) fn new(
        isa: Isa,
        kernels: &[Kernels],
        conv: &Conv,
        weights: &[i8],
        epilogue: &Epilogue,
    ) -> Result<Option<Vector>> {
        for Kernels { run, run_depthwise, layout, .. } in kernels {
            if conv.is_depthwise() {
                if let Some(packed) = Packed::depthwise(conv, weights, epilogue, layout)? {
                    let (run, element) = (*run_depthwise, layout.depthwise.element());
                    let woven = matches!(layout.depthwise, DepthwiseOrder::Woven(_));
                    let (depthwise, direct) = (true, false);
                    let folded = None;
                    return Ok(Some(Vector { isa, run, depthwise, woven, direct, element, packed, folded }));
                }
                continue;
            }
            let (folded, order) = folded::fold(conv, weights, layout).unzip();
            let (shape, weights) = (folded.as_ref().unwrap_or(conv), order.as_deref().unwrap_or(weights));
            if let Some(packed) = Packed::dot(shape, weights, epilogue, layout)? {
                let (run, element) = (*run, layout.element);
                let direct = band::is_direct(conv, element, layout.step);
                let (depthwise, woven, folded) = (false, false, folded.map(Box::new));
                return Ok(Some(Vector { isa, run, depthwise, woven, direct, element, packed, folded }));
            }
        }
        Ok(None)
    }

    /// Runs the layer.
    ///
    /// # Safety
    /// `output` holds `out` pixels of the layer's channels, of the layer's type of value.
    pub(super) unsafe fn run(&self, call: &Call<'_>, scratch: &mut Scratch) -> Result<()> {
        let conv = call.conv;
        if self.direct {
            let pixels = call.dims.pixels()?;
            // As equal as possible, because each call goes through all weights.
            let most = pixels.div_ceil(pixels.div_ceil(band::direct_pixels(conv.in_channels)));
            let (_, offsets, _) = scratch.band(0);
            offsets.clear();
            offsets.extend((0..most).map(|pixel| pixel * conv.in_channels));
            for first in (0..pixels).step_by(most) {
                let source = call.input[first * conv.in_channels..].as_ptr();
                let mut job = self.job(call, 0, first);
                job.input.source = source;
                job.input.pixels = &offsets[..most.min(pixels - first)];
                // SAFETY: the processor has the instruction set. Pixels lie side by side and are
                // whole steps, so that nothing past the input is read.
                unsafe { (self.run)(&job) };
            }
            return Ok(());
        }

        if self.woven {
            // SAFETY: passed on.
            return unsafe { self.run_woven(call, scratch) };
        }
        let groups = if self.depthwise { 1 } else { conv.groups };
        let shape = self.folded.as_deref().unwrap_or(conv);
        let (cin, cout) = (shape.in_channels / groups, conv.out_channels / groups);
        let plan = Plan::new(shape, call.out, cin, self.element);
        let bytes = plan.bytes().ok_or(Error::Shape {
            what: "width of the input",
            value: call.dims.w,
            reason: "a band of rows does not fit in memory",
        })?;
        let (band, offsets, taps) = scratch.band(bytes);
        offsets.clear();
        for y in 0..plan.rows {
            offsets.extend((0..call.out.w).map(|x| plan.offset(y, x)));
        }
        taps.clear();
        if self.depthwise && self.element == Element::Word {
            let [kh, kw] = conv.kernel;
            let tap = |i: usize| i / kw * plan.row_bytes() + i % kw * cin * self.element.size();
            taps.extend((0..kh * kw).map(tap));
            if kh * kw % 2 == 1 {
                // The weight of this one is zero.
                taps.push(tap(kh * kw - 1));
            }
        }
        let picture = call.dims.h * call.dims.w * conv.in_channels;
        for (n, input) in call.input.chunks_exact(picture).enumerate() {
            for group in 0..groups {
                for first in (0..call.out.h).step_by(plan.rows) {
                    let rows = plan.rows.min(call.out.h - first);
                    let fill = &mut Fill {
                        conv,
                        plan,
                        element: self.element,
                        input,
                        dims: call.dims,
                        first,
                        rows,
                        channel: group * cin,
                        band,
                    };
                    if self.folded.is_some() {
                        // SAFETY: on x86-64 all instruction sets have AVX2.
                        unsafe { folded::fill(fill) };
                    } else {
                        band::fill(self.isa, fill);
                    }
                    let pixel = (n * call.out.h + first) * call.out.w;
                    let mut job = self.job(call, group, pixel * conv.out_channels + group * cout);
                    job.input.source = band.as_ptr();
                    job.input.row_bytes = plan.row_bytes();
                    job.input.pixels = &offsets[..rows * call.out.w];
                    job.input.taps = taps;
                    (job.input.right, job.input.width) = (plan.right(), call.out.w);
                    job.input.pixel_bytes = cin * self.element.size();
                    // SAFETY: the processor has the instruction set; the plan gave the band room
                    // for all taps of all pixels, and slack behind.
                    unsafe { (self.run)(&job) };
                }
            }
        }
        Ok(())
    }

    /// Runs a depthwise layer over woven bytes.
    ///
    /// # Safety
    /// As [`Vector::run`].
    unsafe fn run_woven(&self, call: &Call<'_>, scratch: &mut Scratch) -> Result<()> {
        let conv = call.conv;
        let plan = woven::Plan::new(conv, call.out);
        let too_wide = || Error::Shape {
            what: "width of the input",
            value: call.dims.w,
            reason: "a band of rows does not fit in memory",
        };
        let (Some(bytes), Some(row_bytes)) = (plan.bytes(), plan.row_bytes()) else { return Err(too_wide()) };
        let (band, _, _) = scratch.band(bytes.checked_mul(2).ok_or_else(too_wide)?);
        let flip = if self.element == Element::Byte(conv.input.ty) { 0 } else { 0x80 };
        let fours = woven::Fours::of(conv);
        let block_bytes = fours.groups * fours.phases * conv.kernel[1] * kernel::woven::FOUR;
        let picture = call.dims.h * call.dims.w * conv.in_channels;
        for (n, input) in call.input.chunks_exact(picture).enumerate() {
            for first in (0..call.out.h).step_by(plan.rows) {
                let rows = plan.rows.min(call.out.h - first);
                let pixel = (n * call.out.h + first) * call.out.w;
                let mut job = self.job(call, 0, pixel * conv.out_channels);
                (job.input.right, job.input.width, job.input.row_bytes) = (plan.right, call.out.w, row_bytes);
                job.input.pixel_bytes = kernel::woven::FOUR;
                for channel in (0..conv.out_channels).step_by(32) {
                    let two = conv.out_channels - channel > 16;
                    let blocks = 1 + usize::from(two);
                    let (dims, bands) = (call.dims, &mut band[..bytes * blocks]);
                    // SAFETY: the processor has the instruction set; the bands have all rows and
                    // columns that these output rows read.
                    unsafe {
                        woven::fill(&mut woven::Fill {
                            conv,
                            plan,
                            flip,
                            input,
                            dims,
                            first,
                            rows,
                            channel,
                            bands,
                        });
                        for block in 0..blocks {
                            job.input.source = band[block * bytes..].as_ptr();
                            job.input.woven = plan.woven(rows, channel + 16 * block);
                            let weights = (channel / 16 + block) * block_bytes;
                            job.weights.first = self.packed.weights.bytes()[weights..].as_ptr();
                            (self.run)(&job);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A job without its source, for a group and the output value `at`.
    fn job<'a>(&'a self, call: &Call<'a>, group: usize, at: usize) -> Job<'a> {
        let (conv, epilogue, packed) = (call.conv, call.epilogue, &self.packed);
        let real = conv.output == super::Output::F32;
        let flip = match conv.output {
            super::Output::Bytes(q) if q.ty == Byte::S8 => 0x80,
            _ => 0,
        };
        let at = if self.direct { at * conv.out_channels } else { at };
        let open = Residual { quant: conv.input, scale: 0.0, low: f32::NEG_INFINITY, high: f32::INFINITY };
        let added = epilogue.residual.unwrap_or(open);
        let residual_flip = if added.quant.ty == Byte::S8 { 0x80 } else { 0 };
        let start = packed.groups[group];
        Job {
            input: kernel::Input {
                source: std::ptr::null(),
                row_bytes: 0,
                pixels: &[],
                taps: &[],
                right: 1,
                width: 0,
                pixel_bytes: 0,
                woven: Woven::default(),
            },
            weights: kernel::Weights {
                first: packed.weights.bytes()[start.weights..].as_ptr(),
                rows: self.folded.as_deref().unwrap_or(conv).kernel[0],
                columns: conv.kernel[1],
                steps: &packed.steps[start.steps..],
                counts: &packed.counts[start.counts..],
                channels: if self.depthwise { conv.out_channels } else { conv.out_channels / conv.groups },
                bias: packed.bias[group * packed.group_values..].as_ptr(),
                scales: packed.scales[group * packed.group_values..].as_ptr(),
            },
            epilogue: kernel::Epilogue {
                real,
                narrow: epilogue.narrow,
                residual_scale: added.scale,
                residual_flip,
                residual_zero: added.quant.zero_point + residual_flip as i32,
                inner: (added.low, added.high),
                low: epilogue.low,
                high: epilogue.high,
                zero: epilogue.zero + flip as i32,
                flip,
            },
            output: kernel::Output {
                // The offset lies in the output, whose length was checked.
                first: call.output.wrapping_add(at * if real { 4 } else { 1 }),
                stride: conv.out_channels,
                residual: call.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{Output, Padding};
    use crate::quant::Quant;

    fn packed(isa: Isa, channels: usize, groups: usize, weight: i8) -> Option<Vector> {
        let (input, output) = (Quant::s8(0.02, 3), Output::Bytes(Quant::u8(0.05, 10)));
        let conv = Conv {
            padding: Padding::same(1),
            groups,
            ..Conv::new(channels, channels, [3, 3], input, vec![0.01], output)
        };
        let weights = vec![weight; channels * channels / groups * 9];
        let epilogue = conv.check(&weights, &vec![0; channels]).unwrap();
        Vector::new(isa, isa.kernels(), &conv, &weights, &epilogue).unwrap()
    }

    #[test]
    fn layers_take_the_forms_that_are_meant_for_them() {
        for isa in Isa::available() {
            let wide = matches!(isa, Isa::AvxVnni | Isa::NeonI8mm | Isa::NeonDotprod);
            for weight in [64, 127] {
                let woven = wide || (isa == Isa::Avx2 && weight == 64);
                let folded = isa == Isa::AvxVnni || (isa == Isa::Avx2 && weight == 64);
                let depthwise = packed(isa, 40, 40, weight);
                assert_eq!(depthwise.is_some_and(|vector| vector.woven), woven, "{isa} {weight}");
                let pixels = packed(isa, 3, 1, weight).is_some_and(|vector| vector.folded.is_some());
                assert_eq!(pixels, folded, "{isa} {weight}");
            }
        }
    }
}
