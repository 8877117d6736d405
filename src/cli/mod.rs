//! The command line: arguments in, an exit code out, and on standard error one line for each
//! thing that went wrong.
//!
//! Exit codes: 0 all went well, 1 it did not, 2 the arguments make no sense.

mod args;
mod ask;
mod events;
mod failure;
mod genkey;
mod routes;
mod setup;
mod test;
mod top;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::config::{Config, Errors, Warning, nearest};
use args::{Args, Command};
use ask::Form;
use events::Wanted;
use failure::{Failure, say};

pub use up::{CONFIG_DIR, Up, UpResult};

/// Does what `args`, the program's name included, ask for; `up` runs a portal until it ends.
pub fn run(args: impl IntoIterator<Item = OsString>, up: fn(Up) -> UpResult) -> ExitCode {
    let words: Vec<OsString> = args.into_iter().collect();
    let args = match Args::try_parse_from(&words) {
        Ok(args) => args,
        Err(error) => {
            match no_command(&error, &words) {
                Some(line) => say(&line),
                // Nothing is left to be done if standard error is closed.
                None => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match args.command {
        None => up::run(args.up, up),
        Some(Command::Check { file }) => check(&file),
        Some(Command::Genkey) => genkey::run(),
        Some(Command::Show { interface, details, json, run }) => {
            let form = match (json, details) {
                (true, _) => Form::Json,
                (false, true) => Form::Details,
                (false, false) => Form::Summary,
            };
            ask::show(&run, interface.as_ref(), form)
        }
        Some(Command::Events { interface, follow, json, since, run }) => {
            events::run(&run, &interface, &Wanted { since, follow, json })
        }
        Some(Command::Link { interface, name, change, run }) => ask::link(&run, &interface, &name, &change),
        Some(Command::Top { interface, json, run }) => top::run(&run, &interface, json),
        Some(Command::Reload { interface, run }) => ask::reload(&run, &interface),
        Some(Command::Test(args)) => test::run(&args),
        Some(Command::Down { interface, run }) => ask::down(&run, &interface),
        Some(Command::Setup { side }) => setup::run(side),
        Some(Command::Routes { role, arguments }) => routes::run(role.0, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// What is wrong with words of which the first was taken for an interface, though more follow.
fn no_command(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let [first, second] = [1, 2].map(|at| words.get(at).and_then(|word| word.to_str()));
    let (first, second) = first.zip(second).filter(|_| error.kind() == ErrorKind::ArgumentConflict)?;
    let definition = definition();
    let is_command = |word| definition.find_subcommand(word).is_some();
    if is_command(first) || first.starts_with('-') {
        // It is options that contradict each other.
        return None;
    }
    if is_command(second) {
        return Some(format!("the command comes first: netcombiner {second} {first}"));
    }
    let meant = nearest_command(first).unwrap_or("--help".to_owned());
    Some(format!("there is no command {first}: try netcombiner {meant}"))
}

/// The command that `word` is most likely a slip of.
fn nearest_command(word: &str) -> Option<String> {
    let definition = definition();
    let names: Vec<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
    nearest(word, &names).map(str::to_owned)
}

/// What may be written on the command line, for manual pages and completions.
pub fn definition() -> clap::Command {
    Args::command()
}

/// Prints everything that is wrong with a configuration.
fn check(file: &Path) -> Result<(), Failure> {
    // The name of a file that is there is no interface's.
    let name = file.to_str().filter(|_| !file.exists());
    let of_interface = name.and_then(|name| name.parse().ok()).map(|interface| up::config_of(&interface));
    let file = of_interface.as_deref().unwrap_or(file);
    match Config::load(file) {
        Ok((config, warnings)) => {
            remark(&warnings);
            let links = config.peers.len();
            let plural = if links == 1 { "" } else { "s" };
            failure::print_out(&format!("{}: OK, {links} link{plural}\n", file.display()))
        }
        Err(errors) => Err(refuse(errors)),
    }
}

/// Prints the warnings that go with `errors`, which are left for the caller to fail with.
fn refuse(errors: Errors) -> Failure {
    remark(errors.warnings());
    Failure::new(errors.to_string())
}

fn remark(warnings: &[Warning]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}
