//! Environment variables that set keys: `SPOTD__MODEL__WORKERS=2`.

use std::collections::BTreeMap;

use super::raw::RawConfig;
use crate::settings::{CREDENTIALS, ConfigError, Context, ENV_PREFIX, of_variable, with_suggestion};
use crate::shown::{Shown as _, redact};

/// The variables that set keys, and the one that names the credentials. The rest of the environment is not ours and may contain anything.
///
/// # Errors
/// [`ConfigError::Invalid`] for one whose name or value is not UTF-8.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter(|(name, _)| name == CREDENTIALS || name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes()))
        .map(|(name, value)| match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            (Ok(name), Err(_)) => {
                Err(of_variable(&name, "has a value that is not UTF-8; set it again".into()))
            }
            (Err(name), _) => {
                Err(of_variable(&name.shown(), "has a name that is not UTF-8; unset it".into()))
            }
        })
        .collect()
}

/// File, then environment, through the `config` crate.
pub(super) fn merge(context: &Context<'_>) -> Result<RawConfig, ConfigError> {
    let error = match merged(context.text, &context.variables) {
        Ok(raw) => return Ok(raw),
        Err(error) => error,
    };
    if let Err(error) = merged(context.text, &BTreeMap::new()) {
        return Err(context.invalid(None, with_suggestion(&error.to_string())));
    }
    // The crate does not say which variable is wrong, so each is tried alone.
    let alone = |(name, value): (&String, &String)| {
        let error = merged(context.text, &BTreeMap::from([(name.clone(), value.clone())])).err()?;
        let mut reason = error.to_string();
        if !value.is_empty() {
            reason = reason.replace(value, &value.shown());
        }
        Some(of_variable(name, redact(&with_suggestion(&reason))))
    };
    Err(context.variables.iter().find_map(alone).unwrap_or_else(|| {
        let names: Vec<&str> = context.variables.keys().map(String::as_str).collect();
        let place = format!("environment ({})", names.join(", "));
        ConfigError::Invalid { place, reason: redact(&with_suggestion(&error.to_string())) }
    }))
}

/// Values from the environment are text, whatever they look like: `007` is a name too. Where a key
/// is a number or a boolean, it is parsed from the text.
fn merged(text: &str, variables: &BTreeMap<String, String>) -> Result<RawConfig, config::ConfigError> {
    config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .add_source(
            config::Environment::with_prefix("SPOTD")
                .prefix_separator("__")
                .separator("__")
                .source(Some(variables.clone().into_iter().collect())),
        )
        .build()
        .and_then(config::Config::try_deserialize::<RawConfig>)
}

#[cfg(test)]
mod tests {
    use super::super::load::tests::{GOOD, with};

    #[test]
    fn the_environment_comes_after_the_file() {
        let c =
            with(GOOD, &[("SPOTD__NODE__NAME", "roof"), ("SPOTD__VERDICT__WINDOW", "21"), ("HOME", "/x")])
                .expect("valid");
        assert_eq!((c.node.as_str(), c.verdict.window), ("roof", 21));
    }

    #[test]
    fn texts_of_the_environment_stay_what_they_are() {
        for text in ["007", "0.10", "1e5", "true", "0x10", " a b "] {
            let c = with(GOOD, &[("SPOTD__NODE__NAME", text)]).expect("valid");
            assert_eq!(c.node, text);
        }
        let env = [
            ("SPOTD__VERDICT__WINDOW", "21"),
            ("SPOTD__VERDICT__HYSTERESIS", "0.10"),
            ("SPOTD__MQTT__URL", "mqtt://b"),
            ("SPOTD__MQTT__SNAPSHOTS", "true"),
        ];
        let c = with(GOOD, &env).expect("valid");
        assert_eq!((c.verdict.window, c.verdict.hysteresis), (21, 0.1));
        assert!(c.mqtt.expect("set").snapshots);
    }

    #[test]
    fn an_error_of_the_environment_names_its_variable_alone() {
        let more = ("SPOTD__NODE__NAME", "door");
        for (name, value, words) in [
            ("SPOTD__MODEL__WORKRES", "2", ["`workres`", "`workers`"]),
            ("SPOTD__VERDICT__WINDOW", "many", ["many", "window"]),
            ("SPOTD__VERDICT__WINDOW", "5000", ["verdict.window = 5000", "between 1 and 1000"]),
            ("SPOTD__VERDICT__WINDOW", "", ["window", "integer"]),
            ("SPOTD__MQTT__URL", "http://b", ["mqtt.url", "mqtts://"]),
            ("SPOTD__LOG", "x", ["log", "struct"]),
        ] {
            let text = format!("{GOOD}[verdict]\nwindow = 3\n");
            let error = with(&text, &[(name, value), more]).expect_err(value).to_string();
            assert!(error.starts_with(&format!("environment variable {name}: ")), "{error}");
            for word in words {
                assert!(error.contains(word), "'{word}' is missing in: {error}");
            }
            assert!(!error.contains("spotd.toml") && !error.contains("NODE"), "{error}");
            // The known keys are those of the table, without the table's own name.
            assert!(!error.ends_with(", model"), "{error}");
        }
        // The line in the file is correct, and the environment's part is mentioned.
        let text = format!("{GOOD}[verdict]\nunsure_from = 0.5\n");
        let error = with(&text, &[("SPOTD__VERDICT__THRESHOLD", "0.4")]).expect_err("refused").to_string();
        assert!(
            error.contains("spotd.toml:8") && error.contains("sets SPOTD__VERDICT__THRESHOLD"),
            "{error}"
        );
    }
}
