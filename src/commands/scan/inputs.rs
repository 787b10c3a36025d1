//! From what the user names to what is judged: folders are searched through, addresses pass as they are.

use std::path::Path;

use walkdir::WalkDir;

use crate::forensics::dataset::{is_picture, is_video};

/// What to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// One picture.
    Picture(String),
    /// A video file, an address or a pipeline text.
    Video(String),
    /// Cannot be judged; why.
    Unusable(String, String),
}

/// Lists everything that the arguments name, in their order, folders sorted by name.
pub(super) fn expand(arguments: &[String]) -> Vec<Input> {
    arguments.iter().flat_map(|a| expand_one(a)).collect()
}

fn expand_one(argument: &str) -> Vec<Input> {
    let pipeline = argument.contains(" ! ");
    if pipeline || argument.contains("://") && !argument.starts_with("file://") {
        return vec![Input::Video(argument.to_owned())];
    }
    let path = argument.strip_prefix("file://").unwrap_or(argument);
    let unusable = |why: String| vec![Input::Unusable(argument.to_owned(), why)];
    match std::fs::metadata(path) {
        Err(error) => unusable(error.to_string()),
        Ok(meta) if meta.is_dir() => {
            let found = folder(Path::new(path));
            if found.is_empty() { unusable("holds no picture and no video".into()) } else { found }
        }
        Ok(_) if is_picture(Path::new(path)) => vec![Input::Picture(path.to_owned())],
        // A file without a known ending may still be a picture; its first bytes tell.
        Ok(_) if is_picture_inside(Path::new(path)) => vec![Input::Picture(path.to_owned())],
        Ok(_) => vec![Input::Video(path.to_owned())],
    }
}

fn folder(path: &Path) -> Vec<Input> {
    let mut out = Vec::new();
    for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                let name = entry.path().to_string_lossy().into_owned();
                if is_picture(entry.path()) {
                    out.push(Input::Picture(name));
                } else if is_video(entry.path()) {
                    out.push(Input::Video(name));
                }
            }
            Ok(_) => {}
            Err(error) => {
                let name = error.path().unwrap_or(path).to_string_lossy().into_owned();
                out.push(Input::Unusable(name, error.to_string()));
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

    #[test]
    fn folders_are_searched_and_other_files_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("b")).expect("a folder");
        for name in ["b/2.JPG", "1.png", "notes.txt", "clip.mp4"] {
            std::fs::write(dir.path().join(name), b"x").expect("written");
        }
        let root = dir.path().to_string_lossy().into_owned();
        let found = expand(&[root.clone(), "rtsp://cam/1".into(), format!("{root}/none")]);
        let name = |n: &str| format!("{root}/{n}");
        assert_eq!(
            found[..4],
            [
                Input::Picture(name("1.png")),
                Input::Picture(name("b/2.JPG")),
                Input::Video(name("clip.mp4")),
                Input::Video("rtsp://cam/1".into())
            ]
        );
        assert!(matches!(&found[4], Input::Unusable(_, why) if why.contains("No such file")));
    }

    #[test]
    fn a_folder_without_pictures_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let found = expand(&[dir.path().to_string_lossy().into_owned()]);
        assert!(matches!(&found[..], [Input::Unusable(_, why)] if why.contains("no picture")));
    }

    #[test]
    fn a_picture_without_an_ending_is_still_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("frame");
        image::RgbImage::new(4, 4).save_with_format(&path, image::ImageFormat::Png).expect("saved");
        let name = path.to_string_lossy().into_owned();
        assert_eq!(expand(std::slice::from_ref(&name)), [Input::Picture(name)]);
    }
}
