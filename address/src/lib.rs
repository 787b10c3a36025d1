//! The forms that a source's `uri` can take.
//!
//! Who types an address makes mistakes, and who reads a log should not learn a password: what is wrong is said in a
//! sentence that names the way out, and formatting an address leaves its login out.
//!
//! ```
//! use spotd_address::SourceUri;
//!
//! let camera = SourceUri::parse("rtsp://editor:secret@cam.lan/1")?;
//! assert_eq!(camera.to_string(), "rtsp://***@cam.lan/1");
//! assert!(camera.is_live());
//! # Ok::<(), String>(())
//! ```

mod contribution;
mod stream;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use url::Url;

pub use self::contribution::Contribution;
pub use self::stream::StreamUrl;
use spotd_core::shown::{Sensitive, Shown as _, redact};

/// A parsed source address.
///
/// Formatting it leaves out user names and passwords.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceUri {
    /// The embedded demonstration: rendered scenes, alternating with the same scenes resynthesised.
    Demo {
        /// Seed of the scenes.
        seed: u64,
    },
    /// A camera: `/dev/video0` or `v4l2:///dev/video0?format=YUYV&size=1280x720&fps=30`.
    V4l(V4lUri),
    /// `rtsp://` (over TCP), `rtspu://` (over UDP), `rtsps://`, `srt://`, `http://`, `https://`,
    /// `udp://`, `rtp://`, passed to GStreamer unchanged.
    Stream(StreamUrl),
    /// `rtmp://`, `rtmps://`, `rist://`, `whep://`, `wheps://`, `ndi://`, `decklink://`.
    Contribution(Contribution),
    /// A video, an image or a folder of images: `file:///...` or a path.
    File(PathBuf),
    /// A GStreamer pipeline text, written `pipeline:TEXT` or `gst:TEXT`, that ends in an `appsink`,
    /// which is added where it is missing.
    Pipeline(Sensitive),
}

/// A camera and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V4lUri {
    /// The device node.
    pub device: PathBuf,
    /// Four characters, as V4L2 names pixel formats.
    pub format: Option<[u8; 4]>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// Frames per second requested from the camera.
    pub fps: Option<u32>,
}

impl SourceUri {
    /// The path of standard input.
    pub const STDIN: &str = "/dev/stdin";

    /// What a command-line argument names: an existing file is that file, whatever its name looks
    /// like, `-` is standard input, and everything else is an address as for [`SourceUri::parse`].
    /// A pipeline needs its `pipeline:` here: file names come from strangers, and a pipeline can
    /// write files.
    ///
    /// # Errors
    /// As for [`SourceUri::parse`]; also for a pipeline text without `pipeline:`.
    pub fn of_argument(argument: &OsStr) -> Result<Self, String> {
        if argument == "-" {
            return Ok(Self::File(Self::STDIN.into()));
        }
        if let Some(found) = Self::existing(Path::new(argument)) {
            return Ok(found);
        }
        let Some(text) = argument.to_str() else { return Ok(Self::File(argument.into())) };
        if is_bare_pipeline(text) {
            return Err("is not a file; a GStreamer pipeline is written pipeline:TEXT".into());
        }
        Self::parse(text)
    }

    /// The file, folder or camera that exists at `path`.
    pub fn existing(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok()?;
        Some(device(path).unwrap_or_else(|| Self::File(path.to_owned())))
    }

