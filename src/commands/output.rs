//! Files that a command writes: complete under their final name, or not at all.

use std::path::Path;

use anyhow::Context as _;

use super::console;
use spotd::flaglog::OsFs;
use spotd::flaglog::fs::write_whole;
use spotd::shown::Shown as _;

/// Writes a file so that a partial one never has its name; creates its folder if missing.
///
/// # Errors
/// The folder cannot be created or the file cannot be written; the text names the file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // `x.csv` has an empty parent, which is not a valid path.
    let path = &if path.parent().is_some_and(|p| p.as_os_str().is_empty()) {
        Path::new(".").join(path)
    } else {
        path.to_path_buf()
    };
    let shown = path.shown();
    let _whole = console::whole_files();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: the folder cannot be created", folder.shown()))?;
    }
    write_whole(&OsFs, path, bytes)
        .with_context(|| format!("{shown} cannot be written; check its folder's free space and permissions"))
}
