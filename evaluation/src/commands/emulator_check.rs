//! `evaluation emulator-check`

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use evaluation::check::{self, Finding};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the checks whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|part| name.contains(part));
    let checks: Vec<_> = check::ALL.iter().filter(|check| wanted(check.name)).collect();
    let mut failed = 0;
    for check in &checks {
        eprint!("{:<14} {} … ", check.name, check.promise);
        // Only a broken standard error could fail here.
        let _ = std::io::stderr().flush();
        let (word, measured) = match (check.run)() {
            Ok(Finding { holds: true, measured }) => ("ok", measured),
            Ok(Finding { holds: false, measured }) => ("NO", measured),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        failed += usize::from(word != "ok");
        eprintln!("{word}");
        println!("{:<14} {word:<6} {measured}", check.name);
    }
    println!("{} passed, {failed} failed", checks.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
