//! Links pads that appear while a pipeline starts: the first video to the sink, sound to nowhere.

use std::sync::{Arc, Mutex};

use ::gstreamer as gst;
use gst::prelude::*;
use gstreamer_app::AppSink;

use super::super::SourceError;
use super::contribution::is_sound;
use super::element::make;
use super::witness::Witness;

/// Links the first pad of `source` that does not carry sound.
pub(super) fn link_when_it_appears(source: &gst::Element, decoder: &gst::Element) {
    let decoder = decoder.downgrade();
    source.connect_pad_added(move |source, pad| {
        let into = decoder.upgrade().and_then(|decoder| decoder.static_pad("sink"));
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if let Some(into) = into.filter(|into| !into.is_linked() && !is_sound(&caps))
            && let Err(e) = pad.link(&into)
        {
            gst::element_error!(
                source,
                gst::StreamError::Format,
                ("video of {caps} cannot be used"),
                ["{e}"]
            );
        }
    });
}

/// Consumes the sound of `demuxer`, which fails if nobody does; reports it where there is nothing
/// else.
pub(super) fn swallow_sound(pipeline: &gst::Pipeline, demuxer: &gst::Element, decoder: &gst::Element) {
    let (weak_pipeline, sound) = (pipeline.downgrade(), Arc::new(Mutex::new(None)));
    let heard = sound.clone();
    demuxer.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak_pipeline.upgrade() else { return };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if !is_sound(&caps) {
            return;
        }
        *heard.lock().expect("sound lock") = Some(caps);
        let taken = gst::ElementFactory::make("fakesink").property("async", false).property("sync", false);
        // Core elements come with GStreamer itself; if this one is missing, the demuxer reports
        // what is wrong.
        if let Ok(end) = taken.build()
            && pipeline.add(&end).is_ok()
            && end.sync_state_with_parent().is_ok()
            && let Some(into) = end.static_pad("sink")
        {
            let _ = pad.link(&into);
        }
    });
    let decoder = decoder.downgrade();
    demuxer.connect_no_more_pads(move |demuxer| {
        let video = decoder.upgrade().and_then(|d| d.static_pad("sink")).is_some_and(|pad| pad.is_linked());
        if let (false, Some(caps)) = (video, &*sound.lock().expect("sound lock")) {
            let name = caps.structure(0).map_or("sound", |s| s.name().as_str());
            gst::element_error!(
                demuxer,
                gst::CoreError::MissingPlugin,
                ("there are no pictures in it"),
                ["Missing decoder: {name} ({caps})"]
            );
        }
    });
}

/// Links the first video pad of `decoder` to `sink`, through whatever brings the pixels into main
/// memory. When a stream changes its programme, its pad is removed and another one appears, which
/// is then linked instead.
pub(super) fn link_first_video(
    pipeline: &gst::Pipeline,
    decoder: &gst::Element,
    sink: &AppSink,
    witness: &Witness,
) {
    let between: Arc<Mutex<Vec<gst::Element>>> = Arc::default();
    let (weak_pipeline, weak_sink, added) = (pipeline.downgrade(), sink.downgrade(), between.clone());
    let witness = witness.clone();
    decoder.connect_pad_added(move |_, pad| {
        let (Some(pipeline), Some(sink)) = (weak_pipeline.upgrade(), weak_sink.upgrade()) else { return };
        let into = sink.static_pad("sink").expect("an appsink has a sink pad");
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        if into.is_linked() || is_sound(&caps) {
            return;
        }
        witness.gather(&caps, &into);
        witness.forget_times(pad, &into);
        let mut chain = match adapters(&caps) {
            Ok(chain) => chain,
            Err(SourceError::Retry(why) | SourceError::Configuration(why)) => {
                gst::element_error!(sink, gst::CoreError::MissingPlugin, ("{why}"));
                return;
            }
        };
        if let Err(e) = link(&pipeline, pad, &chain, &sink) {
            gst::element_error!(sink, gst::StreamError::Format, ("video of {caps} cannot be used"), ["{e}"]);
        }
        added.lock().expect("chain lock").append(&mut chain);
    });
    let (weak_pipeline, weak_sink) = (pipeline.downgrade(), sink.downgrade());
    decoder.connect_pad_removed(move |_, _| {
        let (Some(pipeline), Some(sink)) = (weak_pipeline.upgrade(), weak_sink.upgrade()) else { return };
        // The pad is unlinked already; the elements behind it have lost their input.
        let mut between = between.lock().expect("chain lock");
        let orphaned = between.first().is_some_and(|e| e.static_pad("sink").is_some_and(|p| !p.is_linked()));
        if orphaned {
            if let Some(last) = between.last() {
                last.unlink(&sink);
            }
            for element in between.drain(..) {
                let _ = element.set_state(gst::State::Null);
                let _ = pipeline.remove(&element);
            }
        }
    });
}

fn link(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    chain: &[gst::Element],
    sink: &AppSink,
) -> Result<(), gst::glib::BoolError> {
    let mut next: gst::Element = sink.clone().upcast();
    for element in chain.iter().rev() {
        pipeline.add(element)?;
        element.link(&next)?;
        element.sync_state_with_parent()?;
        next = element.clone();
    }
    let into = next.static_pad("sink").ok_or_else(|| gst::glib::bool_error!("no sink pad"))?;
    pad.link(&into).map_err(|e| gst::glib::bool_error!("{e}"))?;
    Ok(())
}

/// Elements that copy pixels from a kind of device memory into main memory, in order of preference.
const DOWNLOADERS: [(&str, &[&str]); 6] = [
    ("memory:NVMM", &["nvvidconv", "nvvideoconvert"]),
    ("memory:VAMemory", &["vapostproc"]),
    ("memory:VASurface", &["vaapipostproc"]),
    ("memory:DMABuf", &["vapostproc", "v4l2convert"]),
    ("memory:GLMemory", &["gldownload"]),
    ("memory:CUDAMemory", &["cudadownload"]),
];

/// What is needed between a decoder with `caps` and our sink; mostly nothing.
pub(super) fn adapters(caps: &gst::CapsRef) -> Result<Vec<gst::Element>, SourceError> {
    let Some(first) = caps.structure(0) else { return Ok(Vec::new()) };
    if first.name() == "image/jpeg" {
        // It splits a byte stream into images. Where it is missing, most streams come split
        // already.
        return Ok(gst::ElementFactory::make("jpegparse").build().into_iter().collect());
    }
    if first.get::<bool>("codec-alpha").is_ok_and(|alpha| alpha) {
        // Their decoder is a bin that does not declare its output, so a decoder bin that exposes
        // only video does not choose it.
        const PACKAGES: &str = "the packages gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad";
        let names: &[&str] = if first.name() == "video/x-vp9" {
            &["vp9parse", "vp9alphadecodebin"]
        } else {
            &["vp8alphadecodebin"]
        };
        return names.iter().map(|name| make(name, PACKAGES)).collect();
    }
    let features = caps.features(0);
    let Some(&(memory, names)) =
        DOWNLOADERS.iter().find(|(memory, _)| features.is_some_and(|f| f.contains(*memory)))
    else {
        return Ok(Vec::new());
    };
    let found = names.iter().find_map(|name| gst::ElementFactory::make(name).build().ok());
    found.map(|e| vec![e]).ok_or_else(|| {
        let names = names.join(" or ");
        SourceError::Configuration(format!(
            "the decoder keeps its pictures in {memory}, and GStreamer has no element {names} to fetch them"
        ))
    })
}
