//! `show`, `link`, `reload` and `down`: what is asked of a portal that runs.

use std::io::IsTerminal;
use std::thread;
use std::time::{Duration, Instant};

use super::args::RunArgs;
use super::failure::{Failure, print_out, say};
use crate::config::{InterfaceName, LinkChange};
use crate::control::{self, ClientError};
use crate::core::snapshot::Snapshot;
use crate::process::lock;
use crate::process::run_dir::RunDir;

/// How long a portal may take to end: it says goodbye to the other one and runs its commands.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks whether a portal has ended.
const DOWN_POLL: Duration = Duration::from_millis(50);

/// How `show` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people: how the bond is, and a line a link.
    Summary,
    /// For people: everything.
    Details,
    /// For programs.
    Json,
}

impl Form {
    fn page(self, snapshot: &Snapshot) -> Result<String, Failure> {
        match self {
            Form::Summary => Ok(control::summary(snapshot, colours())),
            Form::Details => Ok(control::details(snapshot)),
            Form::Json => to_json(snapshot),
        }
    }
}

pub(super) fn show(run: &RunArgs, interface: Option<&InterfaceName>, form: Form) -> Result<(), Failure> {
    let run_dir = run_dir(run)?;
    match interface {
        Some(interface) => {
            let snapshot = control::show(&run_dir.socket(interface))
                .map_err(|error| Failure::asking(interface, &error))?;
            print_out(&form.page(&snapshot)?)
        }
        None => show_all(&run_dir, form),
    }
}

/// Shows each portal that answers; those that do not are told about, and fail the command unless
/// they are dead.
fn show_all(run_dir: &RunDir, form: Form) -> Result<(), Failure> {
    let shown = run_dir.path().display();
    let interfaces =
        run_dir.interfaces().map_err(|error| Failure::new(format!("cannot list {shown}: {error}")))?;
    let mut snapshots = Vec::new();
    let mut failures = Vec::new();
    for interface in &interfaces {
        match control::show(&run_dir.socket(interface)) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(ClientError::NotRunning) => {}
            Err(error) => failures.push(Failure::asking(interface, &error)),
        }
    }
    if form == Form::Json {
        print_out(&to_json(&snapshots)?)?;
    } else {
        let pages: Vec<String> =
            snapshots.iter().map(|snapshot| form.page(snapshot)).collect::<Result<_, _>>()?;
        print_out(&pages.join("\n"))?;
    }
    if snapshots.is_empty() && failures.is_empty() {
        say(&format!("no portal is running in {shown}"));
    }
    match failures.pop() {
        None => Ok(()),
        Some(last) => {
            failures.iter().for_each(Failure::print);
            Err(last)
        }
    }
}

/// Changes a link; what makes no sense is refused before the portal is asked.
pub(super) fn link(
    run: &RunArgs,
    interface: &InterfaceName,
    name: &str,
    change: &[String],
) -> Result<(), Failure> {
    let change: LinkChange = change
        .join(" ")
        .parse()
        .map_err(|allowed| Failure::new(format!("{interface}: link {name}: {allowed}")))?;
    control::link(&run_dir(run)?.socket(interface), name, &change.to_string())
        .map_err(|error| Failure::asking(interface, &error))
}

/// Whether to print in colours: to a terminal that knows them, unless the user wants none (no-color.org).
fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

pub(super) fn reload(run: &RunArgs, interface: &InterfaceName) -> Result<(), Failure> {
    control::reload(&run_dir(run)?.socket(interface)).map_err(|error| Failure::asking(interface, &error))
}

/// Asks the portal to stop and waits until it has given up its lock, the last thing it does.
pub(super) fn down(run: &RunArgs, interface: &InterfaceName) -> Result<(), Failure> {
    let run_dir = run_dir(run)?;
    control::down(&run_dir.socket(interface)).map_err(|error| Failure::asking(interface, &error))?;
    let lock_file = run_dir.pid_file(interface);
    let asked = Instant::now();
    loop {
        let held = lock::is_held(&lock_file).map_err(|error| {
            Failure::new(format!("{interface}: cannot read {}: {error}", lock_file.display()))
        })?;
        if !held {
            return Ok(());
        }
        if asked.elapsed() > DOWN_TIMEOUT {
            let pid = lock::pid(&lock_file).map_or(String::new(), |pid| format!(" (pid {pid})"));
            return Err(Failure::new(format!(
                "{interface}{pid} has not ended within {DOWN_TIMEOUT:?}; see its log"
            )));
        }
        thread::sleep(DOWN_POLL);
    }
}

pub(super) fn run_dir(run: &RunArgs) -> Result<RunDir, Failure> {
    RunDir::new(&run.run_dir).map_err(|error| Failure::new(format!("unusable --run-dir: {error}")))
}

pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|json| json + "\n")
        .map_err(|error| Failure::new(format!("cannot print JSON: {error}")))
}
