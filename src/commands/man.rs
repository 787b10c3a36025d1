//! The man pages in `docs/man` agree with the program's help. `UPDATE=1` rewrites them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The commands and their subcommands, as the program knows them.
fn commands() -> Vec<Command> {
    fn gather(command: &Command, all: &mut Vec<Command>) {
        all.push(command.clone());
        command.get_subcommands().filter(|s| !s.is_hide_set()).for_each(|s| gather(s, all));
    }
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let mut all = Vec::new();
    gather(&command, &mut all);
    all
}

/// A heading of the text behind the options, with its lines: a term and what is said of it.
struct Section {
    heading: String,
    lines: Vec<(String, String)>,
}

/// That text as sections: `Examples:`, under it terms by two blanks, under these sentences by six.
fn sections(command: &Command) -> Vec<Section> {
    let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut all: Vec<Section> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        if let Some(meaning) = line.strip_prefix("      ") {
            let said = &mut all.last_mut().expect("a heading").lines.last_mut().expect("a term").1;
            assert!(said.is_empty(), "one line a term: {line}");
            said.push_str(meaning);
        } else if let Some(term) = line.strip_prefix("  ") {
            all.last_mut().expect("a heading").lines.push((term.to_owned(), String::new()));
        } else {
            let heading = line.strip_suffix(':').expect("a heading").to_uppercase();
            all.push(Section { heading, lines: Vec::new() });
        }
    }
    all
}

/// How `roff` defines the apostrophe.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The page, with sections in place of the one text that `clap_mangen` would make of them.
fn page(command: &Command) -> std::io::Result<String> {
    let man =
        Man::new(command.clone()).source(format!("spotd {}", env!("CARGO_PKG_VERSION"))).manual("spotd");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    for Section { heading, lines } in sections(command) {
        roff.control("SH", [&*heading]);
        for (term, meaning) in lines {
            roff.control("TP", []);
            roff.text([bold(term)]);
            roff.text([roman(meaning)]);
        }
    }
    if command.get_name() != "spotd" {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("spotd"), roman("(1), for the environment and the exit status of all commands")]);
    }
    page.write_all(roff.render().as_bytes())?;
    // Each part comes with it; once is enough.
    let text = String::from_utf8(page).expect("text").replace(PREAMBLE, "");
    Ok(format!("{PREAMBLE}{text}"))
}

fn pages(folder: &Path) -> BTreeMap<String, String> {
    let read = |e: std::fs::DirEntry| {
        let text = std::fs::read_to_string(e.path()).expect("readable");
        (e.file_name().to_string_lossy().into_owned(), text)
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(read).collect()
}

#[test]
fn the_man_pages_agree_with_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let name = |command: &Command| Man::new(command.clone()).get_filename();
    let made: BTreeMap<_, _> = commands().iter().map(|c| (name(c), page(c).expect("rendered"))).collect();
    if std::env::var_os("UPDATE").is_some() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("docs/man");
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).expect("written");
        }
    }
    let kept = pages(&folder);
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "run `make man`");
    for (name, text) in made {
        assert!(kept[&name] == text, "docs/man/{name} is not what the help says; run `make man`");
    }
}

#[test]
fn every_page_has_examples_and_says_how_the_command_ends() {
    for command in commands() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let sections = sections(&command);
        let of = |heading: &str| {
            let found = sections.iter().find(|s| s.heading == heading);
            &found.unwrap_or_else(|| panic!("{name} has no {heading}")).lines
        };
        assert!(!of("EXAMPLES").is_empty(), "{name}");
        // 0 and 2 are every command's; what else there is comes between or behind, in order.
        let codes: Vec<u8> =
            of("EXIT STATUS").iter().map(|(code, _)| code.parse().expect("a number")).collect();
        assert!(codes.is_sorted() && codes.contains(&0) && codes.contains(&2), "{name}: {codes:?}");
        for (term, said) in sections.iter().flat_map(|s| &s.lines) {
            assert!(!said.is_empty() && !said.ends_with('.'), "{name}: {term}: {said}");
        }
    }
}

/// The arguments of `spotd` in a line for a shell: its part of a pipe, without variables in front.
fn arguments(line: &str) -> Vec<String> {
    let words = shlex::split(line).unwrap_or_else(|| panic!("no words: {line}"));
    let from = words.iter().position(|w| w == "spotd").unwrap_or_else(|| panic!("no spotd: {line}"));
    words[from..].iter().take_while(|w| !["|", ">", "&&"].contains(&w.as_str())).cloned().collect()
}

#[test]
fn every_example_is_a_command_line_of_its_command() {
    for command in commands() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let examples = sections(&command).into_iter().filter(|s| s.heading == "EXAMPLES");
        for (line, _) in examples.flat_map(|s| s.lines) {
            let found = super::command().try_get_matches_from(arguments(&line));
            let found = found.unwrap_or_else(|e| panic!("{line}: {e}"));
            let (mut path, mut at) = ("spotd".to_owned(), &found);
            while let Some((sub, deeper)) = at.subcommand() {
                path = format!("{path}-{sub}");
                at = deeper;
            }
            assert!(path.starts_with(&name), "{line} is an example of {path}, not of {name}");
        }
    }
}
