//! `test`: why is my bond slow?

use std::io::{self, BufRead, IsTerminal, Write};

use serde::Serialize;

use super::args::TestArgs;
use super::failure::{Failure, print_out, say};
use crate::control;
use crate::core::load_test::{Direction, Measured, Options, Progress, Step};
use crate::core::snapshot::{Link, Snapshot};
use crate::diagnosis::{self, Finding, diagnose, mbit};
use crate::process::run_dir::RunDir;

/// Width of a terminal that nobody widened.
const COLUMNS: usize = 80;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    interface: &'a str,
    version: &'a str,
    test: &'a Progress,
    findings: &'a [Finding],
}

pub(super) fn run(args: &TestArgs) -> Result<(), Failure> {
    let run_dir = RunDir::new(&args.run.run_dir)
        .map_err(|error| Failure::new(format!("unusable --run-dir: {error}")))?;
    let socket = run_dir.socket(&args.interface);
    let asking = |error| Failure::asking(&args.interface, &error);
    let snapshot = control::show(&socket).map_err(asking)?;
    let options = Options {
        links: chosen(args, &snapshot)?,
        step_ms: u64::from(args.seconds) * 1_000,
        bytes: args.megabytes * 1_000_000,
        metered: args.metered || agrees(args, &snapshot)?,
    };
    let mut told = 0;
    let mut failed = Ok(());
    if !args.json {
        print_out(&head(args, &options, &snapshot))?;
    }
    let tell = |progress: &Progress| {
        if args.json || failed.is_err() {
            return;
        }
        for step in progress.steps.iter().skip(told) {
            wipe();
            failed = print_out(&lines(step));
        }
        told = progress.steps.len();
        note(progress);
    };
    let test = control::load_test(&socket, &options, tell).map_err(asking)?;
    failed?;
    let findings = diagnose(&snapshot, &test);
    if args.json {
        let (interface, version) = (args.interface.as_str(), snapshot.version.as_str());
        let report = Report { interface, version, test: &test, findings: &findings };
        let json = serde_json::to_string_pretty(&report);
        return print_out(
            &(json.map_err(|error| Failure::new(format!("cannot print JSON: {error}")))? + "\n"),
        );
    }
    wipe();
    print_out(&verdict(&test, &findings))
}

/// Numbers of the links that are named; none means all.
fn chosen(args: &TestArgs, snapshot: &Snapshot) -> Result<Vec<u8>, Failure> {
    let number = |name: &String| {
        let link = snapshot.links.iter().find(|link| link.name == *name);
        let names: Vec<&str> = snapshot.links.iter().map(|link| link.name.as_str()).collect();
        link.map(|link| link.number).ok_or_else(|| {
            Failure::new(format!("{} has no link {name}; it has {}", args.interface, names.join(", ")))
        })
    };
    args.link.iter().map(number).collect()
}

