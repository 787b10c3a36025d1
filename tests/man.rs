//! The man pages in `docs/man` agree with the program's help. `UPDATE=1` rewrites them.

use std::collections::BTreeMap;
use std::path::Path;

fn pages(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| {
                    let name = e.file_name().to_string_lossy().into_owned();
                    (name, std::fs::read_to_string(e.path()).expect("readable"))
                })
                .collect()
        })
        .unwrap_or_default()
}

#[test]
fn the_man_pages_agree_with_the_program() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let made = tempfile::tempdir().expect("a folder");
    clap_mangen::generate_to(spotd::commands::command(), made.path()).expect("rendered");
    if std::env::var_os("UPDATE").is_some() {
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept).expect("docs/man");
        for (name, text) in pages(made.path()) {
            std::fs::write(kept.join(name), text).expect("written");
        }
    }
    let (kept, made) = (pages(&kept), pages(made.path()));
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "run `make man`");
    for (name, text) in made {
        assert!(kept[&name] == text, "docs/man/{name} is not what the help says; run `make man`");
    }
}
