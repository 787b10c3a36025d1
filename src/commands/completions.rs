//! `spotd completions`: what a shell needs to complete command lines. The ones of the packages are in
//! `contrib/completions`.

use clap::Args;
use clap_complete::Shell;

use super::manual::Manual;
use super::{EXIT_FINE, command, console};

const MANUAL: Manual = Manual {
    examples: &[
        (
            "spotd completions bash",
            "For ~/.local/share/bash-completion/completions/spotd; packages bring this with them",
        ),
        ("spotd completions zsh", "For a file _spotd in a folder of fpath"),
        ("spotd completions fish", "For ~/.config/fish/completions/spotd.fish"),
    ],
    exit_status: &[("0", "Done"), ("2", "The shell is unknown, or the answer could not be written")],
    files: &[],
    environment: &[],
};

/// Arguments of `spotd completions`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    console::print_lines(&[script(args.shell).trim_end_matches('\n').to_owned()])?;
    Ok(EXIT_FINE)
}

fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "spotd", &mut text);
    String::from_utf8(text).expect("text")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `UPDATE=1` writes them anew.
    #[test]
    fn the_scripts_of_the_packages_agree_with_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/completions");
        for (shell, file) in
            [(Shell::Bash, "spotd.bash"), (Shell::Zsh, "_spotd"), (Shell::Fish, "spotd.fish")]
        {
            let (path, wanted) = (folder.join(file), script(shell));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &wanted).expect("written");
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(there == wanted, "{} is old; `make man` writes it anew", path.display());
            assert!(wanted.contains("log-dir") && wanted.contains("calibrate"), "{wanted}");
        }
    }
}
