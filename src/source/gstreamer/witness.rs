//! What a run tells beside its frames: whether the stream is a still picture, and whether it ended where its
//! header says.
//!
//! A still picture is not decoded by GStreamer: its bytes are gathered, so that it is read by the same decoder
//! and within the same limits as a file ([`crate::frame::picture`]). Only JPEG images pass as they come, because
//! a camera's video can be just these.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::gstreamer as gst;
use gst::prelude::*;

use super::super::Truncated;
use crate::frame::picture::MAX_BYTES;

/// Still pictures that are decoded here, as GStreamer calls them.
const PICTURES: [&str; 5] = ["image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"];

/// Demuxers whose duration is what the file's header states; others estimate it from what there is.
const STATING: [&str; 4] = ["qtdemux", "matroskademux", "flvdemux", "asfdemux"];

/// Streams of nothing but pictures, with no container around them, as GStreamer calls them. They carry no times: what their
/// parsers give is made up from a rate that is stated somewhere, or guessed.
const BARE: [&str; 4] = ["video/x-h264", "video/x-h265", "video/mpeg", "video/x-av1"];

/// How far before its stated end a whole file may end, beside the time of a frame: headers are rounded.
const SLACK: Duration = Duration::from_millis(250);

/// Watches one pipeline.
#[derive(Clone, Default)]
pub(super) struct Witness(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// What the stream is as a whole, as its first bytes tell.
    kind: Mutex<Option<String>>,
    /// It is pictures without a container, see [`BARE`].
    bare: AtomicBool,
    /// Bytes of a picture.
    picture: Mutex<Vec<u8>>,
    gathers: AtomicBool,
    demuxers: Mutex<Vec<gst::glib::WeakRef<gst::Element>>>,
    /// Latest end of anything that a demuxer gave, and the longest step to it, in nanoseconds.
    end: AtomicU64,
    step: AtomicU64,
}

impl Witness {
    /// Watches elements as they come into `pipeline`.
    pub fn watch(&self, pipeline: &gst::Pipeline) {
        let witness = self.clone();
        pipeline.connect_deep_element_added(move |_, _, element| {
            let Some(factory) = element.factory() else { return };
            if STATING.contains(&factory.name().as_str()) {
                witness.0.demuxers.lock().expect("demuxers lock").push(element.downgrade());
                element.sink_pads().iter().for_each(keep_for_itself);
                let witness = witness.clone();
                element.connect_pad_added(move |_, pad| witness.follow(pad));
            }
        });
    }

    /// Follows how far a demuxer's stream comes.
    fn follow(&self, pad: &gst::Pad) {
        let (seen, last) = (self.0.clone(), AtomicU64::new(0));
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data
                && let Some((begin, end)) = span(pad, buffer)
            {
                let step = begin.saturating_sub(last.swap(begin, Ordering::Relaxed));
                // The greatest end has its step beside it; streams of one file are close enough to each other.
                if seen.end.fetch_max(end, Ordering::Relaxed) < end {
                    seen.step.store(step, Ordering::Relaxed);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Makes `decoder`, a `uridecodebin`, hand pictures out undecoded, and looks what the whole is. `live`: it may come as it
    /// is recorded.
    pub fn guide(&self, decoder: &gst::Element, live: bool) {
        let seen = self.0.clone();
        decoder.connect("autoplug-continue", false, move |args| {
            let caps = args[2].get::<gst::Caps>().ok();
            let name = caps.as_ref().and_then(|c| c.structure(0)).map_or("", |s| s.name().as_str());
            let mut kind = seen.kind.lock().expect("kind lock");
            // The first question is about the whole; those that follow, about what was found in it.
            let whole = kind.is_none();
            if whole {
                *kind = Some(name.to_owned());
                let system = caps.as_ref().and_then(|c| c.structure(0)?.get::<bool>("systemstream").ok());
                seen.bare.store(live && BARE.contains(&name) && system != Some(true), Ordering::Relaxed);
            }
            let decode = !(whole && PICTURES.contains(&name));
            Some(decode.to_value())
        });
    }

    /// Gathers a picture's bytes in front of `sink` instead of letting them through, if `caps` are those of one
    /// that the decoder was told to hand out.
    pub fn gather(&self, caps: &gst::CapsRef, sink: &gst::Pad) {
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        if !PICTURES.contains(&name) || self.0.gathers.swap(true, Ordering::AcqRel) {
            return;
        }
        let seen = self.0.clone();
        sink.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
            let mut all = seen.picture.lock().expect("picture lock");
            let mut take = |buffer: &gst::BufferRef| {
                if let Ok(map) = buffer.map_readable() {
                    all.extend_from_slice(&map);
                }
            };
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => take(buffer),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(&mut take),
                _ => {}
            }
            if all.len() as u64 > MAX_BYTES {
                let most = MAX_BYTES >> 20;
                if let Some(sink) = pad.parent_element() {
                    gst::element_error!(
                        sink,
                        gst::StreamError::Format,
                        ("a picture of more than {most} MiB")
                    );
                }
                all.clear();
            }
            gst::PadProbeReturn::Handled
        });
    }

