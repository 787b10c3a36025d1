//! Hardware decoders that fail. No machine of ours has one, and a real one cannot be made to fail on demand, so the test
//! registers decoders of its own that call themselves hardware, above those in software.
#![cfg(feature = "gstreamer")]

mod support;

use std::sync::Mutex;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use spotd::frame::PixelFormat;
use spotd::health::SourceState;
use support::rtsp::RtspServer;
use support::{Rig, assert_bars, config, h264};

mod decoder {
    use std::sync::LazyLock;

    use gstreamer as gst;
    use gstreamer::glib;
    use gstreamer::prelude::*;
    use gstreamer::subclass::prelude::*;

    /// What is wrong with them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// Its device cannot be opened.
        Start,
        /// It refuses every format.
        Format,
        /// It takes everything and gives nothing.
        Silence,
        /// It reports an error when it gets its first buffer.
        Decoding,
    }

    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        let template = |name: &str, direction, caps: &str| {
            let caps = caps.parse::<gst::Caps>().expect("caps");
            gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).expect("a template")
        };
        vec![
            template("sink", gst::PadDirection::Sink, "video/x-h264"),
            template("src", gst::PadDirection::Src, "video/x-raw, format=NV12"),
        ]
    });

    static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
        gst::subclass::ElementMetadata::new("Test", "Codec/Decoder/Video/Hardware", "For a test", "spotd")
    });

    macro_rules! failing {
        ($module:ident, $name:literal, $fault:expr) => {
            pub mod $module {
                use super::*;

                #[derive(Default)]
                pub struct Imp;

                #[glib::object_subclass]
                impl ObjectSubclass for Imp {
                    const NAME: &'static str = $name;
                    type Type = Decoder;
                    type ParentType = gst::Element;
                }

                impl ObjectImpl for Imp {
                    fn constructed(&self) {
                        self.parent_constructed();
                        let sink = gst::Pad::builder_from_template(&TEMPLATES[0])
                            .chain_function(|_, parent, _| super::chain(parent, $fault))
                            .event_function(|pad, parent, event| super::event(pad, parent, event, $fault))
                            .build();
                        self.obj().add_pad(&sink).expect("added");
                        self.obj().add_pad(&gst::Pad::from_template(&TEMPLATES[1])).expect("added");
                    }
                }

                impl GstObjectImpl for Imp {}

                impl ElementImpl for Imp {
                    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                        Some(&METADATA)
                    }

                    fn pad_templates() -> &'static [gst::PadTemplate] {
                        TEMPLATES.as_ref()
                    }

                    fn change_state(
                        &self,
                        change: gst::StateChange,
                    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
                        if $fault == Fault::Start && change == gst::StateChange::NullToReady {
                            gst::element_error!(self.obj(), gst::ResourceError::Busy, ("the device is busy"));
                            return Err(gst::StateChangeError);
                        }
                        self.parent_change_state(change)
                    }
                }

                glib::wrapper! {
                    pub struct Decoder(ObjectSubclass<Imp>) @extends gst::Element, gst::Object;
                }
            }
        };
    }

    fn chain(parent: Option<&gst::Object>, fault: Fault) -> Result<gst::FlowSuccess, gst::FlowError> {
        match fault {
            Fault::Decoding => {
                let element = parent.and_then(|p| p.downcast_ref::<gst::Element>()).expect("an element");
                gst::element_error!(element, gst::StreamError::Decode, ("the firmware says no"));
                Err(gst::FlowError::Error)
            }
            _ => Ok(gst::FlowSuccess::Ok),
        }
    }

    fn event(pad: &gst::Pad, parent: Option<&gst::Object>, event: gst::Event, fault: Fault) -> bool {
        match event.type_() {
            gst::EventType::Caps if fault == Fault::Format => false,
            gst::EventType::Caps => {
                let element = parent.and_then(|p| p.downcast_ref::<gst::Element>()).expect("an element");
                let caps = "video/x-raw, format=NV12, width=320, height=240, framerate=15/1";
                let caps = caps.parse::<gst::Caps>().expect("caps");
                let src = element.static_pad("src").expect("a pad");
                src.push_event(gst::event::Caps::new(&caps))
            }
            _ => gst::Pad::event_default(pad, parent, event),
        }
    }

    failing!(start, "SpotdTestStart", Fault::Start);
    failing!(format, "SpotdTestFormat", Fault::Format);
    failing!(silence, "SpotdTestSilence", Fault::Silence);
    failing!(decoding, "SpotdTestDecoding", Fault::Decoding);

    /// One that works: software in a bin that calls itself hardware.
    pub mod working {
        use super::*;

        #[derive(Default)]
        pub struct Imp;

        #[glib::object_subclass]
        impl ObjectSubclass for Imp {
            const NAME: &'static str = "SpotdTestWorking";
            type Type = Decoder;
            type ParentType = gst::Bin;
        }

        impl ObjectImpl for Imp {
            fn constructed(&self) {
                self.parent_constructed();
                let elements: Vec<_> = ["avdec_h264", "videoconvert", "capsfilter"]
                    .map(|name| gst::ElementFactory::make(name).build().expect("an element"))
                    .into();
                let caps = "video/x-raw, format=NV12".parse::<gst::Caps>().expect("caps");
                elements[2].set_property("caps", caps);
                self.obj().add_many(&elements).expect("added");
                gst::Element::link_many(&elements).expect("linked");
                let ends = [("sink", &elements[0]), ("src", &elements[2])];
                for ((name, element), template) in ends.into_iter().zip(TEMPLATES.iter()) {
                    let target = element.static_pad(name).expect("a pad");
                    let pad = gst::GhostPad::builder_from_template_with_target(template, &target);
                    let pad = pad.expect("a pad").name(name).build();
                    self.obj().add_pad(&pad).expect("added");
                }
            }
        }

        impl GstObjectImpl for Imp {}

        impl ElementImpl for Imp {
            fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                Some(&METADATA)
            }

            fn pad_templates() -> &'static [gst::PadTemplate] {
                TEMPLATES.as_ref()
            }
        }

        impl BinImpl for Imp {}

        glib::wrapper! {
            pub struct Decoder(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object,
                @implements gst::ChildProxy;
        }
    }
}

