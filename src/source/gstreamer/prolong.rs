//! Copies a clip's encoded video so often that it lasts as long as it is wanted. Nothing is decoded or encoded.

use std::path::Path;
use std::time::Duration;

use ::gstreamer as gst;
use crossbeam_channel::{Receiver, bounded, never, select};
use gst::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::build::{Built, Delivery, set_up_sink};
use super::element::make;
use super::fault::{Circumstances, classify};
use super::http::ContentType;
use super::init;
use super::running::{Event, Running, Start};
use super::witness::Witness;
use crate::clock::SharedClock;
use crate::source::clip::Clip;
use crate::source::{SourceError, SourceUri, files};

/// What is copied, as GStreamer and as people call it.
const CODECS: [(&str, &str); 6] = [
    ("video/x-h264", "H.264"),
    ("video/x-h265", "H.265"),
    ("video/x-vp8", "VP8"),
    ("video/x-vp9", "VP9"),
    ("video/x-av1", "AV1"),
    ("image/jpeg", "Motion JPEG"),
];

/// Bytes written at most, which are as many of temporary files or of memory.
const MOST: usize = 256 << 20;

/// A file that gives nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// As [`crate::source::clip::prolong`].
pub(in crate::source) fn prolong(
    clip: &Path,
    to: &Path,
    lasts: Duration,
    clock: &SharedClock,
) -> Result<Clip, SourceError> {
    init()?;
    let uri = SourceUri::File(clip.to_owned());
    let encoded = Encoded::read(&uri, lasts, clock)?;
    let found = encoded.describe(&uri)?;
    encoded.write(to, lasts, found.lasts)?;
    Ok(found)
}

/// A clip's video, or its beginning, from a key frame on.
#[derive(Default)]
struct Encoded {
    caps: Option<gst::Caps>,
    /// In the order of decoding.
    frames: Vec<gst::Buffer>,
    bytes: usize,
}

impl Encoded {
    fn read(uri: &SourceUri, lasts: Duration, clock: &SharedClock) -> Result<Self, SourceError> {
        let (built, without_video) = open(uri)?;
        let running = Running::start(built, Delivery::Everything, uri.to_string(), clock.clone())?;
        let mut starting = Some(running.started().clone());
        let (mut known, mut refused) = (Circumstances::default(), None);
        let mut encoded = Self::default();
        loop {
            let timer = clock.after(PATIENCE);
            select! {
                recv(running.samples()) -> sample => if let Ok(sample) = sample
                    && !encoded.take(&sample, uri, lasts)? {
                        return Ok(encoded);
                },
                recv(running.events()) -> event => match event {
                    Ok(Event::Missing(what)) => known.missing.push(what),
                    Ok(Event::Failed(report)) => return Err(classify(uri, &report, &known)),
                    Ok(Event::Ended) => {
                        while let Ok(sample) = running.samples().try_recv() {
                            encoded.take(&sample, uri, lasts)?;
                        }
                        return Ok(encoded);
                    }
                    Err(_) => {}
                },
                recv(starting.as_ref().unwrap_or(&never())) -> start => {
                    starting = None;
                    if matches!(start, Ok(Start::Refused) | Err(_)) {
                        refused = Some(clock.after(super::REASON));
                    }
                },
                // Of what has no video the end never comes.
                recv(without_video) -> found => if found.is_ok() {
                    return Ok(encoded);
                },
                recv(refused.as_ref().unwrap_or(&never())) -> _ => {
                    return Err(SourceError::Configuration(format!("{uri} cannot be read")));
                },
                recv(timer) -> _ => {
                    let seconds = PATIENCE.as_secs();
                    return Err(SourceError::Retry(format!("{uri}: no video of it within {seconds} s")));
                },
            }
        }
    }

