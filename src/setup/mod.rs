//! Set-up of a portal's system in one command: the configuration, the service, and with `undo` the way back.
//!
//! Whatever is made is first noted in a [`journal`], so that `undo` takes back exactly that. What leads packets into
//! the tunnel is made by the portal itself at its start, and undone at its end (`process::routes`); the files made
//! here only ask for it. The remote portal's side makes a [`Pairing`], which tells the local portal's all it must know.

mod journal;
mod local;
mod pairing;
mod plan;
mod remote;
mod service;
mod system;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::InterfaceName;
use crate::process::run_dir::{self, RunDir};

pub use local::{Link, LinkRoute, LocalOptions, LocalOutcome, local};
pub use pairing::{Manner, Pairing, PairingError};
pub use remote::{RemoteOptions, RemoteOutcome, remote};

use journal::Journal;

/// Where the journals are unless the command line says otherwise.
pub const STATE_DIR: &str = "/var/lib/netcombiner";

/// Why a set-up was not made or not undone; one line for people.
#[derive(Debug)]
pub struct SetupError(String);

impl SetupError {
    fn new(reason: impl Into<String>) -> SetupError {
        SetupError(reason.into())
    }

    /// What the system says about doing something with a path.
    fn file(what: &str, path: &Path, error: &io::Error) -> SetupError {
        SetupError(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SetupError {}

/// Whose set-up, and where its files are.
#[derive(Debug)]
pub struct Place {
    /// The portal's interface.
    pub interface: InterfaceName,
    /// Directory of the configurations.
    pub etc_dir: PathBuf,
    /// Whether the service manager would look for the configuration there as well.
    pub is_default: bool,
    /// Directory of the journals.
    pub state_dir: PathBuf,
    /// Directory of the lock and the control socket.
    pub run_dir: RunDir,
    /// This program.
    pub program: PathBuf,
}

impl Place {
    /// The configuration file.
    fn config(&self) -> PathBuf {
        self.etc_dir.join(self.interface.as_str())
    }

    /// What a hook calls to lead packets: `netcombiner routes ROLE`.
    fn hook(&self, key: &str, role: &str, verb: &str, options: &[String]) -> String {
        let program = quoted(&self.program.to_string_lossy());
        let mut line = format!("{key} = {program} routes {role} {verb} %i");
        options.iter().for_each(|option| line += &format!(" {option}"));
        if self.run_dir.path() != Path::new(run_dir::DEFAULT) {
            line += &format!(" --run-dir {}", quoted(&self.run_dir.path().to_string_lossy()));
        }
        line + "\n"
    }

    /// The two hooks of a role.
    fn hooks(&self, role: &str, options: &[String]) -> String {
        self.hook("PostUp", role, "up", options) + &self.hook("PreDown", role, "down", &[])
    }
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    if word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-=@".contains(&b)) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Options in one list: `--lan eth0 --lan eth1`.
fn options<T: fmt::Display>(option: &str, values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| format!("{option} {value}")).collect()
}

/// What can be told before anything is done.
fn check(place: &Place) -> Result<(), SetupError> {
    if !cfg!(target_os = "linux") {
        return Err(SetupError::new("set-up is for Linux; scripts/freebsd has rules for pf"));
    }
    // The routing tables' numbers follow from it.
    let digits = place.interface.as_str().rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    let number =
        digits.parse::<u8>().is_ok_and(|n| n < 100) && (digits.len() == 1 || !digits.starts_with('0'));
    if !number {
        return Err(SetupError::new("the name must end in a number from 0 to 99, as nc0 does"));
    }
    Ok(())
}

/// Takes back what was done for the interface of `place`, or with `dry_run` tells it. Returns one line for each step;
/// none if nothing is set up.
///
/// # Errors
///
/// If the portal cannot be stopped or a file cannot be put back; what is left is still in the journal.
pub fn undo(place: &Place, dry_run: bool) -> Result<Vec<String>, SetupError> {
    match Journal::load(place)? {
        Some(journal) => journal.undo(place, dry_run),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place all of whose directories are in `dir`.
    pub(super) fn place(dir: &Path) -> Place {
        Place {
            interface: "nc0".parse().expect("a name"),
            etc_dir: dir.join("etc/netcombiner"),
            is_default: false,
            state_dir: dir.join("state"),
            run_dir: RunDir::new(&dir.join("run")).expect("absolute"),
            program: "/usr/bin/netcombiner".into(),
        }
    }

    #[test]
    fn only_names_with_a_number_have_routing_tables() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut place = place(dir.path());
        for (name, fine) in
            [("nc0", true), ("bond99", true), ("nc100", false), ("tunnel", false), ("nc00", false)]
        {
            place.interface = name.parse().expect("a name");
            assert_eq!(check(&place).is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn hooks_call_this_program() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut place = place(dir.path());
        place.run_dir = RunDir::new(Path::new(run_dir::DEFAULT)).expect("absolute");
        let lines = place.hooks("local-nat", &options("--lan", ["eth0", "eth1"]));
        assert_eq!(
            lines,
            "PostUp = /usr/bin/netcombiner routes local-nat up %i --lan eth0 --lan eth1\n\
             PreDown = /usr/bin/netcombiner routes local-nat down %i\n"
        );
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }
}