    /// Whether it goes on until somebody stops it. An HTTP address may be a clip or a camera, which
    /// only its content tells; it does not count as live.
    pub fn is_live(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Stream(url) => !matches!(url.scheme(), "http" | "https"),
            Self::Demo { .. } | Self::V4l(_) | Self::Contribution(_) | Self::Pipeline(_) => true,
        }
    }

    /// A library's message about it, with its secrets removed.
    pub fn hide(&self, text: &str) -> String {
        match self {
            Self::Stream(url) => url.hide(text),
            Self::Contribution(feed) => feed.hide(text),
            _ => redact(text),
        }
    }

    /// A hint at what may be wrong with an address that cannot be opened, beginning with `; `; or
    /// empty.
    pub fn doubt(&self) -> String {
        match self {
            Self::Stream(url) => url.doubt(),
            Self::Contribution(feed) => feed.doubt(),
            _ => String::new(),
        }
    }

    /// Parses an address without checking whether anything is there. A pipeline text without
    /// `pipeline:` is still accepted, see `is_bare_pipeline`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let address = text.trim();
        if address.is_empty() {
            return Err("is empty; give /dev/video0, rtsp://..., srt://..., a file or pipeline:TEXT".into());
        }
        if let Some(pipeline) = explicit_pipeline(address) {
            if pipeline.is_empty() {
                return Err("names no element; write pipeline:ELEMENT ! ELEMENT".into());
            }
            return Ok(Self::Pipeline(pipeline.into()));
        }
        if is_bare_pipeline(text) {
            return Ok(Self::Pipeline(address.into()));
        }
        // A path is taken as written: leading and trailing blanks are part of a name.
        if let Some(device) = device(Path::new(text)) {
            return Ok(device);
        }
        let Some((scheme, _)) =
            address.split_once(':').filter(|(s, rest)| is_scheme(s) && rest.starts_with("//"))
        else {
            return Ok(Self::File(text.into()));
        };
        let text = address;
        let scheme = scheme.to_ascii_lowercase();
        if StreamUrl::SCHEMES.contains(&&*scheme) {
            return StreamUrl::parse(text).map(Self::Stream);
        }
        if let Some(found) = Contribution::parse(&scheme, text) {
            return found.map(Self::Contribution);
        }
        let url = Url::parse(text).map_err(|e| format!("is not a valid address: {e}"))?;
        match &*scheme {
            "demo" => {
                let seed = url.host_str().unwrap_or("1");
                let seed = seed.parse().map_err(|_| format!("demo://SEED takes a number, not '{seed}'"))?;
                Ok(Self::Demo { seed })
            }
            "v4l2" => v4l(&url).map(Self::V4l),
            "file" if url.query().is_some() || url.fragment().is_some() => {
                Err("is a file:// address, where ? is written %3F and # is written %23".into())
            }
            "file" => url
                .to_file_path()
                .map(Self::File)
                .map_err(|()| "file:// takes an absolute path: file:///folder/clip.mp4".into()),
            other => Err(format!(
                "has an unknown scheme '{other}://'; known are rtsp, rtspu, rtsps, srt, udp, rtp, http, https, {}, file, v4l2 and demo",
                Contribution::SCHEMES.join(", ")
            )),
        }
    }
}

impl std::fmt::Display for SourceUri {
    /// For people; user names and passwords are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo { seed } => write!(f, "demo://{seed}"),
            // A damaged address can be mistaken for a device or a file.
            Self::V4l(v) => f.write_str(&v.device.shown()),
            Self::File(path) => f.write_str(&path.shown()),
            Self::Pipeline(text) => text.fmt(f),
            Self::Stream(url) => url.fmt(f),
            Self::Contribution(feed) => feed.fmt(f),
        }
    }
}

impl std::fmt::Debug for SourceUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceUri({self})")
    }
}

/// Whether a text is a GStreamer pipeline without the prefix `pipeline:`. In a configuration such a
/// text is a pipeline until 1.0; on a command line it never is.
pub fn is_bare_pipeline(text: &str) -> bool {
    explicit_pipeline(text.trim()).is_none() && text.contains(" ! ")
}

fn explicit_pipeline(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    ["pipeline", "gst"].iter().any(|known| known.eq_ignore_ascii_case(scheme)).then_some(rest.trim())
}

/// The camera that a path names.
fn device(path: &Path) -> Option<SourceUri> {
    let text = path.to_str()?;
    (text.starts_with("/dev/video") || text.starts_with("/dev/v4l/"))
        .then(|| SourceUri::V4l(V4lUri { device: path.into(), format: None, size: None, fps: None }))
}

