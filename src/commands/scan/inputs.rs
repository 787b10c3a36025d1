//! From the arguments to the items to judge: folders are searched, addresses are passed on
//! unchanged. A file's content decides what it is; its name only tells that somebody expected it to
//! be judged.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::super::input::{Input, Unusable};
use spotd::frame::picture;
use spotd::source::SourceUri;

/// Extensions of files that are expected to be judged, besides those of [`picture::ENDINGS`]: if
/// they cannot be, that is an error.
const EXPECTED: [&str; 29] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "ogv", "flv", "3gp",
    "3g2", "wmv", "asf", "mxf", "h264", "h265", "hevc", "mjpeg", "mjpg", "avif", "heic", "heif", "jxl",
    "jp2", "exr",
];

/// What to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A file with one picture or several.
    Picture(Input, PathBuf),
    /// A video file, an address or a pipeline text.
    Video(Input),
    /// Cannot be judged, and why.
    Unusable(Unusable),
}

impl Item {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Item::Picture(_, path) => Some(path),
            Item::Video(Input { uri: SourceUri::File(path), .. }) => Some(path),
            Item::Video(_) | Item::Unusable(_) => None,
        }
    }
}

/// Everything that the arguments name.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is judged, in the order of the arguments, folders sorted by name.
    pub items: Vec<Item>,
    /// Files in folders that are left out: neither picture nor video.
    pub foreign: Vec<PathBuf>,
    /// Likewise: only sound.
    pub sound: Vec<PathBuf>,
    /// Likewise: pipes, sockets and devices.
    pub special: Vec<PathBuf>,
}

impl Found {
    /// A line for each reason why files were left out.
    pub fn left_out(&self) -> Vec<String> {
        [
            (&self.foreign, "neither pictures nor videos"),
            (&self.sound, "only sound"),
            (&self.special, "pipes, sockets or devices"),
        ]
        .into_iter()
        .filter(|(files, _)| !files.is_empty())
        .map(|(files, what)| {
            format!("{} files are {what} and are skipped: {}", files.len(), picture::some_names(files))
        })
        .collect()
    }

    fn add(&mut self, argument: &OsStr) {
        let input = match Input::parse(argument) {
            Ok(input) => input,
            Err(bad) => return self.items.push(Item::Unusable(bad)),
        };
        let SourceUri::File(path) = &input.uri else { return self.items.push(Item::Video(input)) };
        let unusable = |why: String| Item::Unusable(Unusable { shown: input.shown.clone(), why });
        match std::fs::metadata(path) {
            Err(error) => self.items.push(unusable(error.to_string())),
            Ok(meta) if meta.is_dir() => {
                let before = self.items.len();
                self.folder(path);
                if self.items.len() == before {
                    self.items.push(unusable("holds no picture and no video".into()));
                }
            }
            // A pipe can be read only once: what it delivers is only known while reading.
            Ok(meta) if !meta.is_file() => self.items.push(Item::Video(input)),
            Ok(_) if picture::begins(path).is_some() || picture::is_named(path) && !is_video(path) => {
                let path = path.clone();
                self.items.push(Item::Picture(input, path));
            }
            Ok(_) => self.items.push(Item::Video(input)),
        }
    }

    fn folder(&mut self, folder: &Path) {
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() => self.file(entry.into_path()),
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => self.special.push(entry.into_path()),
                Err(error) => {
                    let shown = Input::file(error.path().unwrap_or(folder)).shown;
                    self.items.push(Item::Unusable(Unusable { shown, why: error.to_string() }));
                }
            }
        }
    }

    /// A file that a folder holds.
    fn file(&mut self, path: PathBuf) {
        let expected = || {
            let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
            ending.is_some_and(|ending| EXPECTED.contains(&ending.as_str()))
        };
        let input = Input::file(&path);
        if picture::begins(&path).is_some() {
            return self.items.push(Item::Picture(input, path));
        }
        match content(&path) {
            Content::Video => self.items.push(Item::Video(input)),
            // If the file does not hold what its name promises, that is an error, with the
            // decoder's message.
            _ if picture::is_named(&path) => self.items.push(Item::Picture(input, path)),
            Content::Picture => self.items.push(Item::Video(input)),
            _ if expected() => self.items.push(Item::Video(input)),
            Content::Sound => self.sound.push(path),
            Content::Other => self.foreign.push(path),
        }
    }
}

/// Lists everything that the arguments name.
pub(super) fn expand(arguments: &[OsString]) -> Found {
    let mut found = Found::default();
    for argument in arguments {
        found.add(argument);
    }
    found
}

fn is_video(path: &Path) -> bool {
    content(path) == Content::Video
}

#[cfg(feature = "gstreamer")]
use spotd::source::gstreamer::content::Content;

#[cfg(feature = "gstreamer")]
fn content(path: &Path) -> Content {
    use spotd::source::gstreamer::content;
    use std::io::Read as _;
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(content::HEAD as u64).read_to_end(&mut head));
    // What cannot be read is reported when it is judged.
    if read.is_err() { Content::Video } else { content::content(&head) }
}

/// What a file is, in a build that cannot read videos: only their extensions tell.
#[cfg(not(feature = "gstreamer"))]
#[derive(PartialEq)]
#[allow(dead_code, reason = "without GStreamer nothing tells these apart")]
enum Content {
    Video,
    Picture,
    Sound,
    Other,
}

#[cfg(not(feature = "gstreamer"))]
fn content(_: &Path) -> Content {
    Content::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(path: PathBuf) -> Item {
        Item::Picture(Input::file(&path), path)
    }

    #[test]
    fn folders_are_searched_and_what_is_left_out_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("b")).expect("a folder");
        for name in ["b/2.JPG", "notes.txt", "clip.mp4", "x.jxl", "y.xmp"] {
            std::fs::write(path(name), b"some text").expect("written");
        }
        image::RgbImage::new(4, 4).save(path("1.png")).expect("saved");
        image::RgbImage::new(4, 4).save_with_format(path("a"), image::ImageFormat::Png).expect("saved");
        std::fs::rename(path("1.png"), path("1.txt")).expect("renamed");
        let _socket = std::os::unix::net::UnixListener::bind(path("z")).expect("a socket");
        let found = expand(&[dir.path().into(), "rtsp://cam/1".into(), path("none").into()]);
        assert_eq!(
            found.items[..6],
            [
                picture(path("1.txt")),
                picture(path("a")),
                picture(path("b/2.JPG")),
                Item::Video(Input::file(&path("clip.mp4"))),
                Item::Video(Input::file(&path("x.jxl"))),
                Item::Video(Input::parse("rtsp://cam/1".as_ref()).expect("an address"))
            ]
        );
        assert!(matches!(&found.items[6], Item::Unusable(bad) if bad.why.contains("No such file")));
        assert_eq!(
            found.left_out(),
            [
                "2 files are neither pictures nor videos and are skipped: notes.txt, y.xmp",
                "1 files are pipes, sockets or devices and are skipped: z"
            ]
        );
    }

    #[test]
    fn a_folder_without_pictures_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let found = expand(&[dir.path().into()]);
        assert!(matches!(&found.items[..], [Item::Unusable(bad)] if bad.why.contains("no picture")));
    }

    #[test]
    fn a_picture_without_an_ending_is_still_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("frame");
        image::RgbImage::new(4, 4).save_with_format(&path, image::ImageFormat::Png).expect("saved");
        assert_eq!(expand(&[path.clone().into()]).items, [picture(path)]);
    }
}
