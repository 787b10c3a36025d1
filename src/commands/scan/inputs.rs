//! From what the user names to what is judged: folders are searched through, addresses pass as they are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::super::input::{Input, Unusable};
use crate::config::SourceUri;
use crate::forensics::dataset::{is_picture, is_video};

/// What to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// One picture.
    Picture(Input, PathBuf),
    /// A video file, an address or a pipeline text.
    Video(Input),
    /// Cannot be judged; why.
    Unusable(Unusable),
}

/// Lists everything that the arguments name, in their order, folders sorted by name.
pub(super) fn expand(arguments: &[OsString]) -> Vec<Item> {
    arguments.iter().flat_map(|a| expand_one(a)).collect()
}

fn expand_one(argument: &std::ffi::OsStr) -> Vec<Item> {
    let input = match Input::parse(argument) {
        Ok(input) => input,
        Err(bad) => return vec![Item::Unusable(bad)],
    };
    let SourceUri::File(path) = &input.uri else { return vec![Item::Video(input)] };
    let unusable = |why: String| vec![Item::Unusable(Unusable { shown: input.shown.clone(), why })];
    match std::fs::metadata(path) {
        Err(error) => unusable(error.to_string()),
        Ok(meta) if meta.is_dir() => {
            let found = folder(path);
            if found.is_empty() { unusable("holds no picture and no video".into()) } else { found }
        }
        // A pipe can be read only once.
        Ok(meta) if !meta.is_file() => vec![Item::Video(input)],
        // A file without a known ending may still be a picture; its first bytes tell.
        Ok(_) if is_picture(path) || is_picture_inside(path) => {
            let path = path.clone();
            vec![Item::Picture(input, path)]
        }
        Ok(_) => vec![Item::Video(input)],
    }
}

fn folder(path: &Path) -> Vec<Item> {
    let mut out = Vec::new();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                let path = entry.path();
                if is_picture(path) {
                    out.push(Item::Picture(Input::file(path), path.to_owned()));
                } else if is_video(path) {
                    out.push(Item::Video(Input::file(path)));
                }
            }
            Ok(_) => {}
            Err(error) => {
                let shown = Input::file(error.path().unwrap_or(path)).shown;
                out.push(Item::Unusable(Unusable { shown, why: error.to_string() }));
            }
        }
    }
    out
}

fn is_picture_inside(path: &Path) -> bool {
    image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .is_ok_and(|r| r.format().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(path: PathBuf) -> Item {
        Item::Picture(Input::file(&path), path)
    }

    #[test]
    fn folders_are_searched_and_other_files_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("b")).expect("a folder");
        for name in ["b/2.JPG", "1.png", "notes.txt", "clip.mp4"] {
            std::fs::write(dir.path().join(name), b"x").expect("written");
        }
        let found = expand(&[dir.path().into(), "rtsp://cam/1".into(), dir.path().join("none").into()]);
        let path = |name: &str| dir.path().join(name);
        assert_eq!(
            found[..4],
            [
                picture(path("1.png")),
                picture(path("b/2.JPG")),
                Item::Video(Input::file(&path("clip.mp4"))),
                Item::Video(Input::parse("rtsp://cam/1".as_ref()).expect("an address"))
            ]
        );
        assert!(matches!(&found[4], Item::Unusable(bad) if bad.why.contains("No such file")));
    }

    #[test]
    fn a_folder_without_pictures_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let found = expand(&[dir.path().into()]);
        assert!(matches!(&found[..], [Item::Unusable(bad)] if bad.why.contains("no picture")));
    }

    #[test]
    fn a_picture_without_an_ending_is_still_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("frame");
        image::RgbImage::new(4, 4).save_with_format(&path, image::ImageFormat::Png).expect("saved");
        assert_eq!(expand(&[path.clone().into()]), [picture(path)]);
    }
}
