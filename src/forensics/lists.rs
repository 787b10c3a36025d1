//! Lists of labelled pictures or clips, for collections too large or too scattered to be laid out
//! as folders.
//!
//! CSV (`path,label[,set]`, with or without a header line) or JSON lines (objects with these
//! members). A path is relative to the list's folder; a label is `real` or `fake`, `0` or `1`;
//! without a set the list's name is used.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::dataset::{DatasetError, EvalSet, is_video};

/// Whether a file has a list's extension.
pub fn is_list(path: &Path) -> bool {
    ending(path).is_some_and(|e| ["csv", "jsonl", "ndjson", "json"].contains(&e.as_str()))
}

fn ending(path: &Path) -> Option<String> {
    path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase)
}

/// The sets of a list in the order in which they first occur. Missing files are only noticed when
/// they are read.
///
/// # Errors
/// [`DatasetError::Folder`] for a list that cannot be read, [`DatasetError::List`] for a line that
/// cannot be parsed.
pub fn read_list(path: &Path) -> Result<Vec<EvalSet>, DatasetError> {
    let unreadable = |error| DatasetError::Folder { path: path.to_path_buf(), error };
    let file = std::io::BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
    let mut list = Collected { path, sets: Vec::new() };
    if ending(path).as_deref() == Some("csv") {
        list.csv(file)?;
    } else {
        for (at, line) in file.lines().enumerate() {
            let line = line.map_err(unreadable)?;
            if !line.trim().is_empty() {
                let number = at as u64 + 1;
                let row: Row =
                    serde_json::from_str(&line).map_err(|error| list.wrong(number, error.to_string()))?;
                list.add(number, &row.path, &row.label.text(), row.set)?;
            }
        }
    }
    if list.sets.is_empty() {
        return Err(list.wrong(1, "names no file".into()));
    }
    Ok(list.sets)
}

#[derive(Deserialize)]
struct Row {
    path: String,
    label: Label,
    set: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Number(i64),
    Text(String),
}

impl Label {
    fn text(&self) -> String {
        match self {
            Label::Number(number) => number.to_string(),
            Label::Text(text) => text.clone(),
        }
    }
}

struct Collected<'a> {
    path: &'a Path,
    sets: Vec<EvalSet>,
}

impl Collected<'_> {
    fn wrong(&self, line: u64, reason: String) -> DatasetError {
        DatasetError::List { path: self.path.to_path_buf(), line, reason }
    }

    fn csv(&mut self, file: impl std::io::Read) -> Result<(), DatasetError> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(file);
        let mut columns = (0, 1, Some(2));
        for (at, record) in reader.records().enumerate() {
            let record = record.map_err(|error| {
                let line = error.position().map_or(at as u64 + 1, csv::Position::line);
                self.wrong(line, error.to_string())
            })?;
            let line = record.position().map_or(at as u64 + 1, csv::Position::line);
            let column = |name: &str| record.iter().position(|field| field.eq_ignore_ascii_case(name));
            if at == 0
                && let (Some(path), Some(label)) = (column("path"), column("label"))
            {
                columns = (path, label, column("set"));
                continue;
            }
            let (Some(path), Some(label)) = (record.get(columns.0), record.get(columns.1)) else {
                return Err(self.wrong(line, "has no path and label; write path,label[,set]".into()));
            };
            let set = columns.2.and_then(|at| record.get(at)).filter(|s| !s.is_empty());
            self.add(line, path, label, set.map(str::to_owned))?;
        }
        Ok(())
    }

    fn add(&mut self, line: u64, path: &str, label: &str, set: Option<String>) -> Result<(), DatasetError> {
        let fake = match label.to_ascii_lowercase().as_str() {
            "0" | "real" | "0_real" => false,
            "1" | "fake" | "1_fake" => true,
            _ => return Err(self.wrong(line, format!("label `{label}` must be real or fake, 0 or 1"))),
        };
        if path.is_empty() {
            return Err(self.wrong(line, "its path is empty".into()));
        }
        let name =
            set.unwrap_or_else(|| self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        let at = self.sets.iter().position(|s| s.name == name).unwrap_or_else(|| {
            self.sets.push(EvalSet { name, ..EvalSet::default() });
            self.sets.len() - 1
        });
        let path: PathBuf = self.path.parent().unwrap_or(Path::new("")).join(path);
        let set = &mut self.sets[at];
        let side = match (is_video(&path), fake) {
            (true, _) => &mut set.clips[usize::from(fake)],
            (false, true) => &mut set.fake,
            (false, false) => &mut set.real,
        };
        side.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<EvalSet>, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        let strip = |p: &PathBuf| p.strip_prefix(dir.path()).map_or_else(|_| p.clone(), Path::to_path_buf);
        let mut sets =
            read_list(&path).map_err(|e| e.to_string().replace(&dir.path().display().to_string(), ""))?;
        for set in &mut sets {
            set.real = set.real.iter().map(strip).collect();
            set.fake = set.fake.iter().map(strip).collect();
        }
        Ok(sets)
    }

    fn shown(sets: &[EvalSet]) -> Vec<String> {
        sets.iter().map(|s| format!("{} {:?} {:?}", s.name, s.real, s.fake)).collect()
    }

    #[test]
    fn three_ways_to_write_one_list() {
        let want = [r#"a ["x 1.png"] ["/z.png"]"#, r#"b [] ["y,2.jpg"]"#];
        for (name, text) in [
            ("l.csv", "x 1.png,real,a\n\"y,2.jpg\",1,b\n/z.png,fake,a\n"),
            ("l.csv", "set,Label,PATH\r\na,0,x 1.png\r\nb,FAKE,\"y,2.jpg\"\r\na,1_fake,/z.png\r\n"),
            (
                "l.jsonl",
                "{\"path\":\"x 1.png\",\"label\":0,\"set\":\"a\"}\n\n{\"path\":\"y,2.jpg\",\"label\":\"fake\",\"set\":\"b\",\"more\":1}\n{\"path\":\"/z.png\",\"label\":1,\"set\":\"a\"}\n",
            ),
        ] {
            assert_eq!(shown(&read(name, text).expect("a list")), want, "{text}");
        }
        let mine = read("mine.csv", "x.png,0\nx.mp4,1\n").expect("a list");
        assert_eq!((mine[0].name.as_str(), mine[0].real.len(), mine[0].clips[1].len()), ("mine", 1, 1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (name, text, words) in [
            ("l.csv", "x.png,0\ny.png,perhaps\n", "/l.csv:2: label `perhaps` must be real or fake"),
            ("l.csv", "x.png\n", "/l.csv:1: has no path and label"),
            ("l.csv", "", "names no file"),
            ("l.csv", ",1\n", "/l.csv:1: its path is empty"),
            (
                "l.jsonl",
                "{\"path\":\"x\",\"label\":0}\n{\"path\":\"x\"}\n",
                "/l.jsonl:2: missing field `label`",
            ),
        ] {
            let error = read(name, text).expect_err("refused");
            assert!(error.contains(words), "{error}");
        }
    }
}
