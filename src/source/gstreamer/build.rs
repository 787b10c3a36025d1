//! Builds the pipeline of an address or of a user's text, ending in one `appsink`.

use std::path::Path;
use std::str::FromStr;

use ::gstreamer as gst;
use gst::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_video as gst_video;

use super::super::SourceError;
use super::contribution::{Feed, open};
use super::element::make;
use super::fault;
use super::hardware::Hardware;
use super::http::{ContentType, watch};
use super::keyframes::Thinning;
use super::link::{link_first_video, link_when_it_appears, swallow_sound};
use super::witness::Witness;
use crate::source::{Contribution, SourceUri};

/// Milliseconds that an RTSP jitter buffer holds packets back: enough for a local network, a tenth
/// of GStreamer's default.
const RTSP_LATENCY_MS: u32 = 200;
/// Microseconds after which a silent RTSP connection over TCP counts as broken.
const RTSP_TIMEOUT_US: u64 = 10_000_000;
/// Bytes asked of the kernel for a UDP socket, so that a burst of a key frame fits.
const UDP_BUFFER_BYTES: i32 = 2 << 20;

/// How the pipeline is to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Only the newest frame matters; files play in real time.
    Latest,
    /// Every frame in order, as fast as frames are taken.
    Everything,
}

/// A pipeline that has not been started yet.
pub(super) struct Built {
    pub pipeline: gst::Pipeline,
    pub sink: AppSink,
    /// The sink came with the user's text, so its `sync` is the user's.
    pub own_sink: bool,
    /// What it reports besides its frames.
    pub witness: Witness,
    /// It sets the pace itself, whatever the pipeline reports.
    pub live: bool,
    /// Its frames come from a network.
    pub network: bool,
    /// What a web server calls the content.
    pub content: ContentType,
}

/// What our appsink accepts: first the formats that a frame can hold as they are, so that decoders
/// choose these, then any other raw video in main memory (of which only wanted frames are
/// converted), JPEG, and pictures that [`Witness`] gathers.
pub(super) fn sink_caps() -> gst::Caps {
    gst::Caps::from_str(
        "video/x-raw, format=(string){ I420, NV12, YUY2, UYVY, GRAY8, RGB, BGR }; video/x-raw; image/jpeg; \
         image/png; image/webp; image/gif; image/bmp; image/tiff",
    )
    .expect("caps are well-formed")
}

/// What a decoder bin should expose: raw video in any kind of memory, JPEG undecoded, and what
/// [`super::link::adapters`] decodes.
fn exposed_caps() -> gst::Caps {
    let text = "video/x-raw(ANY); image/jpeg; video/x-vp8, codec-alpha=(boolean)true; \
                video/x-vp9, codec-alpha=(boolean)true";
    gst::Caps::from_str(text).expect("caps are well-formed")
}

/// Builds the pipeline for `uri`; its decoders get only key frames where `thinning` allows it, and are in `hardware` where
/// there is some that is not barred. A user's text names its decoders itself.
pub(super) fn build(
    uri: &SourceUri,
    delivery: Delivery,
    thinning: Option<&Thinning>,
    hardware: &Hardware,
) -> Result<Built, SourceError> {
    match uri {
        SourceUri::Pipeline(text) => from_text(&text.expose_text(), delivery, thinning),
        SourceUri::Stream(url) => from_address(&url.expose_for_gstreamer(), delivery, thinning, hardware),
        SourceUri::Contribution(feed) => from_feed(feed, delivery, thinning, hardware),
        SourceUri::File(path) => {
            let absolute = std::path::absolute(path).map_err(|e| {
                SourceError::Configuration(format!("{uri} is not a path that can be opened: {e}"))
            })?;
            let unopened = |e: std::io::Error| {
                SourceError::Configuration(format!("cannot open {uri}: {e}; check path and permissions"))
            };
            // Opening a pipe just to try it would look to its writer like a reader that leaves at
            // once.
            let regular = absolute.metadata().map_err(unopened)?.is_file();
            if regular {
                std::fs::File::open(&absolute).map_err(unopened)?;
            } else if path == Path::new(SourceUri::STDIN) {
                // What is not a regular file may be a socket, which has no name to open it by.
                return from_address("fd://0", delivery, thinning, hardware);
            }
            let address = gst::glib::filename_to_uri(&absolute, None).map_err(|e| {
                SourceError::Configuration(format!("{uri} is not a path that can be opened: {e}"))
            })?;
            let built = from_address(&address, delivery, thinning, hardware)?;
            Ok(Built { network: false, ..built })
        }
        SourceUri::V4l(_) | SourceUri::Demo { .. } => {
            Err(SourceError::Configuration(format!("{uri} is not opened through GStreamer")))
        }
    }
}