    /// Keeps a frame; false once there are enough.
    fn take(&mut self, sample: &gst::Sample, uri: &SourceUri, lasts: Duration) -> Result<bool, SourceError> {
        let Some(frame) = sample.buffer_owned() else { return Ok(true) };
        if self.frames.is_empty() && !is_key(&frame) {
            return Ok(true);
        }
        let Some(pts) = frame.pts() else {
            return Err(SourceError::Configuration(format!(
                "{uri} does not say when its frames are due; put it into a container such as Matroska or MP4"
            )));
        };
        self.caps = self.caps.take().or_else(|| sample.caps_owned());
        self.bytes += frame.size();
        let begin = self.frames.first().and_then(|first| first.pts()).unwrap_or(pts);
        self.frames.push(frame);
        Ok(Duration::from(pts.saturating_sub(begin)) < lasts && self.bytes < MOST)
    }

    fn describe(&self, uri: &SourceUri) -> Result<Clip, SourceError> {
        let bad = |why: &str| SourceError::Configuration(format!("{uri} {why}; give a video of a camera"));
        let times = self.frames.iter().filter_map(|frame| frame.pts());
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
            let known = CODECS.map(|(_, name)| name).join(", ");
            return Err(bad(&format!("holds no video with a key frame, of {known}")));
        };
        let steps = self.frames.len() as u64 - 1;
        if steps == 0 || last == first {
            return Err(bad("is a single picture"));
        }
        let step = (last - first).nseconds() / steps;
        let lasts = Duration::from_nanos((last - first).nseconds() + step);
        let caps = self.caps.as_ref().and_then(|caps| caps.structure(0));
        let number = |name: &str| caps.and_then(|c| c.get::<i32>(name).ok()).unwrap_or(0).unsigned_abs();
        let codec = caps.and_then(|c| CODECS.iter().find(|(name, _)| *name == c.name().as_str()));
        let keys = self.frames.iter().filter(|frame| is_key(frame)).count();
        Ok(Clip {
            codec: codec.map_or("video", |(_, name)| name),
            width: number("width"),
            height: number("height"),
            fps: self.frames.len() as f64 / lasts.as_secs_f64(),
            lasts,
            key_frames_every: lasts / u32::try_from(keys.max(1)).unwrap_or(u32::MAX),
            bit_rate: 8.0 * self.bytes as f64 / lasts.as_secs_f64(),
        })
    }

    /// Writes it to a file, one after the other, each taking `period`.
    fn write(&self, to: &Path, lasts: Duration, period: Duration) -> Result<(), SourceError> {
        let failed = |why: &str| SourceError::Configuration(format!("{}: {why}", to.display()));
        let parser = match self.caps.as_ref().and_then(|caps| caps.structure(0)).map(|s| s.name().as_str()) {
            Some("video/x-h264") => "! h264parse",
            Some("video/x-h265") => "! h265parse",
            _ => "",
        };
        let text =
            format!("appsrc name=in format=time block=true {parser} ! matroskamux ! filesink name=out");
        let pipeline = gst::parse::launch(&text).map_err(|e| {
            let install = "install gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad";
            failed(&format!("{}; {install}", e.message()))
        })?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("several elements make a pipeline");
        let element = |name: &str| pipeline.by_name(name).expect("named in the text above");
        element("out").set_property("location", to);
        let input = element("in").downcast::<AppSrc>().expect("an appsrc");
        input.set_caps(self.caps.as_ref());
        let written = (|| {
            pipeline.set_state(gst::State::Playing).ok()?;
            let (mut at, mut bytes) = (Duration::ZERO, 0);
            while at < lasts && (bytes == 0 || bytes + self.bytes <= MOST) {
                for frame in &self.frames {
                    input.push_buffer(self.moved(frame, at)).ok()?;
                }
                (at, bytes) = (at + period, bytes + self.bytes);
            }
            input.end_of_stream().ok()
        })();
        let ends: &[gst::MessageType] = match written {
            Some(_) => &[gst::MessageType::Eos, gst::MessageType::Error],
            None => &[gst::MessageType::Error],
        };
        let patience = gst::ClockTime::try_from(PATIENCE).ok();
        let message = pipeline.bus().and_then(|bus| bus.timed_pop_filtered(patience, ends));
        let _ = pipeline.set_state(gst::State::Null);
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Eos(_)) => Ok(()),
            Some(gst::MessageView::Error(e)) => {
                let why = e.debug().and_then(|debug| debug.lines().last().map(str::to_owned));
                Err(failed(&format!("{} ({})", e.error().message(), why.unwrap_or_default())))
            }
            _ => Err(failed("it cannot be written")),
        }
    }

    /// A frame as it is, but due at its place in a clip that begins at `at`.
    fn moved(&self, frame: &gst::Buffer, at: Duration) -> gst::Buffer {
        let begin = self.frames.iter().filter_map(|f| f.pts()).min().unwrap_or_default();
        let at = gst::ClockTime::try_from(at).unwrap_or_default();
        let mut moved = frame.clone();
        let times = moved.make_mut();
        times.set_pts(frame.pts().map(|pts| pts.saturating_sub(begin) + at));
        times.set_dts(gst::ClockTime::NONE);
        moved
    }
}

