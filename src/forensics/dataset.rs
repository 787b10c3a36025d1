//! Folders of pictures: what is in them, what cannot be read, and the paper's layout of test sets.

use image::RgbImage;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Why a folder or a layout is refused.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The folder is missing or cannot be listed.
    #[error("{path}: cannot be listed: {reason}")]
    Folder {
        /// What was asked for.
        path: PathBuf,
        /// The system's word.
        reason: String,
    },
    /// No set was found.
    #[error(
        "{0}: holds no <set>/[class/]{{0_real,1_fake}}; expected a folder laid out as the paper's test sets"
    )]
    Layout(PathBuf),
    /// A training folder that is meant for choosing.
    #[error("{0}: training never sees val; give a folder of training pictures instead")]
    Validation(PathBuf),
}

/// A file that was left out, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The decoder's word.
    pub reason: String,
}

/// One set of the paper's layout.
#[derive(Debug)]
pub struct EvalSet {
    /// The folder's name, for instance `stylegan2`.
    pub name: String,
    /// Files under any `0_real`.
    pub real: Vec<PathBuf>,
    /// Files under any `1_fake`.
    pub fake: Vec<PathBuf>,
}

/// Endings of files that are decoded as one picture, in lower case.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Every file under `folder` whose name ends like a picture's, links followed, sorted, so that the order is
/// the same on every machine.
pub fn list_pictures(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| DatasetError::Folder {
            path: error.path().unwrap_or(folder).to_path_buf(),
            reason: error.io_error().map_or_else(|| error.to_string(), |io| io.to_string()),
        })?;
        let extension = entry.path().extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if entry.file_type().is_file() && extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
            found.push(entry.into_path());
        }
    }
    Ok(found)
}

/// Refuses a folder that is, lies in, or holds a folder named `val`, links resolved: pictures that choose a
/// model must never train one.
pub fn refuse_validation(folder: &Path) -> Result<(), DatasetError> {
    let is_val = |path: &Path| path.components().any(|c| c.as_os_str().eq_ignore_ascii_case("val"));
    let resolved = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    if is_val(folder) || is_val(&resolved) {
        return Err(DatasetError::Validation(folder.to_path_buf()));
    }
    for entry in WalkDir::new(folder).follow_links(true).into_iter().flatten() {
        let target = entry.path_is_symlink().then(|| entry.path().canonicalize().ok()).flatten();
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if is_val(below) || target.is_some_and(|t| is_val(&t)) {
            return Err(DatasetError::Validation(entry.into_path()));
        }
    }
    Ok(())
}

/// Decodes `path` by its content, whatever its name says.
pub fn load(path: &Path) -> Result<RgbImage, Skipped> {
    let skipped = |reason: String| Skipped { path: path.to_path_buf(), reason };
    let bytes = std::fs::read(path).map_err(|error| skipped(error.to_string()))?;
    if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        // Strictly: a cut JPEG has a grey lower half that would be judged as if it had been seen.
        return crate::frame::jpeg::decode(&bytes).map_err(|error| skipped(error.to_string()));
    }
    image::ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| skipped(error.to_string()))?
        .decode()
        .map(|picture| picture.into_rgb8())
        .map_err(|error| skipped(error.to_string()))
}

/// The sets below `root`: `<set>/{0_real,1_fake}` or `<set>/<class>/{0_real,1_fake}`, sorted by name.
pub fn find_sets(root: &Path) -> Result<Vec<EvalSet>, DatasetError> {
    let list = std::fs::read_dir(root)
        .map_err(|error| DatasetError::Folder { path: root.to_path_buf(), reason: error.to_string() })?;
    let mut sets = Vec::new();
    for entry in list.flatten().filter(|e| e.path().is_dir()) {
        let mut set =
            EvalSet { name: entry.file_name().to_string_lossy().into_owned(), real: vec![], fake: vec![] };
        for path in list_pictures(&entry.path())? {
            let below = path.strip_prefix(entry.path()).unwrap_or(&path);
            let within = |name: &str| below.components().any(|c| c.as_os_str() == name);
            if within("0_real") {
                set.real.push(path);
            } else if within("1_fake") {
                set.fake.push(path);
            }
        }
        if !set.real.is_empty() && !set.fake.is_empty() {
            sets.push(set);
        }
    }
    if sets.is_empty() {
        return Err(DatasetError::Layout(root.to_path_buf()));
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(4, 3, image::Rgb([1, 2, 3])).save(path).unwrap();
    }

    #[test]
    fn lists_pictures_sorted_and_names_what_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("b/2.png"));
        put(&dir.path().join("a/1.PNG"));
        std::fs::write(dir.path().join("a/notes.txt"), "no picture").unwrap();
        std::fs::write(dir.path().join("c.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
        let found = list_pictures(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["1.PNG", "2.png", "c.jpg"]);
        assert_eq!(load(&found[0]).unwrap().dimensions(), (4, 3));
        let skipped = load(&found[2]).unwrap_err();
        assert!(skipped.path.ends_with("c.jpg") && !skipped.reason.is_empty());
        let missing = list_pictures(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(missing.contains("nowhere"), "{missing}");
    }

    #[test]
    fn finds_sets_with_and_without_classes() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "biggan/0_real/1.png",
            "biggan/1_fake/2.png",
            "cyclegan/horse/0_real/3.png",
            "cyclegan/horse/1_fake/4.png",
            "cyclegan/zebra/1_fake/5.png",
            "only_real/0_real/6.png",
        ] {
            put(&dir.path().join(path));
        }
        let sets = find_sets(dir.path()).unwrap();
        let counts: Vec<_> = sets.iter().map(|s| (s.name.as_str(), s.real.len(), s.fake.len())).collect();
        assert_eq!(counts, [("biggan", 1, 1), ("cyclegan", 1, 2)]);
        assert!(matches!(find_sets(&dir.path().join("only_real")), Err(DatasetError::Layout(_))));
    }

    #[test]
    fn refuses_val_by_name_below_and_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("data/val/x/1.png"));
        put(&dir.path().join("data/train/real/2.png"));
        put(&dir.path().join("data/train/evaluation/3.png"));
        assert!(refuse_validation(&dir.path().join("data/train")).is_ok());
        for folder in ["data/val", "data/val/x", "data"] {
            let error = refuse_validation(&dir.path().join(folder)).unwrap_err().to_string();
            assert!(error.contains("training never sees val"), "{error}");
        }
        std::os::unix::fs::symlink(dir.path().join("data/val"), dir.path().join("data/train/more")).unwrap();
        assert!(refuse_validation(&dir.path().join("data/train")).is_err());
    }
}