/// Whether metered links are to be tested too: asks, if there is somebody to ask.
fn agrees(args: &TestArgs, snapshot: &Snapshot) -> Result<bool, Failure> {
    let is_chosen = |link: &&Link| args.link.is_empty() || args.link.contains(&link.name);
    let metered = snapshot.links.iter().filter(is_chosen).filter(|link| link.metered);
    let names: Vec<&str> = metered.map(|link| link.name.as_str()).collect();
    if names.is_empty() {
        return Ok(false);
    }
    let names = names.join(", ");
    if args.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        say(&format!("{names}: metered, so left out; --metered tests it too"));
        return Ok(false);
    }
    let mut out = io::stderr();
    let asked = write!(out, "{names}: metered. Test it too, with up to {} MB in all? [y/N] ", args.megabytes);
    let mut answer = String::new();
    asked
        .and_then(|()| out.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::new(format!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn head(args: &TestArgs, options: &Options, snapshot: &Snapshot) -> String {
    let tested = snapshot.links.iter().filter(|link| {
        let named = options.links.is_empty() || options.links.contains(&link.number);
        named && link.state == "up" && (options.metered || !link.metered)
    });
    let steps = match tested.count() {
        0 | 1 => 2,
        links => 2 * (links as u32 + 1),
    };
    format!(
        "{}: {steps} steps of some {} s, with at most {} MB. Traffic goes on; Ctrl-C ends the test.\n\n\
         {:<5}{:<16}{:>13}{:>9}{:>9}{:>9}{:>8}{:>9}\n",
        args.interface,
        args.seconds + 2,
        args.megabytes,
        "",
        "link",
        "rate",
        "idle ms",
        "full ms",
        "queue ms",
        "loss",
        "reorder",
    )
}

/// A line for each link of a step, and one for the sum.
fn lines(step: &Step) -> String {
    let word = match step.direction {
        Direction::Out => "out",
        Direction::In => "in",
    };
    if let Some(trouble) = &step.trouble {
        return format!("{word:<5}{trouble}\n");
    }
    if !step.together {
        return step.links.iter().map(|link| line(word, link)).collect();
    }
    let sum: f64 = step.links.iter().map(|link| link.rate_bps).sum();
    let parts: Vec<String> =
        step.links.iter().map(|link| format!("{} {:.1}", link.name, link.rate_bps / 1e6)).collect();
    wrapped(&format!("{word:<5}{:<16}{:>13}  = {}", "all together", mbit(sum), parts.join(" + ")), 36)
}

fn line(word: &str, link: &Measured) -> String {
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let beyond = if link.queue_ms.is_some() && !link.queue_overflowed { ">" } else { "" };
    format!(
        "{word:<5}{:<16}{:>13}{:>9}{:>9}{:>9}{:>8}{:>9}\n",
        shortened(&link.name, 15),
        mbit(link.rate_bps),
        ms(link.idle_rtt_ms),
        ms(link.loaded_rtt_ms),
        format!("{beyond}{}", ms(link.queue_ms)),
        percent(link.loss),
        link.reordered.map_or("-".to_owned(), percent),
    )
}

fn shortened(name: &str, most: usize) -> String {
    name.chars().take(most).collect()
}

/// What is being measured, on a line that will be wiped; only for people.
fn note(progress: &Progress) {
    let Some(current) = progress.current.as_ref().filter(|_| io::stderr().is_terminal()) else { return };
    let way = match current.direction {
        Direction::Out => "sending over",
        Direction::In => "receiving over",
    };
    let step = progress.steps.len() + 1;
    let text = format!("[{step}/{}] {way} {}", progress.planned_steps, current.links.join(", "));
    // Nothing is lost if that cannot be shown.
    let _ =
        write!(io::stderr(), "\r\x1b[K{}", shortened(&text, COLUMNS - 1)).and_then(|()| io::stderr().flush());
}

/// Takes away what [`note`] wrote.
fn wipe() {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K").and_then(|()| io::stderr().flush());
    }
}

fn verdict(test: &Progress, findings: &[Finding]) -> String {
    let total = |direction| diagnosis::total(test, direction).map_or("not measured".to_owned(), mbit);
    let mut text =
        format!("\nThe bond carries {} out, {} in.\n", total(Direction::Out), total(Direction::In));
    for (number, finding) in (1..).zip(findings) {
        text += "\n";
        text += &wrapped(&format!("{number}. {}", finding.what), 3);
        text += &wrapped(&format!("   -> {}", finding.advice), 6);
    }
    text
}

/// Lines of at most [`COLUMNS`], each but the first indented by so many spaces.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    // The text's own spaces at its beginning stay.
    for word in text.split_inclusive(' ') {
        let len = word.trim_end().chars().count();
        if column + len > COLUMNS {
            lines = lines.trim_end_matches(' ').to_owned();
            lines += "\n";
            lines += &" ".repeat(indent);
            column = indent;
        }
        lines += word;
        column += word.chars().count();
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Cause;

    fn link() -> Measured {
        Measured {
            number: 1,
            name: "a-name-that-is-longer".to_owned(),
            rate_bps: 23_940_000.0,
            idle_rtt_ms: Some(30.2),
            loaded_rtt_ms: Some(34.0),
            queue_ms: Some(312.0),
            loss: 0.021,
            ..Measured::default()
        }
    }

    fn step(together: bool, links: Vec<Measured>) -> Step {
        let direction = Direction::Out;
        Step { direction, together, trouble: None, links, busy_here: None, busy_there: None }
    }

    #[test]
    fn a_step_is_a_line_a_link() {
        let shown = "out  a-name-that-is-   23.9 Mbit/s       30       34     >312   2.1 %        -\n";
        assert_eq!(lines(&step(false, vec![link()])), shown);
        let sum = "out  all together      47.9 Mbit/s  = a-name-that-is-longer 23.9 +\n";
        let both = lines(&step(true, vec![link(), link()]));
        assert!(both.starts_with(sum), "{both}");
    }

    #[test]
    fn everything_fits_a_terminal() {
        let words = "word ".repeat(40);
        let finding = Finding {
            cause: Cause::AllWell,
            links: Vec::new(),
            what: words.trim_end().to_owned(),
            advice: words.trim_end().to_owned(),
        };
        let test = Progress { steps: vec![step(false, vec![link()])], ..Progress::default() };
        let text = verdict(&test, &[finding]);
        assert!(
            text.starts_with("\nThe bond carries 23.9 Mbit/s out, not measured in.\n\n1. word"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS && !line.ends_with(' ')), "{text}");
        assert!(text.contains("\n   word") && text.contains("\n   -> word") && text.contains("\n      word"));
    }
}