/// Above every other decoder.
const FIRST: i32 = 1000;

/// What is logged of hardware; one test at a time, since decoders and log are the process's.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
static TURN: Mutex<()> = Mutex::new(());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if text.contains("hardware") {
            SAID.lock().expect("lock").push(format!("{} {text}", record.level()));
        }
    }

    fn flush(&self) {}
}

/// Watches a stream while `kind` is the decoder of highest rank; returns what was logged.
fn watched_with(name: &str, kind: glib::Type, is: PixelFormat) -> Vec<String> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    gst::init().expect("GStreamer");
    let _ = log::set_logger(&Collector);
    log::set_max_level(log::LevelFilter::Info);
    SAID.lock().expect("lock").clear();
    gst::Element::register(None, name, gst::Rank::PRIMARY + FIRST, kind).expect("registered");
    let server = RtspServer::new(&h264(320, 240, 15), "rtph264pay");
    let rig = Rig::new(&config(&server.url("/live"), 5.0));
    // Were it tried again by the supervisor, that would be a failure for all to see.
    let frame = rig.frame();
    assert_eq!((frame.width, frame.height, frame.format), (320, 240, is));
    assert_bars(&frame.to_rgb().expect("pixels"));
    let status = rig.status();
    assert_eq!((status.state, status.reconnects), (SourceState::Live, 0));
    // Another run of the same source does not try it again.
    drop(server);
    rig.failure();
    rig.end();
    let factory = gst::ElementFactory::find(name).expect("registered");
    factory.set_rank(gst::Rank::NONE);
    SAID.lock().expect("lock").clone()
}

fn falls_back(name: &str, kind: glib::Type, why: &str) {
    let said = watched_with(name, kind, PixelFormat::I420);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("WARN rtsp://") && said[0].contains(name) && said[0].contains(why),
        "{said:?}"
    );
    assert!(said[0].contains("in software from now on"), "{said:?}");
}

#[test]
fn one_that_works_is_used_and_its_nv12_is_taken_as_it_is() {
    let said = watched_with("spotdtestworking", decoder::working::Decoder::static_type(), PixelFormat::Nv12);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("INFO") && said[0].ends_with("in hardware, by spotdtestworking"), "{said:?}");
}

#[test]
fn one_that_does_not_start_gives_way_to_software() {
    falls_back("spotdteststart", decoder::start::Decoder::static_type(), "does not start");
}

#[test]
fn one_that_takes_no_format_gives_way_to_software() {
    falls_back("spotdtestformat", decoder::format::Decoder::static_type(), "");
}

#[test]
fn one_that_fails_at_the_first_picture_gives_way_to_software() {
    falls_back("spotdtestdecoding", decoder::decoding::Decoder::static_type(), "firmware");
}

#[test]
fn one_that_gives_nothing_gives_way_to_software() {
    falls_back("spotdtestsilence", decoder::silence::Decoder::static_type(), "no pictures");
}