fn is_key(frame: &gst::Buffer) -> bool {
    !frame.flags().contains(gst::BufferFlags::DELTA_UNIT)
}

/// Takes what is not wanted, so that what is comes.
fn swallow(pipeline: &gst::Pipeline, pad: &gst::Pad) {
    let taken =
        gst::ElementFactory::make("fakesink").property("async", false).property("sync", false).build();
    // Core elements come with GStreamer itself.
    if let Ok(end) = taken
        && pipeline.add(&end).is_ok()
        && end.sync_state_with_parent().is_ok()
        && let Some(into) = end.static_pad("sink")
    {
        let _ = pad.link(&into);
    }
}

/// A pipeline that hands over a file's first video, encoded as it is, and where it says that there is none.
fn open(uri: &SourceUri) -> Result<(Built, Receiver<()>), SourceError> {
    let SourceUri::File(path) = uri else {
        return Err(SourceError::Configuration(format!("{uri} is not a file")));
    };
    let unopened = |e: std::io::Error| {
        SourceError::Configuration(format!("cannot open {uri}: {e}; check path and permissions"))
    };
    let path = std::path::absolute(path).map_err(unopened)?;
    if !std::fs::metadata(&path).map_err(unopened)?.is_file() {
        return Err(SourceError::Configuration(format!("{uri} is not a file")));
    }
    std::fs::File::open(&path).map_err(unopened)?;
    if files::shows(&path) {
        return Err(SourceError::Configuration(format!("{uri} is a picture; give a video of a camera")));
    }
    let source = make("filesrc", "the package libgstreamer1.0-0")?;
    source.set_property("location", &path);
    let parser = make("parsebin", "the package gstreamer1.0-plugins-base")?;
    let sink = AppSink::builder().build();
    set_up_sink(&sink, Delivery::Everything);
    let pipeline = gst::Pipeline::new();
    let failed = |e| SourceError::Configuration(format!("the pipeline cannot be built: {e}"));
    pipeline.add_many([&source, &parser, sink.upcast_ref()]).map_err(failed)?;
    source.link(&parser).map_err(failed)?;
    let into = sink.static_pad("sink").expect("an appsink has a sink pad");
    let (video, weak) = (into.clone(), pipeline.downgrade());
    parser.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        if video.is_linked() || !CODECS.iter().any(|(codec, _)| *codec == name) {
            if let Some(pipeline) = weak.upgrade() {
                swallow(&pipeline, pad);
            }
        } else if let Err(e) = pad.link(&video) {
            log::debug!("video of {caps} cannot be linked: {e}");
        }
    });
    let (without_video, tells) = bounded(1);
    parser.connect("drained", false, move |_| {
        if !into.is_linked() {
            let _ = without_video.try_send(());
        }
        None
    });
    let (witness, content) = (Witness::default(), ContentType::default());
    let built = Built { pipeline, sink, own_sink: false, witness, live: false, network: false, content };
    Ok((built, tells))
}
