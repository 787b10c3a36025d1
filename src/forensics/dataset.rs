//! Folders of pictures: what is in them, what cannot be read, and the paper's layout of test sets.

use crate::frame::picture;
use crate::shown::Shown as _;
use image::RgbImage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Why a folder or a layout is refused.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The folder, or a list of pictures, is missing or cannot be read.
    #[error("{}: cannot be read: {error}", path.shown())]
    Folder {
        /// The folder or list.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// No set was found.
    #[error(
        "{}: holds no <set>/[class/]{{0_real,1_fake}}; expected a folder laid out as the paper's test sets",
        .0.shown()
    )]
    Layout(PathBuf),
    /// A list that cannot be parsed.
    #[error("{}:{line}: {reason}", path.shown())]
    List {
        /// The list.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A training folder that is meant for validation.
    #[error("{}: training never sees val; give a folder of training pictures instead", .0.shown())]
    Validation(PathBuf),
}

/// A file that was left out, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The decoder's message.
    pub reason: String,
}

/// One set of the paper's layout.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct EvalSet {
    /// The folder's name, for instance `stylegan2`.
    pub name: String,
    /// Files under any `0_real`.
    pub real: Vec<PathBuf>,
    /// Files under any `1_fake`.
    pub fake: Vec<PathBuf>,
    /// Folders that hold a `0_real` or a `1_fake`, below the set's own, sorted: its classes, if it
    /// has any.
    pub classes: Vec<String>,
    /// Files with a video's extension, under any `0_real` and under any `1_fake`.
    pub clips: [Vec<PathBuf>; 2],
    /// Files under either that are neither; hidden ones are not counted.
    pub other: Vec<PathBuf>,
}

/// The two labels, as folders of the paper's layout.
pub(crate) const LABELS: [&str; 2] = ["0_real", "1_fake"];

/// The two sides of the other layout, `{real,fake}/<set>`.
const SIDES: [&str; 2] = ["real", "fake"];

/// Extensions of files that are read as a video, in lower case.
pub(crate) const VIDEO_EXTENSIONS: [&str; 13] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "ogv", "flv"];

/// Every picture under `folder`, by name or else by content, links followed, sorted, so that the
/// order is the same on every machine. Other files are logged.
pub fn list_pictures(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| unlistable(folder, error))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let picture = entry.file_type().is_file() && picture::holds(entry.path());
        if picture { &mut found } else { &mut others }.push(entry.into_path());
    }
    if !others.is_empty() {
        let names = picture::some_names(&others);
        log::warn!("{}: {} files are not pictures and are skipped: {names}", folder.shown(), others.len());
    }
    Ok(found)
}

/// Refuses a folder that is, lies in, or holds a folder named `val`, links resolved: pictures that
/// select a model must never train one.
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

/// Decodes `path` by its content, whatever its name says. Of an animation, or of several pages, it
/// returns the first and logs that.
pub fn load(path: &Path) -> Result<RgbImage, Skipped> {
    let skipped = |reason: String| Skipped { path: path.to_path_buf(), reason };
    let bytes = picture::read(path).map_err(|error| skipped(error.to_string()))?;
    let mut shots = picture::shots(&bytes).map_err(|error| skipped(error.to_string()))?;
    let first = shots.next().unwrap_or_else(|| picture::first(&[])).map_err(|e| skipped(e.to_string()))?;
    match shots.next() {
        None => Ok(first.image),
        Some(Err(error)) => Err(skipped(error.to_string())),
        Some(Ok(_)) => {
            log::warn!("{}: has more than one picture; only the first is taken", path.shown());
            Ok(first.image)
        }
    }
}

/// The sets below `root` that have real and generated pictures: `<set>/{0_real,1_fake}` or
/// `<set>/<class>/{0_real,1_fake}`, sorted by name.
pub fn find_sets(root: &Path) -> Result<Vec<EvalSet>, DatasetError> {
    let mut sets = find_all_sets(root)?;
    sets.retain(|set| !set.real.is_empty() && !set.fake.is_empty());
    if sets.is_empty() {
        return Err(DatasetError::Layout(root.to_path_buf()));
    }
    Ok(sets)
}

