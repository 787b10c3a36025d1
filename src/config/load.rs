//! From text and environment to a validated [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::environment::{environment, merge};
use super::raw::RawConfig;
use super::{Config, ModelConfig};
use crate::identity::Wanted;
use crate::settings::{CREDENTIALS, ConfigError, Context, ENV_PREFIX, MAX_NAME};
use crate::source::SourceConfig;
use crate::verdict::VerdictConfig;

/// Reads the file, then the environment, and validates the result.
///
/// # Errors
/// [`ConfigError`].
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    parse(&text, path, environment()?)
}

/// As [`load`], from the given text and environment; `path` is for messages and for paths relative
/// to the file.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse(
    text: &str,
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut variables: BTreeMap<String, String> =
        environment.into_iter().filter(|(k, _)| k == CREDENTIALS || k.starts_with(ENV_PREFIX)).collect();
    let credentials = variables.remove(CREDENTIALS).map(PathBuf::from);
    let context = Context { text, path, variables, credentials };
    // The file alone first, because its errors can name a line.
    if let Err(error) = toml::from_str::<RawConfig>(text) {
        return Err(context.syntax(&error));
    }
    let raw = merge(&context)?;
    validate(raw, &context)
}

fn validate(raw: RawConfig, cx: &Context<'_>) -> Result<Config, ConfigError> {
    let node = match raw.node.name {
        Some(name) if name.trim().is_empty() => return Err(cx.key("node.name", "must not be empty")),
        // It is part of every topic and record.
        Some(name) if name.chars().count() > MAX_NAME => {
            let count = name.chars().count();
            return Err(cx.key("node.name", format!("has {count} characters; give it {MAX_NAME} at most")));
        }
        Some(name) => name,
        None => host_name(),
    };
    let model = ModelConfig {
        path: raw.model.path.as_deref().map(|p| cx.path(p)),
        precision: raw.model.precision.as_deref().map_or(Ok(Wanted::Auto), |text| {
            text.parse().map_err(|e: String| cx.key("model.precision", format!("= \"{text}\" {e}")))
        })?,
        calibration: raw.model.calibration.as_deref().map(|p| cx.file("model.calibration", p)).transpose()?,
        workers: cx.count("model.workers", raw.model.workers, cores(), 1, 256)?,
        max_tiles: cx.count("model.max_tiles", raw.model.max_tiles, 9, 1, 1000)?,
    };
    if raw.source.is_empty() {
        return Err(cx.invalid(
            None,
            "there is nothing to watch; add a [[source]] with id and uri, for instance uri = \"/dev/video0\""
                .into(),
        ));
    }
    let mut sources: Vec<SourceConfig> = Vec::new();
    for (i, source) in raw.source.into_iter().enumerate() {
        let source = source.validate(i, cx)?;
        if sources.iter().any(|s| s.id == source.id) {
            return Err(cx.key(&format!("source[{i}].id"), format!("= \"{}\" is used twice", source.id)));
        }
        sources.push(source);
    }
    let v = raw.verdict;
    let defaults = VerdictConfig::default();
    let window = cx.count("verdict.window", v.window, defaults.window, 1, 1000)?;
    let verdict = VerdictConfig {
        window,
        min_frames: cx.count(
            "verdict.min_frames",
            v.min_frames,
            defaults.min_frames.min(window),
            1,
            i64::try_from(window).expect("at most 1000"),
        )?,
        threshold: v
            .threshold
            .map(|t| cx.number("verdict.threshold", Some(t), t, 0.001, 0.9999))
            .transpose()?,
        unsure_from: v
            .unsure_from
            .map(|t| cx.number("verdict.unsure_from", Some(t), t, 0.001, 0.9999))
            .transpose()?,
        hysteresis: cx.number("verdict.hysteresis", v.hysteresis, defaults.hysteresis, 0.0, 0.5)?,
        forget_after: cx.seconds(
            "verdict.forget_seconds",
            v.forget_seconds,
            defaults.forget_after.as_secs_f64(),
            0.1,
            86_400.0,
        )?,
        jump: v.jump.map(|j| cx.number("verdict.jump", Some(j), j, 0.5, 18.0)).transpose()?,
    };
    if let (Some(t), Some(u)) = (verdict.threshold, verdict.unsure_from)
        && u > t
    {
        return Err(cx.key("verdict.unsure_from", format!("= {u} must not be above threshold = {t}")));
    }
    let (log, retention) = raw.log.validate(cx)?;
    let sign_key = raw.log.sign_key.as_deref().map(|f| cx.file("log.sign_key", f)).transpose()?;
    let mqtt = raw.mqtt.map(|m| m.validate(cx)).transpose()?;
    let webhooks = crate::publish::webhook::validate(raw.webhook, cx)?;
    let metrics = raw.metrics.map(|m| m.validate(cx)).transpose()?;
    let web = raw.web.validate(cx)?;
    Ok(Config { node, model, sources, verdict, log, retention, sign_key, mqtt, webhooks, metrics, web })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine's name, for a node without one.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|s| s.trim().to_owned())
        .ok()
        .filter(|s| !s.is_empty())
        .unwrap_or_else(|| "spotd".into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const GOOD: &str =
        "[node]\nname = \"door\"\n\n[[source]]\nid = \"cam\"\nuri = \"/dev/video0\"\n";

    pub(in super::super) fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        parse(text, Path::new("etc/spotd.toml"), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    fn refused(text: &str) -> String {
        with(text, &[]).expect_err(text).to_string()
    }

    #[test]
    fn a_small_file_is_enough() {
        let c = with(GOOD, &[]).expect("valid");
        assert_eq!((c.node.as_str(), c.sources.len(), c.sources[0].fps), ("door", 1, 2.0));
        assert!(c.mqtt.is_none());
    }

    #[test]
    fn a_misspelt_key_is_named_with_file_line_and_the_nearest_one() {
        let error = refused(&GOOD.replace("uri =", "url ="));
        assert!(
            error.contains("etc/spotd.toml:6") && error.contains("`url`") && error.contains("`uri`"),
            "{error}"
        );
        let error = refused(&format!("{GOOD}\n[verdit]\nwindow = 3\n"));
        assert!(error.contains(":8") && error.contains("`verdict`"), "{error}");
    }

    #[test]
    fn no_value_shows_a_login() {
        let address = "rtsp://admin:S3K #1/S3K@cam/1";
        let place = |text: &str| GOOD.replace("\"/dev/video0\"", text);
        for text in [
            place(&format!("\"{address}\"\nfps = \"{address}\"")),
            place(&format!("\"x\"\nid = \"{address}\"")).replace("id = \"cam\"\n", ""),
            place(&format!("\"{address}\"")),
            place(&format!("\"{address}")),
            format!("{GOOD}[model]\nprecision = \"{address}\"\n"),
            format!("{GOOD}[mqtt]\nurl = \"{address}\"\n"),
            format!("{GOOD}[mqtt]\nurl = \"mqtt://b\"\nversion = \"{address}\"\n"),
            format!("{GOOD}[metrics]\nfile = \"{address}\"\n"),
        ] {
            let error = refused(&text);
            assert!(!error.contains("S3K"), "{error}");
        }
        for name in ["SPOTD__SOURCE", "SPOTD__LOG", "SPOTD__VERDICT__WINDOW", "SPOTD__MODEL__PRECISION"] {
            let error = with(GOOD, &[(name, address)]).expect_err(name).to_string();
            assert!(!error.contains("S3K") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn wrong_values_name_key_line_and_range() {
        for (text, words) in [
            (format!("{GOOD}fps = 0.0\n"), ["spotd.toml:7", "source[0].fps", "0.01"]),
            (format!("{GOOD}fps = \"fast\"\n"), ["spotd.toml:7", "invalid type", "fast"]),
            (GOOD.replace("\"cam\"", "\"a/b\""), ["spotd.toml:5", "source[0].id", "letters"]),
            (GOOD.replace("/dev/video0", "rstp://x"), ["spotd.toml:6", "source[0].uri", "rtsp"]),
            (format!("{GOOD}[[source]]\nid = \"cam\"\nuri = \"x.mp4\"\n"), ["spotd.toml:8", "cam", "twice"]),
            (
                format!("{GOOD}[verdict]\nwindow = 3\nmin_frames = 4\n"),
                ["spotd.toml:9", "min_frames", "between 1 and 3"],
            ),
            (format!("{GOOD}[mqtt]\nurl = \"http://b\"\n"), ["spotd.toml:8", "mqtt.url", "mqtts://"]),
            (
                format!("{GOOD}[mqtt]\nurl = \"mqtt://u:p@b\"\n"),
                ["spotd.toml:8", "mqtt.url", "password_file"],
            ),
            ("[node]\nname = \"x\"\n".into(), ["spotd.toml", "nothing to watch", "[[source]]"]),
            (GOOD.replace("door", &"ü".repeat(129)), ["spotd.toml:2", "node.name", "128 at most"]),
            (format!("{GOOD}[model]\nprecision = \"f16\"\n"), ["spotd.toml:8", "model.precision", "auto"]),
        ] {
            let error = refused(&text);
            for word in words {
                assert!(error.contains(word), "'{word}' is missing in: {error}");
            }
        }
    }

    #[test]
    fn a_password_file_is_what_is_to_be_read_in_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("password");
        let text = format!(
            "{GOOD}[mqtt]\nurl = \"mqtt://b\"\nuser = \"u\"\npassword_file = {:?}\n",
            file.to_string_lossy()
        );
        for (bytes, password) in [
            (&b"geheim\n"[..], "geheim"),
            (b"\xef\xbb\xbfgeheim\r\n", "geheim"),
            (b" two words ", " two words "),
            (b"\xef\xbb\xbf", ""),
        ] {
            std::fs::write(&file, bytes).expect("written");
            let mqtt = with(&text, &[]).expect("valid").mqtt.expect("set");
            assert_eq!(mqtt.password.expect("set").expose(), password);
        }
        // UTF-16, as PowerShell writes it.
        std::fs::write(&file, b"\xff\xfeg\0e\0h\0").expect("written");
        let error = refused(&text);
        assert!(error.contains("spotd.toml:10") && error.contains("UTF-8"), "{error}");
        // The configuration itself may begin with a byte order mark.
        with(&format!("\u{feff}{GOOD}"), &[]).expect("valid");
    }

    #[test]
    fn a_credential_of_systemd_is_read_and_a_missing_one_is_named_with_the_way_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("broker"), "geheim\n").expect("written");
        let text = |file: &str| {
            format!("{GOOD}[mqtt]\nurl = \"mqtt://b\"\nuser = \"u\"\npassword_file = \"{file}\"\n")
        };
        let folder = dir.path().to_string_lossy().into_owned();
        let given = [("CREDENTIALS_DIRECTORY", &*folder)];
        for file in ["%d/broker", "$CREDENTIALS_DIRECTORY/broker", "${CREDENTIALS_DIRECTORY}/broker"] {
            let mqtt = with(&text(file), &given).expect("valid").mqtt.expect("set");
            assert_eq!(mqtt.password.expect("set").expose(), "geheim");
        }
        for (given, why) in [(&given[..], "no credential 'brokr'"), (&[], "no credentials")] {
            let error = with(&text("%d/brokr"), given).expect_err("missing").to_string();
            for word in ["spotd.toml:10", "mqtt.password_file", "%d/brokr", why, "LoadCredential=brokr:FILE"]
            {
                assert!(error.contains(word), "'{word}' is missing in: {error}");
            }
        }
    }

    #[test]
    fn passwords_stay_out_of_debug_output() {
        let text = format!("{GOOD}[mqtt]\nurl = \"mqtt://b\"\nuser = \"u\"\npassword = \"hunter2\"\n");
        let config = with(&text, &[]).expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.mqtt.and_then(|m| m.password).expect("set").expose(), "hunter2");
    }

    #[test]
    fn a_password_from_the_environment_is_taken_as_it_is() {
        let text = format!("{GOOD}[mqtt]\nurl = \"mqtt://b\"\n");
        for password in ["0123", "1e5", "true", "p w#\"'", ""] {
            let env = [("SPOTD__MQTT__USER", "007"), ("SPOTD__MQTT__PASSWORD", password)];
            let mqtt = with(&text, &env).expect("valid").mqtt.expect("set");
            assert_eq!(mqtt.user.as_deref(), Some("007"));
            assert_eq!(mqtt.password.expect("set").expose(), password);
        }
    }

    #[test]
    fn a_password_of_the_wrong_type_is_not_shown() {
        for value in ["31337", "[31337]", "31337.5", "{ a = 31337 }"] {
            let error =
                refused(&format!("{GOOD}[mqtt]\nurl = \"mqtt://b\"\nuser = \"u\"\npassword = {value}\n"));
            assert!(!error.contains("31337"), "{error}");
            assert!(error.contains("spotd.toml:") && error.contains("in quotes"), "{error}");
        }
    }

    #[test]
    fn mqtt_settings_that_do_not_go_together_are_named() {
        for (lines, words) in [
            ("url = \"mqtts://b\"\nclient_cert_file = \"c\"", ["spotd.toml:9", "client_key_file"]),
            ("url = \"mqtts://b\"\nclient_key_file = \"k\"", ["spotd.toml:9", "client_cert_file"]),
            ("url = \"mqtt://b\"\nca_file = \"c\"", ["spotd.toml:8", "mqtts://"]),
            ("url = \"mqtt://b\"\nversion = \"4\"", ["spotd.toml:9", "3.1.1"]),
            ("url = \"mqtt://b\"\ncatch_up_rate = 0.0", ["spotd.toml:9", "between 1"]),
            ("url = \"mqtt://b\"\nprefix = \"a/b\"", ["spotd.toml:9", "one topic level"]),
            ("url = \"mqtt://b\"\ndiscovery_prefix = \"#\"", ["spotd.toml:9", "one topic level"]),
            (
                &format!("url = \"mqtt://b\"\nprefix = \"{}\"", "x".repeat(129)),
                ["spotd.toml:9", "128 at most"],
            ),
            (
                &format!("url = \"mqtt://b\"\nuser = \"{}\"", "x".repeat(65_536)),
                ["spotd.toml:9", "65535 bytes"],
            ),
        ] {
            let error = refused(&format!("{GOOD}[mqtt]\n{lines}\n"));
            for word in words {
                assert!(error.contains(word), "'{word}' is missing in: {error}");
            }
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let c = with(&format!("{GOOD}[log]\ndir = \"flags\"\n"), &[]).expect("valid");
        assert_eq!(c.log.dir, Path::new("etc/flags"));
    }
}