fn from_text(text: &str, delivery: Delivery, thinning: Option<&Thinning>) -> Result<Built, SourceError> {
    let named = text.split_whitespace().any(|word| word == "appsink");
    let whole = if named { text.to_owned() } else { format!("{text} ! appsink") };
    let element = gst::parse::launch(&whole).map_err(|e| fault::text_error(text, &e))?;
    let pipeline = match element.downcast::<gst::Pipeline>() {
        Ok(pipeline) => pipeline,
        Err(element) => {
            let pipeline = gst::Pipeline::new();
            pipeline
                .add(&element)
                .map_err(|e| SourceError::Configuration(format!("the pipeline cannot be built: {e}")))?;
            pipeline
        }
    };
    let mut sinks: Vec<AppSink> =
        pipeline.iterate_recurse().into_iter().filter_map(|e| e.ok()?.downcast::<AppSink>().ok()).collect();
    let (Some(sink), true) = (sinks.pop(), sinks.is_empty()) else {
        return Err(SourceError::Configuration(format!(
            "the pipeline `{}` must end in one appsink, and has {}",
            crate::shown::redact(text),
            sinks.len() + 1
        )));
    };
    if sink.caps().is_none_or(|caps| caps.is_any()) {
        sink.set_caps(Some(&sink_caps()));
    }
    set_up_sink(&sink, delivery);
    watch_elements(&pipeline, thinning, &ContentType::default(), None);
    let witness = Witness::default();
    witness.watch(&pipeline);
    let network = pipeline
        .iterate_recurse()
        .into_iter()
        .filter_map(|e| e.ok()?.factory()?.metadata("klass").map(str::to_owned))
        .any(|klass| klass.contains("Network"));
    Ok(Built {
        pipeline,
        sink,
        own_sink: named,
        witness,
        live: false,
        network,
        content: ContentType::default(),
    })
}

fn from_address(
    address: &str,
    delivery: Delivery,
    thinning: Option<&Thinning>,
    hardware: &Hardware,
) -> Result<Built, SourceError> {
    let pipeline = gst::Pipeline::new();
    let decoder = make_decoder("uridecodebin")?;
    decoder.set_property("uri", address);
    let sink = AppSink::builder().caps(&sink_caps()).build();
    set_up_sink(&sink, delivery);
    pipeline
        .add_many([&decoder, sink.upcast_ref()])
        .map_err(|e| SourceError::Configuration(format!("the pipeline cannot be built: {e}")))?;
    let content = ContentType::default();
    watch_elements(&pipeline, thinning, &content, Some(hardware));
    hardware.guide(&decoder);
    let witness = Witness::default();
    witness.watch(&pipeline);
    let is_local = ["file:", "fd:"].iter().any(|scheme| address.starts_with(scheme));
    witness.guide(&decoder, !is_local);
    link_first_video(&pipeline, &decoder, &sink, &witness);
    Ok(Built { pipeline, sink, own_sink: false, witness, live: false, network: true, content })
}

fn from_feed(
    feed: &Contribution,
    delivery: Delivery,
    thinning: Option<&Thinning>,
    hardware: &Hardware,
) -> Result<Built, SourceError> {
    let pipeline = gst::Pipeline::new();
    let sink = AppSink::builder().caps(&sink_caps()).build();
    set_up_sink(&sink, delivery);
    let failed = |e: gst::glib::BoolError| {
        SourceError::Configuration(crate::shown::redact(&format!(
            "the pipeline of {feed} cannot be built: {e}"
        )))
    };
    pipeline.add(&sink).map_err(failed)?;
    let opened = open(feed)?;
    watch_elements(&pipeline, thinning, &ContentType::default(), Some(hardware));
    let witness = Witness::default();
    witness.watch(&pipeline);
    match opened {
        Feed::Encoded(source) => {
            let decoder = make_decoder("decodebin")?;
            hardware.guide(&decoder);
            pipeline.add_many([&source, &decoder]).map_err(failed)?;
            if source.static_pad("src").is_some() {
                source.link(&decoder).map_err(failed)?;
            } else {
                link_when_it_appears(&source, &decoder);
            }
            link_first_video(&pipeline, &decoder, &sink, &witness);
        }
        Feed::Demuxed(source, demuxer) => {
            let decoder = make_decoder("decodebin")?;
            hardware.guide(&decoder);
            pipeline.add_many([&source, &demuxer, &decoder]).map_err(failed)?;
            source.link(&demuxer).map_err(failed)?;
            link_when_it_appears(&demuxer, &decoder);
            swallow_sound(&pipeline, &demuxer, &decoder);
            link_first_video(&pipeline, &decoder, &sink, &witness);
        }
        Feed::Raw(source) => {
            pipeline.add(&source).map_err(failed)?;
            source.link(&sink).map_err(failed)?;
        }
        Feed::Split(source, split) => {
            pipeline.add_many([&source, &split]).map_err(failed)?;
            source.link(&split).map_err(failed)?;
            link_first_video(&pipeline, &split, &sink, &witness);
        }
    }
    let content = ContentType::default();
    Ok(Built { pipeline, sink, own_sink: false, witness, live: true, network: true, content })
}