fn is_scheme(s: &str) -> bool {
    s.starts_with(|c: char| c.is_ascii_alphabetic())
        && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn v4l(url: &Url) -> Result<V4lUri, String> {
    let device = PathBuf::from(url.path());
    if !device.starts_with("/dev") {
        return Err("v4l2:// takes a device: v4l2:///dev/video0".into());
    }
    let mut out = V4lUri { device, format: None, size: None, fps: None };
    for (key, value) in url.query_pairs() {
        match &*key {
            "format" => {
                let code: [u8; 4] = value.as_bytes().try_into().map_err(|_| {
                    format!("format={value} must be four characters, such as YUYV, NV12 or MJPG")
                })?;
                out.format = Some(code);
            }
            "size" => {
                let size = value.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
                out.size = Some(
                    size.filter(|&(w, h): &(u32, u32)| w > 0 && h > 0)
                        .ok_or_else(|| format!("size={value} must be WIDTHxHEIGHT, such as 1280x720"))?,
                );
            }
            "fps" => {
                let fps = value.parse().ok().filter(|f| (1..=480).contains(f));
                out.fps =
                    Some(fps.ok_or_else(|| format!("fps={value} must be a whole number from 1 to 480"))?);
            }
            other => return Err(format!("has an unknown option '{other}'; known are format, size and fps")),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart() {
        use SourceUri::*;
        assert!(matches!(SourceUri::parse("/dev/video0"), Ok(V4l(_))));
        assert!(matches!(SourceUri::parse("/dev/v4l/by-id/usb-cam"), Ok(V4l(_))));
        assert!(matches!(SourceUri::parse("rtsp://u:p@cam/1"), Ok(Stream(_))));
        assert!(matches!(SourceUri::parse("rtspu://cam/1"), Ok(Stream(_))));
        for (text, full) in [
            ("srt://:9000?mode=listener", "srt://0.0.0.0:9000?mode=listener"),
            ("udp://:5000", "udp://0.0.0.0:5000"),
            ("udp://@239.1.2.3:5000", "udp://239.1.2.3:5000"),
        ] {
            assert_eq!(SourceUri::parse(text).expect("parses").to_string(), full);
        }
        assert!(matches!(SourceUri::parse("videotestsrc ! appsink"), Ok(Pipeline(_))));
        assert!(matches!(SourceUri::parse("clip.mp4"), Ok(File(_))));
        assert!(matches!(SourceUri::parse("C:odd"), Ok(File(_))));
        assert_eq!(SourceUri::parse("demo://7"), Ok(Demo { seed: 7 }));
        assert_eq!(SourceUri::parse("file:///a/b%20c.mp4"), Ok(File("/a/b c.mp4".into())));
        for (text, scheme) in [("RTSP://cam.lan/1", "rtsp"), ("Http://cam.lan/1", "http")] {
            assert!(matches!(SourceUri::parse(text), Ok(Stream(url)) if url.scheme() == scheme), "{text}");
        }
        assert_eq!(SourceUri::parse("FILE:///a"), Ok(File("/a".into())));
        let Ok(V4l(v)) = SourceUri::parse("v4l2:///dev/video3?format=NV12&size=640x480&fps=15") else {
            panic!()
        };
        assert_eq!((v.format, v.size, v.fps), (Some(*b"NV12"), Some((640, 480)), Some(15)));
    }

    #[test]
    fn a_pipeline_says_that_it_is_one() {
        let pipeline = |text: &str| SourceUri::Pipeline(text.into());
        for text in ["pipeline:fakesrc", "gst: fakesrc ", " Pipeline:fakesrc"] {
            assert_eq!(SourceUri::parse(text), Ok(pipeline("fakesrc")), "{text}");
            assert!(!is_bare_pipeline(text));
        }
        // As a configuration may have it until 1.0.
        assert_eq!(SourceUri::parse("a ! b"), Ok(pipeline("a ! b")));
        assert!(is_bare_pipeline("a ! b") && !is_bare_pipeline("a !b") && !is_bare_pipeline("gst:a ! b"));
        let bare = SourceUri::of_argument("a ! b".as_ref()).expect_err("refused");
        assert!(bare.contains("pipeline:TEXT"), "{bare}");
        assert_eq!(SourceUri::of_argument("gst:a ! b".as_ref()), Ok(pipeline("a ! b")));
    }

    #[test]
    fn what_exists_is_a_file_whatever_its_name() {
        let dir = tempfile::tempdir().expect("folder");
        for name in ["gst:a ! b", "a ! filesink location=x", " blank ", "rtsp:", "C:odd", "#?%41"] {
            let path = dir.path().join(name);
            std::fs::write(&path, b"x").expect("written");
            assert_eq!(SourceUri::of_argument(path.as_os_str()), Ok(SourceUri::File(path)), "{name}");
        }
        assert_eq!(SourceUri::of_argument("-".as_ref()), Ok(SourceUri::File(SourceUri::STDIN.into())));
        assert_eq!(SourceUri::parse(" a b "), Ok(SourceUri::File(" a b ".into())));
    }

    #[test]
    fn wrong_addresses_say_what_would_be_right() {
        for (text, word) in [
            ("", "empty"),
            ("gst: ", "element"),
            ("file:///a/b#1.mp4", "%23"),
            ("rstp://cam", "rtsp"),
            ("v4l2:///dev/video0?size=big", "WIDTHxHEIGHT"),
            ("v4l2:///dev/video0?format=JPEG2", "four characters"),
            ("v4l2:///dev/video0?rate=3", "fps"),
            ("demo://x", "number"),
        ] {
            let error = SourceUri::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_never_show() {
        for text in [
            "rtsp://user:p%40ss@cam.lan/1",
            "rtspsrc location=rtsp://user:p@ss@cam.lan/1 ! appsink",
            "rtspsrc location=\"rtsp://cam.lan/1\" user-id=user user-pw=\"p@ss word\" ! appsink",
            "rtspsrc location=rtsp://cam.lan/1 user-id = \"us p@ss\" user-pw = \"a\\\"p@ss\" ! appsink",
            "rtspsrc location=rtsp://cam.lan/1 user-pw=a\\ p@ss ! appsink",
            "rtspsrc location=rtsp://user:pa/p@ss@cam.lan/1 ! appsink",
            "srt://host:9000?passphrase=p%40ss&mode=caller",
            "http://cam.lan/video?user=admin&PWD=p%40ss",
        ] {
            let shown = SourceUri::parse(text).expect("parses").to_string();
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
            assert!(shown.contains("***"), "{shown}");
        }
        assert_eq!(
            SourceUri::parse("/dev/video://me:p@ss").expect("a device").to_string(),
            "/dev/video://***@ss"
        );
    }
}
