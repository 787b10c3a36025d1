//! Decoders in hardware. GStreamer chooses them by their rank, before those in software; one that does not start, does not
//! agree on a format or gives no pictures is told of once, and its source is decoded in software from then on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use ::gstreamer as gst;
use gst::prelude::*;

use super::fault::Report;

/// Elements that decode in hardware and do not say so in their metadata: NVIDIA's, on a Jetson.
const UNSAID: [&str; 1] = ["nvv4l2decoder"];
/// `GstAutoplugSelectResult`: try this element, or pass over it.
const TRY: i32 = 0;
const SKIP: i32 = 2;

/// Whether this element decodes in hardware.
pub(super) fn is_hardware(factory: &gst::ElementFactory) -> bool {
    factory.has_type(gst::ElementFactoryType::DECODER)
        && (factory.has_type(gst::ElementFactoryType::HARDWARE) || UNSAID.contains(&factory.name().as_str()))
}

/// Lets VA-API decoders be chosen: older releases give them no rank at all. They exist only where there is a device for
/// them. A rank that the user has set stays as it is.
pub(super) fn prefer() {
    let set = std::env::var("GST_PLUGIN_FEATURE_RANK").unwrap_or_default();
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    for factory in gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE) {
        let name = factory.name();
        let ours = name.starts_with("va") && factory.rank() == gst::Rank::NONE && is_hardware(&factory);
        let named = set.split(',').any(|entry| entry.split(':').next().is_some_and(|n| n.trim() == name));
        if ours && !named {
            factory.set_rank(gst::Rank::PRIMARY + 1);
        }
    }
}

/// What is known of the hardware that decodes one source, across its runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Hardware(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Only software is to be used.
    barred: AtomicBool,
    /// It has been said which hardware decodes.
    told: AtomicBool,
    used: Mutex<Option<Used>>,
}

/// A decoder in a pipeline.
#[derive(Debug, Clone)]
struct Used {
    name: String,
    /// Buffers that it was given, and pictures that it gave.
    fed: Arc<AtomicU32>,
    pictures: Arc<AtomicU32>,
}

impl Hardware {
    /// None is to be used.
    pub fn barred() -> Self {
        let hardware = Self::default();
        hardware.0.barred.store(true, Ordering::Relaxed);
        hardware
    }

    /// Makes `decoder`, a `uridecodebin` or `decodebin`, pass over hardware that is barred.
    pub fn guide(&self, decoder: &gst::Element) {
        *self.0.used.lock().expect("decoder lock") = None;
        let state = self.0.clone();
        decoder.connect("autoplug-select", false, move |args| {
            let factory = args[3].get::<gst::ElementFactory>().ok();
            let skip = state.barred.load(Ordering::Relaxed) && factory.is_some_and(|f| is_hardware(&f));
            let kind = gst::glib::Type::from_name("GstAutoplugSelectResult")?;
            gst::glib::EnumClass::with_type(kind)?.to_value(if skip { SKIP } else { TRY })
        });
    }

    /// Watches an element that was added to the pipeline, if it decodes in hardware.
    pub fn note(&self, element: &gst::Element) {
        let Some(factory) = element.factory().filter(is_hardware) else { return };
        let count = |pad: &str| {
            let count = Arc::new(AtomicU32::new(0));
            let into = count.clone();
            if let Some(pad) = element.static_pad(pad) {
                pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                    into.fetch_add(1, Ordering::Relaxed);
                    gst::PadProbeReturn::Ok
                });
            }
            count
        };
        let used = Used { name: factory.name().to_string(), fed: count("sink"), pictures: count("src") };
        *self.0.used.lock().expect("decoder lock") = Some(used);
    }

    /// A run's first frame has come: says which hardware it came from, or that it came from none although there is some.
    pub fn first_frame(&self, what: &dyn std::fmt::Display) {
        let Some(used) = self.used() else { return };
        if used.pictures.load(Ordering::Relaxed) == 0 {
            self.give_up(what, &used, "it does not start");
        } else if !self.0.told.swap(true, Ordering::Relaxed) {
            log::info!("{what}: decoded in hardware, by {}", used.name);
        }
    }

    /// Whether a failure after so many frames is one of the hardware, so that software should be tried: then it is barred.
    pub fn is_to_blame(&self, what: &dyn std::fmt::Display, report: &Report, frames: u64) -> bool {
        let Some(used) = self.used() else { return false };
        let own = report.from.as_deref() == Some(used.name.as_str());
        let blamed = own || frames == 0 && report.disagrees();
        blamed && self.give_up(what, &used, report.error.message())
    }

    /// Whether the hardware is why a source that was never heard of is silent: then it is barred.
    pub fn is_silent(&self, what: &dyn std::fmt::Display, frames: u64) -> bool {
        let used = self.used().filter(|u| frames == 0 && u.fed.load(Ordering::Relaxed) > 0);
        used.is_some_and(|used| self.give_up(what, &used, "it gives no pictures"))
    }

    fn used(&self) -> Option<Used> {
        self.0.used.lock().expect("decoder lock").clone()
    }

    /// Bars it, and says so; false if that has happened before.
    fn give_up(&self, what: &dyn std::fmt::Display, used: &Used, why: &str) -> bool {
        let first = !self.0.barred.swap(true, Ordering::Relaxed);
        if first {
            let why = crate::shown::redact(why);
            log::warn!(
                "{what}: the hardware decoder {} fails ({why}); decoded in software from now on",
                used.name
            );
        }
        first
    }
}