/// A bin that decodes and exposes video only.
fn make_decoder(name: &str) -> Result<gst::Element, SourceError> {
    let decoder = make(name, "the package gstreamer1.0-plugins-base")?;
    decoder.set_property("caps", exposed_caps());
    // Sound is neither decoded nor waited for.
    decoder.set_property("expose-all-streams", false);
    Ok(decoder)
}

pub(super) fn set_up_sink(sink: &AppSink, delivery: Delivery) {
    sink.set_property("enable-last-sample", false);
    take_planes_where_they_lie(sink);
    match delivery {
        Delivery::Latest => {
            sink.set_max_buffers(1);
            sink.set_drop(true);
        }
        Delivery::Everything => {
            sink.set_max_buffers(2);
            sink.set_drop(false);
            sink.set_sync(false);
        }
    }
}

/// Tells decoders that planes may lie anywhere in a buffer, with any stride. One that is not told copies each frame out of
/// its own padded buffers, and holds both. An appsink itself answers no such question before GStreamer 1.24.
fn take_planes_where_they_lie(sink: &AppSink) {
    let pad = sink.static_pad("sink").expect("a sink has one");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let Some(gst::QueryViewMut::Allocation(asked)) = info.query_mut().map(|query| query.view_mut())
        else {
            return gst::PadProbeReturn::Ok;
        };
        asked.add_allocation_meta::<gst_video::VideoMeta>(None);
        gst::PadProbeReturn::Handled
    });
}

/// Sets the properties of sources and decoders as they appear, wherever in the pipeline.
fn watch_elements(
    pipeline: &gst::Pipeline,
    thinning: Option<&Thinning>,
    content: &ContentType,
    hardware: Option<&Hardware>,
) {
    let (thinning, content, hardware) = (thinning.cloned(), content.clone(), hardware.cloned());
    pipeline.connect_deep_element_added(move |_, bin, element| {
        if let Some(hardware) = &hardware {
            hardware.note(element);
        }
        // A picture with alpha needs both of its streams.
        let halves = bin.factory().is_some_and(|factory| factory.name().contains("alphadecodebin"));
        set_up(element, thinning.as_ref().filter(|_| !halves), &content);
    });
}

/// Sets what differs from GStreamer's defaults. Elements of a user's text are not touched: they
/// exist before this is called.
fn set_up(element: &gst::Element, thinning: Option<&Thinning>, content: &ContentType) {
    let Some(factory) = element.factory() else { return };
    match factory.name().as_str() {
        "rtspsrc" => {
            set(element, "latency", RTSP_LATENCY_MS);
            set(element, "tcp-timeout", RTSP_TIMEOUT_US);
            // Over TCP no packet is lost; a smeared picture must not be judged.
            let address: Option<String> = element.property("location");
            if !address.is_some_and(|a| a.starts_with("rtspu:")) {
                element.set_property_from_str("protocols", "tcp");
            }
            element.connect("select-stream", false, |args| {
                let video = args[2].get::<gst::Caps>().ok().and_then(|caps| {
                    caps.structure(0)
                        .and_then(|s| s.get::<String>("media").ok())
                        .map(|media| media == "video")
                });
                Some(video.unwrap_or(true).to_value())
            });
        }
        // Reconnecting is left to the supervisor.
        "srtsrc" => set(element, "auto-reconnect", false),
        "souphttpsrc" => watch(element, content),
        // Otherwise the decoder bin waits for further streams until megabytes have arrived, which
        // takes a small camera minutes.
        "multipartdemux" => set(element, "single-stream", true),
        "udpsrc" => set(element, "buffer-size", UDP_BUFFER_BYTES),
        _ if factory.has_type(gst::ElementFactoryType::DECODER) => {
            set(element, "output-corrupt", false);
            set(element, "discard-corrupted-frames", true);
            // Each thread of a software decoder holds a frame, and one thread keeps up with
            // 1080p30.
            set(element, "max-threads", 1i32);
            if let Some(thinning) = thinning.filter(|_| is_for_video(&factory)) {
                thinning.guard(element);
            }
        }
        _ => {}
    }
}

