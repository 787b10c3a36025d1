//! A stand-in for `whepclientsrc` of gst-plugins-rs, which our test machines do not have: it has
//! the same parts and pads, and shows the colour bars whatever its endpoint is.

use std::sync::Mutex;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

/// The endpoint that was set last.
static ENDPOINT: Mutex<Option<String>> = Mutex::new(None);

pub fn endpoint() -> Option<String> {
    ENDPOINT.lock().expect("lock").clone()
}

/// Registers the element in this process.
pub fn register() {
    gst::Element::register(None, "whepclientsrc", gst::Rank::NONE, Source::static_type())
        .expect("registered");
}

glib::wrapper! {
    pub struct Signaller(ObjectSubclass<imp::Signaller>);
}

glib::wrapper! {
    pub struct Source(ObjectSubclass<imp::Source>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

mod imp {
    use std::sync::LazyLock;

    use gstreamer::subclass::prelude::*;

    use super::*;

    #[derive(Default)]
    pub struct Signaller;

    #[glib::object_subclass]
    impl ObjectSubclass for Signaller {
        const NAME: &'static str = "SpotdTestSignaller";
        type Type = super::Signaller;
    }

    impl ObjectImpl for Signaller {
        fn properties() -> &'static [glib::ParamSpec] {
            static ALL: LazyLock<Vec<glib::ParamSpec>> =
                LazyLock::new(|| vec![glib::ParamSpecString::builder("whep-endpoint").build()]);
            &ALL
        }

        fn set_property(&self, _: usize, value: &glib::Value, _: &glib::ParamSpec) {
            *ENDPOINT.lock().expect("lock") = value.get().expect("a text");
        }

        fn property(&self, _: usize, _: &glib::ParamSpec) -> glib::Value {
            endpoint().to_value()
        }
    }

    pub struct Source {
        signaller: super::Signaller,
    }

    impl Default for Source {
        fn default() -> Self {
            Self { signaller: glib::Object::new() }
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Source {
        const NAME: &'static str = "SpotdTestWhep";
        type Type = super::Source;
        type ParentType = gst::Bin;
    }

    impl ObjectImpl for Source {
        fn properties() -> &'static [glib::ParamSpec] {
            static ALL: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                vec![glib::ParamSpecObject::builder::<super::Signaller>("signaller").read_only().build()]
            });
            &ALL
        }

        fn property(&self, _: usize, _: &glib::ParamSpec) -> glib::Value {
            self.signaller.to_value()
        }
    }

    impl GstObjectImpl for Source {}

    impl ElementImpl for Source {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static IT: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new("WHEP", "Source/Network/WebRTC", "A double", "spotd")
            });
            Some(&IT)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static ALL: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let any = gst::Caps::new_any();
                let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Sometimes);
                vec![gst::PadTemplate::new("video_%u", direction, presence, &any).expect("a template")]
            });
            &ALL
        }

        fn change_state(
            &self,
            transition: gst::StateChange,
        ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            // Its pads appear when the server has answered.
            if transition == gst::StateChange::ReadyToPaused {
                let text = crate::support::h264(322, 242, 15);
                let inner = gst::parse::bin_from_description(&format!("{text} ! h264parse"), true);
                let inner = inner.expect("a bin");
                let obj = self.obj();
                obj.add(&inner).expect("added");
                let pad = inner.static_pad("src").expect("its pad");
                let ghost =
                    gst::GhostPad::builder_with_target(&pad).expect("a ghost").name("video_0").build();
                ghost.set_active(true).expect("active");
                obj.add_pad(&ghost).expect("added");
            }
            self.parent_change_state(transition)
        }
    }

    impl BinImpl for Source {}
}
