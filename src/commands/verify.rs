//! `spotd verify`: checks whether a flag log, or an export of it, is intact. The crate `spotd-verify` does the work.

use clap::Args;

use super::console;
use super::manual::Manual;

const MANUAL: Manual = Manual {
    examples: &[
        ("spotd verify /var/lib/spotd/flags", "Check a flag log, record by record and picture by picture"),
        (
            "spotd verify --public-key key.pub.pem event-01KAT5V3JFQ8Z6W2C4N9X7D1RB",
            "Check an export and who signed it",
        ),
    ],
    exit_status: &[
        ("0", "All of it holds"),
        ("1", "Something does not hold; the first such record is named"),
        ("2", "The folder is no flag log or cannot be read, or the key cannot be used"),
    ],
    files: &[],
    environment: &[],
};

/// Arguments of `spotd verify`.
#[derive(Debug, Args)]
#[command(after_long_help = MANUAL.text())]
pub struct VerifyCommand {
    #[command(flatten)]
    args: spotd_verify::VerifyArgs,
}

/// Checks a log; 1 if something does not verify.
///
/// # Errors
/// The folder is not a flag log or cannot be read, or the key file is invalid.
pub fn verify(VerifyCommand { args }: VerifyCommand) -> anyhow::Result<u8> {
    let answer = args.verify()?;
    if args.json() {
        answer.lines.iter().try_for_each(|object| console::print_json(object))?;
    } else {
        console::print_lines(&answer.lines)?;
    }
    Ok(answer.exit_code())
}
