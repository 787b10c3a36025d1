//! From GStreamer's samples to our frames: mapped, not copied, wherever the pixels allow it.

use std::time::SystemTime;

use ::gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::VideoBufferExt as _;

use crate::frame::{Captured, Colour, FieldOrder, Interlacing, Matrix, PixelFormat, Plane, jpeg, picture};

/// Why a sample gave no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// This one is damaged; counted under this reason.
    Lost(&'static str),
    /// No sample of this kind can ever be used.
    Unusable(String),
}

/// Turns the samples of one run into frames; remembers what their caps mean until they change.
#[derive(Default)]
pub(super) struct FrameMaker {
    known: Option<(gst::Caps, Kind)>,
}

enum Kind {
    /// A frame holds it as it is.
    Native { info: gst_video::VideoInfo, format: PixelFormat, colour: Colour },
    /// GStreamer converts it to RGB, only frames that are wanted.
    Converted { info: gst_video::VideoInfo, rgb: gst_video::VideoInfo, converter: gst_video::VideoConverter },
    /// One JPEG image a buffer.
    Jpeg,
}

impl Kind {
    /// The caps' description of uncompressed video.
    fn info(&self) -> Option<&gst_video::VideoInfo> {
        match self {
            Kind::Native { info, .. } | Kind::Converted { info, .. } => Some(info),
            Kind::Jpeg => None,
        }
    }
}

impl FrameMaker {
    /// What is in `sample`, captured at `at`.
    pub fn frame(&mut self, sample: &gst::Sample, at: SystemTime) -> Result<Captured, Fault> {
        let buffer = sample.buffer_owned().ok_or(Fault::Lost("empty"))?;
        if buffer.flags().contains(gst::BufferFlags::CORRUPTED) {
            return Err(Fault::Lost("corrupt"));
        }
        let kind = self.kind(sample)?;
        let interlacing = kind.info().map_or(Interlacing::Unsaid, |info| interlacing(info, &buffer));
        let (format, (width, height), planes, colour, data) = match kind {
            Kind::Native { info, format, colour } => {
                let planes = planes(&buffer, info)?;
                let map = buffer.into_mapped_buffer_readable().map_err(|_| Fault::Lost("unmapped"))?;
                (
                    *format,
                    (info.width(), info.height()),
                    planes,
                    *colour,
                    Box::new(map) as crate::frame::FrameData,
                )
            }
            Kind::Converted { info, rgb, converter } => {
                let from = gst_video::VideoFrame::from_buffer_readable(buffer, info)
                    .map_err(|_| Fault::Lost("unmapped"))?;
                let out = gst::Buffer::with_size(rgb.size()).map_err(|_| Fault::Lost("no-memory"))?;
                let mut to = gst_video::VideoFrame::from_buffer_writable(out, rgb)
                    .map_err(|_| Fault::Lost("no-memory"))?;
                converter.frame(&from, &mut to);
                let map =
                    to.into_buffer().into_mapped_buffer_readable().map_err(|_| Fault::Lost("unmapped"))?;
                let (width, height) = (rgb.width(), rgb.height());
                let (offset, stride) = (rgb.offset()[0], stride(rgb.stride()[0])?);
                let colour = Colour { full_range: true, ..Colour::default() };
                let (offset, stride, data): (_, _, crate::frame::FrameData) = if rgb.has_alpha() {
                    (0, width as usize * 3, Box::new(visible(&map[offset..], width as usize, stride)))
                } else {
                    (offset, stride, Box::new(map))
                };
                let planes = [Plane { offset, stride }, Plane::default(), Plane::default()];
                (PixelFormat::Rgb24, (width, height), planes, colour, data)
            }
            Kind::Jpeg => {
                let map = buffer.into_mapped_buffer_readable().map_err(|_| Fault::Lost("unmapped"))?;
                let size = jpeg::size(&map).map_err(|_| Fault::Lost("corrupt-jpeg"))?;
                (PixelFormat::Mjpg, size, [Plane::default(); 3], Colour::default(), Box::new(map) as _)
            }
        };
        Ok(Captured { at, format, width, height, planes, colour, interlacing, data })
    }

    /// Frames a second that the sample's caps state, if they do.
    pub fn rate(&mut self, sample: &gst::Sample) -> Option<f64> {
        let Some(info) = self.kind(sample).ok()?.info() else {
            let caps = sample.caps()?;
            return caps.structure(0)?.get::<gst::Fraction>("framerate").ok().and_then(rate_of);
        };
        rate_of(info.fps())
    }

