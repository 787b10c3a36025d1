//! What is learnt of a run besides its frames: whether the stream is a still picture, and whether
//! it ended where its header says.
//!
//! A still picture is not decoded by GStreamer: its bytes are gathered, so that it is read by the
//! same decoder and within the same limits as a file ([`crate::frame::picture`]). Only JPEG images
//! pass as they are, because a camera's video can consist of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::gstreamer as gst;
use gst::prelude::*;

use super::super::Truncated;
use crate::frame::picture::MAX_BYTES;

/// Still pictures that are decoded here, as GStreamer calls them.
const PICTURES: [&str; 5] = ["image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"];

/// Demuxers whose duration is the one in the file's header; others estimate it from the data.
const STATING: [&str; 4] = ["qtdemux", "matroskademux", "flvdemux", "asfdemux"];

/// Elementary video streams without a container, as GStreamer calls them. They carry no timestamps:
/// their parsers make them up from a frame rate that is stated somewhere, or guessed.
const BARE: [&str; 4] = ["video/x-h264", "video/x-h265", "video/mpeg", "video/x-av1"];

/// How far before its stated end a complete file may end, in addition to one frame's duration:
/// headers are rounded.
const SLACK: Duration = Duration::from_millis(250);

/// Watches one pipeline.
#[derive(Clone, Default)]
pub(super) struct Witness(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// What the stream is as a whole, by its first bytes.
    kind: Mutex<Option<String>>,
    /// It is pictures without a container, see [`BARE`].
    bare: AtomicBool,
    /// Bytes of a picture.
    picture: Mutex<Vec<u8>>,
    gathers: AtomicBool,
    demuxers: Mutex<Vec<gst::glib::WeakRef<gst::Element>>>,
    /// The latest end of anything that a demuxer delivered, and the longest step up to it, in
    /// nanoseconds.
    end: AtomicU64,
    step: AtomicU64,
}

impl Witness {
    /// Watches elements as they are added to `pipeline`.
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

    /// Follows how far a demuxer's stream gets.
    fn follow(&self, pad: &gst::Pad) {
        let (seen, last) = (self.0.clone(), AtomicU64::new(0));
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data
                && let Some((begin, end)) = span(pad, buffer)
            {
                let step = begin.saturating_sub(last.swap(begin, Ordering::Relaxed));
                // The step belongs to the greatest end; streams of one file are close enough to
                // each other.
                if seen.end.fetch_max(end, Ordering::Relaxed) < end {
                    seen.step.store(step, Ordering::Relaxed);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Makes `decoder`, a `uridecodebin`, hand out pictures undecoded, and notes what the whole
    /// stream is. `live`: it may arrive as it is recorded.
    pub fn guide(&self, decoder: &gst::Element, live: bool) {
        let seen = self.0.clone();
        decoder.connect("autoplug-continue", false, move |args| {
            let caps = args[2].get::<gst::Caps>().ok();
            let name = caps.as_ref().and_then(|c| c.structure(0)).map_or("", |s| s.name().as_str());
            let mut kind = seen.kind.lock().expect("kind lock");
            // The first query is about the whole stream, further ones about what was found in it.
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

    /// Gathers a picture's bytes in front of `sink` instead of letting them through, if `caps` are
    /// those of one that the decoder was told to hand out.
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

    /// Removes timestamps that a parser made up from the frames in front of `sink`, if the stream
    /// carries none and arrives as it is recorded: then the time of arrival counts. `decoder` is
    /// the pad that they come from.
    pub(crate) fn forget_times(&self, decoder: &gst::Pad, sink: &gst::Pad) {
        // A file has a length, wherever it comes from; all that is known of its timing is the rate.
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

    /// The picture's bytes, if the stream was one; none for a video or a JPEG image.
    pub fn picture(&self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut *self.0.picture.lock().expect("picture lock"));
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Whether the stream's first bytes are those of a picture, so that it is one if it has one
    /// frame.
    pub(crate) fn begins_as_picture(&self) -> bool {
        self.0.kind.lock().expect("kind lock").as_deref().is_some_and(|kind| kind.starts_with("image/"))
    }

    /// What is missing at the end, if the stream's header states more than came. Ask once it has
    /// ended.
    pub fn truncated(&self) -> Option<Truncated> {
        let demuxers = self.0.demuxers.lock().expect("demuxers lock");
        // Playlists have one demuxer per segment, none of which is the whole.
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

/// Lets a demuxer answer duration queries itself: it asks upstream first, where a pipe answers that
/// it is unknown.
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
    // Beyond the segment it has no stream time: then its end is the segment's.
    let begin = segment.to_stream_time(begin)?;
    let end = segment.to_stream_time(end).unwrap_or(begin);
    Some((begin.nseconds(), end.nseconds()))
}
