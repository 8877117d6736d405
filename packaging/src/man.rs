//! The manual pages: netcombiner(8) and one of each subcommand from the definition of the command line,
//! netcombiner(5) from what the README says of the configuration.

use anyhow::ensure;
use clap_mangen::Man;
use netcombiner::cli;
use roff::{Roff, bold, roman};

use crate::File;
use crate::markdown::{self, Block};

const MANUAL: &str = "Netcombiner";
const README: &str = include_str!("../../README.md");
const EXAMPLES: [(&str, &str); 2] = [
    (
        "The local portal, /etc/netcombiner/nc0, with two links:",
        include_str!("../../config-examples/dsl-and-lte/local/nc0"),
    ),
    ("The remote portal:", include_str!("../../config-examples/dsl-and-lte/remote/nc0")),
];

/// All pages.
///
/// # Errors
///
/// If the README has no section on the configuration.
pub(crate) fn pages() -> anyhow::Result<Vec<File>> {
    let mut pages = vec![configuration()?];
    let mut definition = cli::definition();
    definition.build();
    commands(&definition, &mut pages)?;
    Ok(pages)
}

/// Adds the page of `command` and those of its subcommands.
fn commands(command: &clap::Command, pages: &mut Vec<File>) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    pages.push(File { name: format!("{name}.8"), text: command_page(command)? });
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        commands(command, pages)?;
    }
    Ok(())
}

fn command_page(command: &clap::Command) -> anyhow::Result<String> {
    // The forms that --help prints; else one with both an interface and a subcommand would be shown.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let has_subcommands = command.has_subcommands();
    let is_program = command.get_name() == "netcombiner";
    let man = Man::new(command.clone().override_usage(usage)).section("8").manual(MANUAL).source(source());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    let mut tail = Roff::new();
    if let Some(text) = command.get_after_help() {
        examples(&mut tail, &text.to_string());
    }
    if is_program {
        files(&mut tail);
    }
    tail.control("SH", ["EXIT STATUS"]);
    markdown::term(&mut tail, "0", "All went well.");
    markdown::term(&mut tail, "1", "It did not; standard error says why.");
    markdown::term(&mut tail, "2", "The arguments make no sense.");
    see_also(&mut tail);
    tail.to_writer(&mut page)?;
    Ok(String::from_utf8(page)?)
}

/// What stands below the options in `--help`: indented lines as they are, the others as paragraphs.
fn examples(page: &mut Roff, text: &str) {
    page.control("SH", ["EXAMPLES"]);
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with("Example")).collect();
    for lines in lines.chunk_by(|a, b| a.starts_with("  ") == b.starts_with("  ")) {
        if lines[0].starts_with("  ") {
            markdown::verbatim(page, lines.iter().map(|line| &line[2..]));
        } else {
            markdown::paragraph(page, &lines.join(" "));
        }
    }
}

fn files(page: &mut Roff) {
    page.control("SH", ["FILES"]);
    let config = format!("`{}/`INTERFACE", cli::CONFIG_DIR);
    markdown::term(page, &config, "The configuration of a portal, see netcombiner(5). Mode 0600.");
    let run_dir = format!("`{}`", netcombiner::process::run_dir::DEFAULT);
    markdown::term(page, &run_dir, "The lock and the control socket of each portal that runs.");
}

fn see_also(page: &mut Roff) {
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("netcombiner"), roman("(5), "), bold("netcombiner"), roman("(8)")]);
}

fn source() -> String {
    format!("netcombiner {}", env!("CARGO_PKG_VERSION"))
}

/// netcombiner(5).
fn configuration() -> anyhow::Result<File> {
    let blocks = markdown::section(README, "Configuration");
    ensure!(!blocks.is_empty(), "README.md has no section Configuration");
    let mut page = Roff::new();
    page.control("TH", ["netcombiner", "5", "", &source(), MANUAL]);
    page.control("SH", ["NAME"]).text([roman("netcombiner - configuration of a portal")]);
    page.control("SH", ["SYNOPSIS"]).text([bold(format!("{}/", cli::CONFIG_DIR)), roman("INTERFACE")]);
    page.control("SH", ["DESCRIPTION"]);
    for block in &blocks {
        if let Block::Paragraph(text) = block {
            markdown::paragraph(&mut page, text);
        }
    }
    markdown::paragraph(
        &mut page,
        "Sections, keys and the words among the values may be written in any case. A line that starts with \
         `#` or `;` is a comment, and so is what follows white space and `#` on any line.",
    );
    for block in &blocks {
        if let Block::Table(head, rows) = block {
            let title = format!("KEYS OF {}", head.trim_matches('`'));
            page.control("SH", [title.as_str()]);
            for (keys, text) in rows {
                markdown::term(&mut page, keys, text);
            }
        }
    }
    page.control("SH", ["EXAMPLES"]);
    for (title, text) in EXAMPLES {
        markdown::paragraph(&mut page, title);
        markdown::verbatim(&mut page, text.lines());
    }
    see_also(&mut page);
    Ok(File { name: "netcombiner.5".to_owned(), text: page.render() })
}

#[cfg(test)]
mod tests {
    use netcombiner::config::{HOST_KEYS, PEER_KEYS};

    use super::*;

    #[test]
    fn every_key_is_in_the_page_of_the_configuration() {
        let text = configuration().expect("a page").text;
        // Terms only: a key that another one's text names is not explained by that.
        let terms: Vec<&str> = text
            .lines()
            .scan("", |before, line| Some((std::mem::replace(before, line), line)))
            .filter(|(before, _)| *before == ".TP")
            .map(|(_, line)| line)
            .collect();
        for key in HOST_KEYS.iter().chain(PEER_KEYS) {
            let bold = format!("\\fB{key}\\fR");
            assert!(terms.iter().any(|term| term.contains(&bold)), "README.md says nothing of {key}");
        }
    }

    #[test]
    fn every_subcommand_has_a_page_with_an_example() {
        let pages = pages().expect("pages");
        for command in cli::definition().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("netcombiner-{}.8", command.get_name());
            let page = pages.iter().find(|page| page.name == name).expect("a page");
            assert!(page.text.contains(&format!("netcombiner {}", command.get_name())), "{}", page.text);
            assert!(page.text.contains(".SH EXAMPLES"), "{}", page.text);
        }
    }
}
