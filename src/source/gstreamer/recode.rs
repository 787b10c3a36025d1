//! Encodes a picture with a video codec and decodes it again, to see what is left of a generator's
//! traces.

use std::time::{Duration, SystemTime};

use ::gstreamer as gst;
use ::gstreamer_app as gst_app;
use ::gstreamer_video as gst_video;
use gst::prelude::*;
use image::RgbImage;

use super::frames::{Fault, FrameMaker};
use super::init;
use crate::source::SourceError;
use crate::source::codec::VideoCodec;

/// A single frame takes milliseconds; without an answer after this, something hangs.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// `picture` as the key frame of a stream of constant quality `crf`, decoded again and turned into
/// RGB as the daemon does with a camera's frames. The same picture always gives the same.
pub(in crate::source) fn recode(
    picture: &RgbImage,
    codec: VideoCodec,
    crf: u8,
) -> Result<RgbImage, SourceError> {
    init()?;
    let (width, height) = (picture.width() & !1, picture.height() & !1);
    let failed = |why: String| SourceError::Configuration(format!("{codec} of {width}x{height}: {why}"));
    if width < 16 || height < 16 {
        return Err(failed("a video codec needs at least 16x16 pixels".into()));
    }
    // One thread each: pictures are processed in parallel already.
    let (coder, package) = match codec {
        VideoCodec::H264 => (
            format!(
                "x264enc pass=qual quantizer={crf} key-int-max=1 bframes=0 threads=1 \
                 ! h264parse ! avdec_h264 max-threads=1"
            ),
            "gstreamer1.0-plugins-ugly (x264enc)",
        ),
        // Options of x265 itself, which override the element's bitrate.
        VideoCodec::H265 => (
            format!(
                "x265enc name=x265 key-int-max=1 option-string=\"crf={crf}:info=0:bframes=0:pools=none:frame-threads=1:wpp=0\" \
                 ! h265parse ! avdec_h265 max-threads=1"
            ),
            "gstreamer1.0-plugins-bad (x265enc)",
        ),
    };
    let text = format!(
        "appsrc name=in format=time ! videoconvert ! video/x-raw,format=I420 ! {coder} \
         ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text).map_err(|error| {
        failed(format!(
            "{}; install {package}, gstreamer1.0-plugins-bad (parsers) and gstreamer1.0-libav (decoders)",
            error.message()
        ))
    })?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("several elements make a pipeline");
    let element = |name: &str| pipeline.by_name(name).expect("named in the text above");
    let input = element("in").downcast::<gst_app::AppSrc>().expect("an appsrc");
    let output = element("out").downcast::<gst_app::AppSink>().expect("an appsink");

    if let Some(pad) = pipeline.by_name("x265").and_then(|coder| coder.static_pad("src")) {
        let _ = pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                without_stale_headers(buffer);
            }
            gst::PadProbeReturn::Ok
        });
    }

    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    input.set_caps(Some(&info.to_caps().map_err(|error| failed(error.to_string()))?));
    let result = (|| {
        pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| failed(reason(&pipeline, &error.to_string())))?;
        input
            .push_buffer(buffer(picture, &info))
            .and_then(|_| input.end_of_stream())
            .map_err(|error| failed(reason(&pipeline, &error.to_string())))?;
        let sample = output
            .try_pull_sample(PATIENCE)
            .ok_or_else(|| failed(reason(&pipeline, "no picture came out")))?;
        let frame =
            FrameMaker::default().frame(&sample, SystemTime::UNIX_EPOCH).map_err(|fault| match fault {
                Fault::Lost(why) => failed(why.into()),
                Fault::Unusable(why) => failed(why),
            })?;
        let frame = frame.into_frame("recoded".into(), 0, Duration::ZERO);
        frame.to_rgb().map_err(|error| failed(error.to_string()))
    })();
    let _ = pipeline.set_state(gst::State::Null);
    result
}