/// As [`find_sets`], but sets that lack one side are listed too, and `root` may be a set itself.
/// Where `root` holds `real` and `fake`, its sets are `{real,fake}/<set>`, as tools that make pairs
/// lay them out.
pub fn find_all_sets(root: &Path) -> Result<Vec<EvalSet>, DatasetError> {
    let fail = |error| DatasetError::Folder { path: root.to_path_buf(), error };
    if LABELS.iter().any(|label| root.join(label).is_dir()) {
        // `.` has no name of its own.
        let named = root.canonicalize().map_err(fail)?;
        let name = named.file_name().map_or_else(|| "set".into(), |n| n.to_string_lossy().into_owned());
        return Ok(vec![read_set(root, name)?.unwrap_or_default()]);
    }
    let list = std::fs::read_dir(root).map_err(fail)?;
    if SIDES.iter().all(|side| root.join(side).is_dir()) {
        return read_sides(root);
    }
    let mut sets = Vec::new();
    for entry in list.flatten().filter(|e| e.path().is_dir()) {
        sets.extend(read_set(&entry.path(), entry.file_name().to_string_lossy().into_owned())?);
    }
    if sets.is_empty() {
        return Err(DatasetError::Layout(root.to_path_buf()));
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

/// The sets of `root/{real,fake}/<set>`, sorted by name.
fn read_sides(root: &Path) -> Result<Vec<EvalSet>, DatasetError> {
    let mut sets: BTreeMap<String, EvalSet> = BTreeMap::new();
    for (label, side) in SIDES.iter().enumerate() {
        let folder = root.join(side);
        let list = std::fs::read_dir(&folder)
            .map_err(|error| DatasetError::Folder { path: folder.clone(), error })?;
        for entry in list.flatten().filter(|e| e.path().is_dir()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let set = sets.entry(name.clone()).or_insert_with(|| EvalSet { name, ..EvalSet::default() });
            for file in WalkDir::new(entry.path()).follow_links(true).sort_by_file_name() {
                let file = file.map_err(|error| unlistable(&folder, error))?;
                if file.file_type().is_file() && !file.file_name().to_string_lossy().starts_with('.') {
                    set.put(label, file.into_path());
                }
            }
        }
    }
    if sets.is_empty() {
        return Err(DatasetError::Layout(root.to_path_buf()));
    }
    Ok(sets.into_values().collect())
}

impl EvalSet {
    /// Adds a file to a side (0 real, 1 generated): a video by its name, a picture also by its
    /// content.
    fn put(&mut self, label: usize, path: PathBuf) {
        let kind = if is_video(&path) {
            &mut self.clips[label]
        } else if !picture::holds(&path) {
            &mut self.other
        } else if label == 0 {
            &mut self.real
        } else {
            &mut self.fake
        };
        kind.push(path);
    }
}

/// What lies under the labels below `folder`; `None` when there is no label.
fn read_set(folder: &Path, name: String) -> Result<Option<EvalSet>, DatasetError> {
    let mut set = EvalSet { name, ..EvalSet::default() };
    let mut labelled = false;
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| unlistable(folder, error))?;
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let parts: Vec<_> = below.iter().collect();
        let Some((at, label)) =
            parts.iter().enumerate().find_map(|(at, p)| LABELS.iter().position(|l| p == l).map(|l| (at, l)))
        else {
            continue;
        };
        labelled = true;
        let class = parts[..at].iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("/");
        if !class.is_empty() && !set.classes.contains(&class) {
            set.classes.push(class);
        }
        if !entry.file_type().is_file() || entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        set.put(label, entry.into_path());
    }
    Ok(labelled.then_some(set))
}

fn unlistable(folder: &Path, error: walkdir::Error) -> DatasetError {
    let path = error.path().unwrap_or(folder).to_path_buf();
    // Links that form a cycle are not an error of the operating system.
    let said = error.to_string();
    DatasetError::Folder { path, error: error.into_io_error().unwrap_or_else(|| std::io::Error::other(said)) }
}

/// Whether the name has a video's extension.
pub fn is_video(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| VIDEO_EXTENSIONS.contains(&e.as_str()))
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
        std::fs::write(dir.path().join("cyclegan/horse/0_real/readme.txt"), "no picture").unwrap();
        std::fs::write(dir.path().join("cyclegan/horse/0_real/.DS_Store"), "hidden").unwrap();
        std::fs::write(dir.path().join("cyclegan/horse/1_fake/clip.MP4"), "a video").unwrap();
        let all = find_all_sets(dir.path()).unwrap();
        let names: Vec<_> = all.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["biggan", "cyclegan", "only_real"]);
        assert_eq!(all[1].classes, ["horse", "zebra"]);
        assert_eq!((all[1].other.len(), all[1].clips[0].len(), all[1].clips[1].len()), (1, 0, 1));
        assert_eq!((all[2].real.len(), all[2].fake.len()), (1, 0));
        let itself = find_all_sets(&dir.path().join("biggan")).unwrap();
        assert_eq!((itself.len(), itself[0].name.as_str(), itself[0].fake.len()), (1, "biggan", 1));
    }

    #[test]
    fn finds_sets_whose_sides_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["real/a/1.png", "real/a/2.png", "fake/a/1.png", "real/alone/3.png", "fake/deep/x/4.png"]
        {
            put(&dir.path().join(path));
        }
        let counts = |sets: Vec<EvalSet>| {
            sets.into_iter().map(|s| (s.name, s.real.len(), s.fake.len())).collect::<Vec<_>>()
        };
        let of = |name: &str, real, fake| (name.to_owned(), real, fake);
        let all = counts(find_all_sets(dir.path()).unwrap());
        assert_eq!(all, [of("a", 2, 1), of("alone", 1, 0), of("deep", 0, 1)]);
        assert_eq!(counts(find_sets(dir.path()).unwrap()), [of("a", 2, 1)]);
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
