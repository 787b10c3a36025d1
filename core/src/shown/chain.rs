//! An error and what caused it, in one line.

use std::error::Error;

/// The text of an error, followed by those of its causes, as `anyhow`'s `{:#}` gives them. Many of our errors name their
/// cause in their own text; what is said already is not said again.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.contains(&own) {
            text += ": ";
            text += &own;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("site.toml: {0}; make it readable")]
        Says(#[source] std::io::Error),
        #[error("site.toml cannot be read")]
        Keeps(#[source] std::io::Error),
    }

    #[test]
    fn each_cause_is_said_once() {
        let cause = || std::io::Error::other("disk on fire");
        assert_eq!(chain(&Failed::Says(cause())), "site.toml: disk on fire; make it readable");
        assert_eq!(chain(&Failed::Keeps(cause())), "site.toml cannot be read: disk on fire");
        let context = anyhow::Error::from(Failed::Says(cause())).context("model");
        assert_eq!(chain(context.as_ref()), "model: site.toml: disk on fire; make it readable");
    }
}