fn is_for_video(factory: &gst::ElementFactory) -> bool {
    factory.metadata("klass").is_some_and(|klass| klass.split('/').any(|word| word == "Video"))
}

/// Sets a property if the element has it: names differ between versions.
fn set(element: &gst::Element, name: &str, value: impl Into<gst::glib::Value>) {
    let value: gst::glib::Value = value.into();
    if element.find_property(name).is_some_and(|p| p.value_type() == value.type_()) {
        element.set_property(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        gst::init().expect("GStreamer");
        match build(&SourceUri::Pipeline(text.into()), Delivery::Latest, None, &Hardware::default()) {
            Err(SourceError::Configuration(why)) => why,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{text} was accepted"),
        }
    }

    #[test]
    fn a_sink_is_added_where_it_is_missing_and_kept_where_it_is_there() {
        gst::init().expect("GStreamer");
        for (text, own) in
            [("videotestsrc ! identity", false), ("videotestsrc ! appsink name=mine sync=false", true)]
        {
            let built =
                build(&SourceUri::Pipeline(text.into()), Delivery::Latest, None, &Hardware::default())
                    .expect("builds");
            assert_eq!(built.own_sink, own);
            assert_eq!((built.sink.max_buffers(), built.sink.is_drop()), (1, true));
            assert_eq!(built.sink.name() == "mine", own);
            assert!(built.sink.caps().is_some_and(|c| !c.is_any()));
        }
        let text = "videotestsrc ! appsink caps=video/x-raw,format=RGB";
        let built = build(&SourceUri::Pipeline(text.into()), Delivery::Latest, None, &Hardware::default())
            .expect("builds");
        assert!(
            built
                .sink
                .caps()
                .is_some_and(|c| c.to_string().contains("RGB") && !c.to_string().contains("I420"))
        );
    }

    #[test]
    fn mistakes_in_a_text_are_named() {
        assert!(error("videotestsrc ! nosuchelement ! appsink").contains("nosuchelement"));
        assert!(error("videotestsrc nosuchproperty=1 ! appsink").contains("nosuchproperty"));
        assert!(error("videotestsrc ! ! appsink").contains("pipeline"));
        assert!(
            error("videotestsrc ! tee name=t t. ! appsink t. ! appsink").contains("one appsink, and has 2")
        );
        let hidden = error("rtspsrc location=rtsp://u:secret@cam/1 ! nosuchelement ! appsink");
        assert!(!hidden.contains("secret"), "{hidden}");
    }

    #[test]
    fn nothing_is_converted_on_the_way_to_the_sink() {
        gst::init().expect("GStreamer");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("clip.mkv");
        let text = format!(
            "videotestsrc num-buffers=9 ! video/x-raw,format=I420,width=320,height=240 ! x264enc ! matroskamux \
             ! filesink location=\"{}\"",
            path.display()
        );
        let writer = gst::parse::launch(&text).expect("builds");
        writer.set_state(gst::State::Playing).expect("plays");
        let bus = writer.bus().expect("a bus");
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &end).expect("an end");
        assert_eq!(end.type_(), gst::MessageType::Eos);
        writer.set_state(gst::State::Null).expect("stops");

        let built =
            build(&SourceUri::File(path), Delivery::Everything, None, &Hardware::default()).expect("builds");
        built.pipeline.set_state(gst::State::Playing).expect("plays");
        let sample =
            built.sink.try_pull_sample(gst::ClockTime::from_seconds(60)).expect("a sample of the file");
        assert!(sample.caps().is_some_and(|caps| caps.to_string().contains("I420")), "{:?}", sample.caps());
        let klasses: Vec<String> = built
            .pipeline
            .iterate_recurse()
            .into_iter()
            .filter_map(|e| Some(e.ok()?.factory()?.metadata("klass")?.to_owned()))
            .collect();
        built.pipeline.set_state(gst::State::Null).expect("stops");
        assert!(klasses.iter().any(|k| k.contains("Decoder/Video")), "{klasses:?}");
        // Parsers convert the encoded stream's framing, not pictures.
        let converts = |k: &String| {
            !k.contains("Parser") && ["Converter", "Scaler", "Filter"].iter().any(|word| k.contains(word))
        };
        assert!(!klasses.iter().any(converts), "{klasses:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        gst::init().expect("GStreamer");
        match build(
            &SourceUri::File("/nowhere/clip.mp4".into()),
            Delivery::Latest,
            None,
            &Hardware::default(),
        ) {
            Err(SourceError::Configuration(why)) => assert!(why.contains("/nowhere/clip.mp4"), "{why}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("opened"),
        }
    }
}