    fn kind(&mut self, sample: &gst::Sample) -> Result<&mut Kind, Fault> {
        let caps = sample.caps_owned().ok_or(Fault::Lost("no-caps"))?;
        let same =
            self.known.as_ref().is_some_and(|(known, _)| known.as_ptr() == caps.as_ptr() || *known == caps);
        if !same {
            let kind = kind_of(&caps)?;
            if let Some((before, _)) = &self.known {
                log::debug!("the stream changed from {before} to {caps}");
            }
            self.known = Some((caps, kind));
        }
        let (_, kind) = self.known.as_mut().expect("set above");
        Ok(kind)
    }
}

fn rate_of(fps: gst::Fraction) -> Option<f64> {
    (fps.numer() > 0 && fps.denom() > 0).then(|| f64::from(fps.numer()) / f64::from(fps.denom()))
}

fn kind_of(caps: &gst::Caps) -> Result<Kind, Fault> {
    let unusable =
        |e: &dyn std::fmt::Display| Fault::Unusable(format!("video of {caps} cannot be used: {e}"));
    if caps.structure(0).is_some_and(|s| s.name() == "image/jpeg") {
        return Ok(Kind::Jpeg);
    }
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| unusable(&e))?;
    if let (Some(format), Some(colour)) = (native(info.format()), colour(&info)) {
        return Ok(Kind::Native { info, format, colour });
    }
    // Only alpha tells what is transparent.
    let target = if info.has_alpha() { gst_video::VideoFormat::Rgba } else { gst_video::VideoFormat::Rgb };
    let rgb = gst_video::VideoInfo::builder(target, info.width(), info.height())
        .fps(info.fps())
        // The converter refuses to change it, and needs it to know which lines chroma belongs to.
        .interlace_mode(info.interlace_mode())
        .build()
        .map_err(|e| unusable(&e))?;
    let mut config = gst_video::VideoConverterConfig::new();
    config.set_chroma_mode(gst_video::VideoChromaMode::None);
    config.set_dither_method(gst_video::VideoDitherMethod::None);
    let converter = gst_video::VideoConverter::new(&info, &rgb, Some(config)).map_err(|e| unusable(&e))?;
    Ok(Kind::Converted { info, rgb, converter })
}

/// RGBA rows as RGB, with fully transparent pixels painted over. If every pixel is transparent,
/// that is not meant: some senders leave alpha at zero.
fn visible(rows: &[u8], width: usize, stride: usize) -> Vec<u8> {
    let rgba: Vec<u8> =
        rows.chunks(stride).filter_map(|row| row.get(..width * 4)).flatten().copied().collect();
    let (painted, hidden) = picture::drop_alpha(&rgba);
    if hidden * 4 < rgba.len() as u64 {
        return painted;
    }
    rgba.chunks_exact(4).flat_map(|px| [px[0], px[1], px[2]]).collect()
}

fn native(format: gst_video::VideoFormat) -> Option<PixelFormat> {
    Some(match format {
        gst_video::VideoFormat::I420 => PixelFormat::I420,
        gst_video::VideoFormat::Nv12 => PixelFormat::Nv12,
        gst_video::VideoFormat::Yuy2 => PixelFormat::Yuyv,
        gst_video::VideoFormat::Uyvy => PixelFormat::Uyvy,
        gst_video::VideoFormat::Gray8 => PixelFormat::Grey,
        gst_video::VideoFormat::Rgb => PixelFormat::Rgb24,
        gst_video::VideoFormat::Bgr => PixelFormat::Bgr24,
        _ => return None,
    })
}

/// The colour space as a frame can state it; `None` for a matrix that it does not know.
fn colour(info: &gst_video::VideoInfo) -> Option<Colour> {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt601
        | gst_video::VideoColorMatrix::Rgb
        | gst_video::VideoColorMatrix::Unknown => Matrix::Bt601,
        _ => return None,
    };
    Some(Colour { matrix, full_range: colorimetry.range() == gst_video::VideoColorRange::Range0_255 })
}

/// Interlacing according to caps and buffer.
fn interlacing(info: &gst_video::VideoInfo, buffer: &gst::BufferRef) -> Interlacing {
    let flags = buffer.video_flags();
    let top_first = flags.contains(gst_video::VideoBufferFlags::TFF);
    let order = match (info.interlace_mode(), info.field_order()) {
        (gst_video::VideoInterlaceMode::Interleaved, gst_video::VideoFieldOrder::TopFieldFirst) => {
            FieldOrder::TopFirst
        }
        (gst_video::VideoInterlaceMode::Interleaved, gst_video::VideoFieldOrder::BottomFieldFirst) => {
            FieldOrder::BottomFirst
        }
        // Each frame carries its own flag.
        (gst_video::VideoInterlaceMode::Interleaved | gst_video::VideoInterlaceMode::Mixed, _)
            if flags.contains(gst_video::VideoBufferFlags::INTERLACED) =>
        {
            if top_first {
                FieldOrder::TopFirst
            } else {
                FieldOrder::BottomFirst
            }
        }
        (gst_video::VideoInterlaceMode::Interleaved, _) => FieldOrder::Unknown,
        _ => return Interlacing::Unsaid,
    };
    Interlacing::Said(order)
}