/// GStreamer's x265enc (1.22) writes parameter sets before the first picture, followed by bytes of
/// stale memory, which sometimes look like the start of a NAL unit and spoil the picture. x265
/// itself repeats the sets in front of each key frame, so all before the last of these goes.
fn without_stale_headers(buffer: &mut gst::Buffer) {
    const VIDEO_PARAMETER_SET: [u8; 6] = [0, 0, 0, 1, 0x40, 1];
    let first = buffer.map_readable().ok().and_then(|bytes| {
        bytes.windows(VIDEO_PARAMETER_SET.len()).rposition(|window| window == VIDEO_PARAMETER_SET)
    });
    if let Some(first) = first.filter(|first| *first > 0)
        && let Ok(rest) = buffer.copy_region(gst::BufferCopyFlags::all(), first..)
    {
        *buffer = rest;
    }
}

/// The picture's pixels with the row padding that GStreamer expects.
fn buffer(picture: &RgbImage, info: &gst_video::VideoInfo) -> gst::Buffer {
    let stride = usize::try_from(info.stride()[0]).expect("RGB has a positive stride");
    let used = info.width() as usize * 3;
    let mut bytes = vec![0; info.size()];
    let rows = picture.as_raw().chunks_exact(picture.width() as usize * 3);
    for (to, from) in bytes.chunks_exact_mut(stride).zip(rows) {
        to[..used].copy_from_slice(&from[..used]);
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let times = buffer.get_mut().expect("not shared yet");
    times.set_pts(gst::ClockTime::ZERO);
    times.set_duration(gst::ClockTime::from_mseconds(40));
    buffer
}

/// What the pipeline itself says went wrong, if it does.
fn reason(pipeline: &gst::Pipeline, otherwise: &str) -> String {
    pipeline
        .bus()
        .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]))
        .and_then(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
            _ => None,
        })
        .unwrap_or_else(|| otherwise.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_comes_back_in_place_and_coarser_with_a_higher_crf() {
        let picture = RgbImage::from_fn(131, 75, |x, y| {
            let wave = 60.0 * ((x as f32 / 3.0).sin() + (y as f32 / 5.0).cos());
            let edge = if (40..90).contains(&x) && y > 30 { 60.0 } else { 0.0 };
            image::Rgb([100.0 + wave / 2.0, 60.0 + edge, 140.0 - wave / 2.0].map(|v| v as u8))
        });
        for codec in VideoCodec::ALL {
            let difference = |crf| {
                let out = recode(&picture, codec, crf).expect("goes through");
                assert_eq!(out.dimensions(), (130, 74));
                let pairs = out.enumerate_pixels().map(|(x, y, p)| (p.0, picture.get_pixel(x, y).0));
                let sum: u32 =
                    pairs.map(|(a, b)| (0..3).map(|c| u32::from(a[c].abs_diff(b[c]))).sum::<u32>()).sum();
                f64::from(sum) / f64::from(3 * out.width() * out.height())
            };
            let (fine, usual, coarse) = (difference(5), difference(23), difference(40));
            let of = format!("{codec}: {fine} {usual} {coarse}");
            assert!(fine < 6.0 && fine < usual && usual < coarse && coarse < 40.0, "{of}");
            let first = recode(&picture, codec, 30).expect("goes through");
            for _ in 0..20 {
                assert!(recode(&picture, codec, 30).expect("goes through") == first, "{codec} twice");
            }
        }
        let other = |codec| recode(&picture, codec, 30).expect("goes through");
        assert_ne!(other(VideoCodec::H264), other(VideoCodec::H265));
    }

    #[test]
    fn what_is_too_small_for_the_codec_is_said() {
        for codec in VideoCodec::ALL {
            let error = recode(&RgbImage::new(9, 40), codec, 23).expect_err("too small").to_string();
            assert!(error.contains("8x40") && error.contains("16x16"), "{error}");
            let least = recode(&RgbImage::new(17, 16), codec, 23).expect("large enough");
            assert_eq!(least.dimensions(), (16, 16));
        }
    }
}