    /// Takes from the frames in front of `sink` the times that a parser made up, if the stream carries none and comes as
    /// it is recorded: then its arrival counts. `decoder` is the pad that they come from.
    pub fn forget_times(&self, decoder: &gst::Pad, sink: &gst::Pad) {
        // A file has a length, wherever it comes from; of it nothing is known of the time but the rate.
        let recorded = decoder.query_duration::<gst::format::Bytes>().is_some_and(|size| *size > 0);
        if !self.0.bare.load(Ordering::Relaxed) || recorded {
            return;
        }
        sink.add_probe(gst::PadProbeType::BUFFER, |_, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                let buffer = buffer.make_mut();
                buffer.set_pts(None);
                buffer.set_dts(None);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The bytes of the picture that the stream was; none for a video, and for a JPEG image.
    pub fn picture(&self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut *self.0.picture.lock().expect("picture lock"));
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Whether the stream's first bytes are those of a picture, so that it is one if it has one frame.
    pub fn begins_as_picture(&self) -> bool {
        self.0.kind.lock().expect("kind lock").as_deref().is_some_and(|kind| kind.starts_with("image/"))
    }

    /// What is missing at the end, if the stream's header states more than came. To be asked at its end.
    pub fn truncated(&self) -> Option<Truncated> {
        let demuxers = self.0.demuxers.lock().expect("demuxers lock");
        // Playlists have a demuxer for each piece, none of which is the whole.
        let [demuxer] = &demuxers[..] else { return None };
        let stated = demuxer.upgrade()?.src_pads().iter().find_map(|pad| {
            let duration: Option<gst::ClockTime> = pad.query_duration();
            duration.filter(|d| *d > gst::ClockTime::ZERO)
        })?;
        let stated = Duration::from(stated);
        let end = Duration::from_nanos(self.0.end.load(Ordering::Relaxed));
        let step = Duration::from_nanos(self.0.step.load(Ordering::Relaxed));
        (end + step + SLACK < stated)
            .then_some(Truncated { seconds: end.as_secs_f64(), of: Some(stated.as_secs_f64()) })
    }
}

/// Lets a demuxer answer for itself how long its file is: it asks in front of it first, where a pipe says that nobody
/// knows.
fn keep_for_itself(sink: &gst::Pad) {
    sink.add_probe(gst::PadProbeType::QUERY_UPSTREAM, |_, info| {
        let asked = match &info.data {
            Some(gst::PadProbeData::Query(query)) => match query.view() {
                gst::QueryView::Duration(duration) => duration.format() == gst::Format::Time,
                _ => false,
            },
            _ => false,
        };
        if asked { gst::PadProbeReturn::Drop } else { gst::PadProbeReturn::Ok }
    });
}

/// Begin and end of a buffer in its stream, in nanoseconds.
fn span(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<(u64, u64)> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?.clone();
    let begin = buffer.pts()?;
    let end = begin + buffer.duration().unwrap_or(gst::ClockTime::ZERO);
    // Beyond the segment it has no time there: then its end is the segment's.
    let begin = segment.to_stream_time(begin)?;
    let end = segment.to_stream_time(end).unwrap_or(begin);
    Some((begin.nseconds(), end.nseconds()))
}