/// The planes' layout: from the buffer's video meta, which decoders with padding attach, else the
/// default one.
fn planes(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> Result<[Plane; 3], Fault> {
    let mut planes = [Plane::default(); 3];
    let meta = buffer.meta::<gst_video::VideoMeta>();
    let (offsets, strides) = match &meta {
        Some(meta) => (meta.offset(), meta.stride()),
        None => (info.offset(), info.stride()),
    };
    for (plane, (&offset, &bytes)) in planes.iter_mut().zip(offsets.iter().zip(strides)) {
        *plane = Plane { offset, stride: stride(bytes)? };
    }
    Ok(planes)
}

/// Pictures stored upside down have a negative stride; no known camera or decoder produces them.
fn stride(bytes: i32) -> Result<usize, Fault> {
    usize::try_from(bytes).map_err(|_| Fault::Lost("negative-stride"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gst::prelude::*;

    use super::super::build::{Delivery, set_up_sink};
    use super::*;
    use crate::frame::Frame;

    /// Full range BT.601, as JPEG has it.
    const FULL: &str = "video/x-raw,colorimetry=1:4:5:1";

    /// One sample of a test picture with these caps.
    fn sample(caps: &str, pattern: &str) -> gst::Sample {
        sample_by(caps, pattern, |_| {})
    }

    fn sample_by(caps: &str, pattern: &str, set_up: impl Fn(&gstreamer_app::AppSink)) -> gst::Sample {
        gst::init().expect("GStreamer");
        let text =
            format!("videotestsrc pattern={pattern} num-buffers=1 ! {caps} ! appsink name=s sync=false");
        let pipeline =
            gst::parse::launch(&text).expect("builds").downcast::<gst::Pipeline>().expect("a pipeline");
        let sink =
            pipeline.by_name("s").expect("sink").downcast::<gstreamer_app::AppSink>().expect("an appsink");
        set_up(&sink);
        pipeline.set_state(gst::State::Playing).expect("plays");
        let sample = sink.pull_sample().expect("a sample");
        pipeline.set_state(gst::State::Null).expect("stops");
        sample
    }

    fn frame(sample: &gst::Sample) -> Result<Frame, Fault> {
        let captured = FrameMaker::default().frame(sample, SystemTime::UNIX_EPOCH)?;
        Ok(captured.into_frame("x".into(), 0, Duration::ZERO))
    }

    /// The upper left bar of SMPTE bars is white, the next yellow, and the rest follows by
    /// sevenths.
    fn assert_bars(frame: &Frame) {
        let image = frame.to_rgb().expect("pixels");
        let (width, y) = (image.width(), image.height() / 4);
        let at = |seventh: u32| image.get_pixel(width * (2 * seventh + 1) / 14, y).0;
        let levels = [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1]];
        for (n, want) in levels.into_iter().enumerate() {
            let want = want.map(|on: u8| i32::from(on) * 191);
            let got = at(n as u32).map(i32::from);
            let near = got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 6);
            assert!(near, "{:?}: bar {n} is {got:?}, not {want:?}", frame.format);
        }
    }

    #[test]
    fn a_decoder_hands_over_its_own_padded_buffers_with_the_same_pixels() {
        let caps = "video/x-raw,format=I420,width=336,height=240 ! x264enc ! avdec_h264";
        let copied = sample(caps, "smpte");
        let own = sample_by(caps, "smpte", |sink| set_up_sink(sink, Delivery::Everything));
        let stride = |sample: &gst::Sample| {
            let meta = sample.buffer().and_then(|buffer| buffer.meta::<gst_video::VideoMeta>());
            meta.map(|meta| meta.stride()[0])
        };
        assert!(stride(&own).is_some_and(|stride| stride > 336), "{:?}", stride(&own));
        assert_ne!(stride(&own), stride(&copied));
        let pixels = |sample: &gst::Sample| frame(sample).expect("a frame").to_rgb().expect("pixels");
        assert_eq!(pixels(&own), pixels(&copied));
    }

    #[test]
    fn native_formats_pass_with_their_strides_and_colours() {
        for (name, format) in [
            ("I420", PixelFormat::I420),
            ("NV12", PixelFormat::Nv12),
            ("YUY2", PixelFormat::Yuyv),
            ("UYVY", PixelFormat::Uyvy),
            ("RGB", PixelFormat::Rgb24),
            ("BGR", PixelFormat::Bgr24),
        ] {
            for (size, colour) in [
                ((321, 241), "video/x-raw,colorimetry=bt601"),
                ((642, 360), "video/x-raw,colorimetry=bt709"),
                ((321, 240), FULL),
            ] {
                let colour = if matches!(name, "RGB" | "BGR") { "video/x-raw" } else { colour };
                let (width, height) = size;
                let caps = format!(
                    "video/x-raw,format=RGB,width={width},height={height} ! videoconvert ! {colour},format={name}"
                );
                let frame = frame(&sample(&caps, "smpte75")).expect("a frame");
                assert_eq!((frame.format, frame.width, frame.height), (format, size.0, size.1));
                assert_bars(&frame);
            }
        }
    }

    #[test]
    fn formats_that_a_frame_does_not_know_are_converted() {
        for name in ["Y444", "Y42B", "BGRx", "RGBA", "I420_10LE", "Y41B"] {
            let caps = format!("video/x-raw,format={name},width=322,height=242");
            let frame = frame(&sample(&caps, "smpte75")).expect("a frame");
            assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Rgb24, 322, 242));
            assert_bars(&frame);
        }
        // Weights of BT.2020 are GStreamer's business as well.
        let caps = "video/x-raw,format=I420,width=320,height=240,colorimetry=bt2020";
        assert_eq!(frame(&sample(caps, "smpte75")).expect("a frame").format, PixelFormat::Rgb24);
    }

    #[test]
    fn what_is_transparent_is_painted_over_unless_all_is() {
        for (pixel, want) in [("0x00ff8040", [255, 128, 64]), ("0xffff8040", [255, 128, 64])] {
            let caps = "video/x-raw,format=ARGB,width=62,height=32 ! identity";
            let frame =
                frame(&sample(caps, &format!("solid-color foreground-color={pixel}"))).expect("a frame");
            assert_eq!(frame.to_rgb().expect("pixels").get_pixel(3, 3).0, want, "{pixel}");
        }
        let half: Vec<u8> = [[9, 9, 9, 0], [1, 2, 3, 255]].concat().repeat(4);
        assert_eq!(visible(&half, 2, 8), [255, 255, 255, 1, 2, 3].repeat(4));
        // A row's padding is none of it.
        assert_eq!(visible(&half, 1, 8), [9; 12]);
    }

    #[test]
    fn jpeg_stays_jpeg_until_it_is_cut() {
        let made = sample(
            &format!(
                "video/x-raw,format=RGB,width=320,height=240 ! videoconvert ! {FULL},format=I420 ! jpegenc quality=95"
            ),
            "smpte75",
        );
        let frame = frame(&made).expect("a frame");
        assert_eq!((frame.format, frame.width, frame.height), (PixelFormat::Mjpg, 320, 240));
        let frame = frame.decoded().expect("decodes");
        assert_bars(&frame);
    }

    #[test]
    fn caps_that_change_are_noticed_and_rates_are_read() {
        let mut maker = FrameMaker::default();
        for (size, rate) in [((64, 48), "30/1"), ((128, 96), "25/2"), ((64, 48), "0/1")] {
            let sample =
                sample(&format!("video/x-raw,width={},height={},framerate={rate}", size.0, size.1), "ball");
            let stated = maker.rate(&sample);
            assert_eq!(stated, [("30/1", 30.0), ("25/2", 12.5)].iter().find(|r| r.0 == rate).map(|r| r.1));
            let frame = maker.frame(&sample, SystemTime::UNIX_EPOCH).expect("a frame");
            assert_eq!((frame.width, frame.height), size);
        }
    }

    #[test]
    fn damaged_samples_are_named() {
        let good = sample("video/x-raw,format=I420,width=64,height=48", "ball");
        let mut buffer = good.buffer_owned().expect("buffer");
        buffer.make_mut().set_flags(gst::BufferFlags::CORRUPTED);
        let bad = gst::Sample::builder().buffer(&buffer).caps(&good.caps_owned().expect("caps")).build();
        assert_eq!(frame(&bad).expect_err("corrupt"), Fault::Lost("corrupt"));

        let caps = gst::Caps::builder("image/jpeg").build();
        let cut =
            gst::Sample::builder().buffer(&gst::Buffer::from_slice([0xFFu8, 0xD8, 0xFF])).caps(&caps).build();
        assert_eq!(frame(&cut).expect_err("cut"), Fault::Lost("corrupt-jpeg"));

        let short = gst::Buffer::from_slice([0u8; 100]);
        let short = gst::Sample::builder().buffer(&short).caps(&good.caps_owned().expect("caps")).build();
        assert!(frame(&short).expect("a frame").to_rgb().is_err());

        let odd = gst::Caps::builder("audio/x-raw").build();
        let odd = gst::Sample::builder().buffer(&gst::Buffer::from_slice([0u8; 9])).caps(&odd).build();
        assert!(matches!(frame(&odd), Err(Fault::Unusable(why)) if why.contains("audio/x-raw")));
    }
}
