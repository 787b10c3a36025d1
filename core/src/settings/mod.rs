//! What every room needs to read its own part of the configuration: the value of a key, its bounds, and an error that
//! names file, line and key. Rooms have their settings, `config` has the file.

mod locate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::shown::{Secret, Shown as _, redact};

/// What their names begin with.
pub const ENV_PREFIX: &str = "SPOTD__";

/// The variable in which systemd names the folder of a unit's credentials.
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Characters of a name at most.
pub const MAX_NAME: usize = 128;

/// Why a configuration is refused; the text names file, line and key, and the way out.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {}: {error}", path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{place}: {reason}")]
    Invalid {
        /// File and line, or environment variable.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// An error about a variable.
pub fn of_variable(name: &str, reason: String) -> ConfigError {
    ConfigError::Invalid { place: format!("environment variable {name}"), reason }
}

/// Where the configuration comes from, for messages and for paths relative to the file.
pub struct Context<'a> {
    /// The file's text.
    pub text: &'a str,
    /// The file.
    pub path: &'a Path,
    /// What the environment sets, by the names of the variables.
    pub variables: BTreeMap<String, String>,
    /// The folder of the credentials that systemd has given us, if it has.
    pub credentials: Option<PathBuf>,
}

impl Context<'_> {
    /// An error of TOML or of a type, with its line.
    pub fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|s| locate::line_at(self.text, s.start));
        self.invalid(line, with_suggestion(error.message()))
    }

    /// An error about the key at `path`, such as `source[1].fps`.
    pub fn key(&self, path: &str, reason: impl std::fmt::Display) -> ConfigError {
        let name = |path: &str| format!("{ENV_PREFIX}{}", path.replace('.', "__")).to_ascii_uppercase();
        let (own, table) = (name(path), name(path.split_inclusive('.').next().unwrap_or_default()));
        let mut reason = format!("{path} {reason}");
        if let Some(set) = self.variables.keys().find(|set| set.eq_ignore_ascii_case(&own)) {
            return of_variable(set, redact(&reason));
        }
        // What is wrong may be how the file and the environment go together.
        let beside: Vec<&str> = self
            .variables
            .keys()
            .map(String::as_str)
            .filter(|set| table.ends_with("__") && set.to_ascii_uppercase().starts_with(&table))
            .collect();
        if !beside.is_empty() {
            reason += &format!(" (the environment sets {})", beside.join(", "));
        }
        self.invalid(locate::line_of(self.text, path), reason)
    }

    /// An error about a line, or the whole file.
    pub fn invalid(&self, line: Option<usize>, reason: String) -> ConfigError {
        let file = self.path.shown();
        let place = line.map_or_else(|| file.clone(), |l| format!("{file}:{l}"));
        ConfigError::Invalid { place, reason: redact(&reason) }
    }

    /// A number within bounds.
    pub fn number<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        key: &str,
        value: Option<T>,
        default: T,
        low: T,
        high: T,
    ) -> Result<T, ConfigError> {
        let value = value.unwrap_or(default);
        if value >= low && value <= high {
            Ok(value)
        } else {
            Err(self.key(key, format!("= {value} must lie between {low} and {high}")))
        }
    }

    /// A whole number within bounds, none of them negative.
    pub fn count(
        &self,
        key: &str,
        value: Option<i64>,
        default: usize,
        low: i64,
        high: i64,
    ) -> Result<usize, ConfigError> {
        let default = i64::try_from(default).expect("defaults are small");
        self.number(key, value, default, low, high)
            .map(|v| usize::try_from(v).expect("bounds are not negative"))
    }

    /// Seconds within bounds.
    pub fn seconds(
        &self,
        key: &str,
        value: Option<f64>,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<Duration, ConfigError> {
        self.number(key, value, default, low, high).map(Duration::from_secs_f64)
    }

    /// Mebibytes, as bytes.
    pub fn mib(&self, key: &str, value: Option<i64>, default: i64, low: i64) -> Result<u64, ConfigError> {
        self.number(key, value, default, low, 1 << 30)
            .map(|v| u64::try_from(v).expect("bounds are not negative") << 20)
    }

    /// A secret from a file of its own, without the line feed at its end.
    pub fn secret(&self, key: &str, file: &str) -> Result<Secret, ConfigError> {
        let path = self.file(key, file)?;
        let failed = |why: String| self.key(key, format!("= \"{}\": {why}", path.shown()));
        let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| failed("it is not UTF-8; save it as UTF-8".to_owned()))?;
        // Editors put a mark in front that nobody sees.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// A file that is only read, as the user means it: a credential (`%d/NAME`, as in units, or
    /// `$CREDENTIALS_DIRECTORY/NAME`), or a path as [`Context::path`] takes it.
    ///
    /// # Errors
    /// There is no such credential.
    pub fn file(&self, key: &str, text: &str) -> Result<PathBuf, ConfigError> {
        let forms = ["%d/", "$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/"];
        let Some(name) = forms.iter().find_map(|form| text.strip_prefix(form)) else {
            return Ok(self.path(text));
        };
        let absent = |why: &str| {
            let load = format!("LoadCredential={name}:FILE");
            let way = format!("add {load} to the unit (systemctl edit spotd), or give the path of a file");
            Err(self.key(key, format!("= \"{text}\": {why}; {way}")))
        };
        match &self.credentials {
            None => absent("systemd has given spotd no credentials ($CREDENTIALS_DIRECTORY is not set)"),
            Some(folder) if !folder.join(name).exists() => {
                absent(&format!("systemd has given spotd no credential '{name}'"))
            }
            Some(folder) => Ok(folder.join(name)),
        }
    }

    /// A path as the user means it: relative to the configuration file.
    pub fn path(&self, text: impl AsRef<Path>) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(text)
    }
}

/// serde's `unknown field` message, with the nearest key that exists put first.
pub fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    // Of the environment it says behind that in which table.
    let about = message.split(" for key `").next().unwrap_or_default();
    let quoted: Vec<&str> = about.split('`').skip(1).step_by(2).collect();
    match quoted[..] {
        [unknown, ref known @ ..] if message.contains("unknown field") && !known.is_empty() => {
            let near = known
                .iter()
                .map(|k| (strsim::damerau_levenshtein(unknown, k), k))
                .filter(|(d, k)| *d <= 2.max(k.len() / 3))
                .min();
            let hint = near.map(|(_, k)| format!("did you mean `{k}`? ")).unwrap_or_default();
            format!("unknown key `{unknown}`; {hint}Known here: {}", known.join(", "))
        }
        _ => message.to_owned(),
    }
}
