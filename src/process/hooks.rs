//! The operator's commands around the life of the interface.

use std::fmt;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use crate::config::InterfaceName;

/// When a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before the interface is made.
    PreUp,
    /// When the interface is up.
    PostUp,
    /// Before the interface is taken away.
    PreDown,
    /// When the interface is gone.
    PostDown,
}

/// A command that did not do its work.
#[derive(Debug)]
pub struct HookError {
    phase: Phase,
    command: String,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    NotStarted(io::Error),
    Ended(ExitStatus),
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HookError { phase, command, fault } = self;
        match fault {
            Fault::NotStarted(error) => write!(f, "{phase:?} cannot run /bin/sh: {error}"),
            Fault::Ended(status) => write!(f, "{phase:?} failed with {status}: {command}"),
        }
    }
}

impl std::error::Error for HookError {}

/// Runs the commands one after the other, each by `sh -c` with `%i` replaced by the interface,
/// until one fails. Each is waited for, however long it takes.
///
/// # Errors
///
/// The first command that fails.
pub fn run(phase: Phase, commands: &[String], interface: &InterfaceName) -> Result<(), HookError> {
    commands.iter().try_for_each(|command| run_one(phase, command, interface))
}

/// Runs all the commands as [`run`] does, logging those that fail: on the way down, a failing
/// command must not keep the rest from being cleaned up.
pub fn run_all(phase: Phase, commands: &[String], interface: &InterfaceName) {
    for command in commands {
        if let Err(error) = run_one(phase, command, interface) {
            tracing::warn!("{error}");
        }
    }
}

fn run_one(phase: Phase, command: &str, interface: &InterfaceName) -> Result<(), HookError> {
    let command = command.replace("%i", interface.as_str());
    tracing::info!("{phase:?}: {command}");
    let status = Command::new("/bin/sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        // A command speaks for itself, not for the portal.
        .env_remove("NOTIFY_SOCKET")
        .status();
    let fault = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => Fault::Ended(status),
        Err(error) => Fault::NotStarted(error),
    };
    Err(HookError { phase, command, fault })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failing_command_ends_the_start_but_not_the_stop() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let say = |word: &str| format!("echo {word} >>{}", log.display());
        let commands = [say("%i-one"), "exit 3 # %i".into(), say("two%i")];
        let nc0: InterfaceName = "nc0".parse().expect("a name");

        let error = run(Phase::PreUp, &commands, &nc0).expect_err("exit 3");
        assert_eq!(error.to_string(), "PreUp failed with exit status: 3: exit 3 # nc0");
        assert_eq!(fs::read_to_string(&log).expect("written"), "nc0-one\n");

        run_all(Phase::PostDown, &commands, &nc0);
        assert_eq!(fs::read_to_string(&log).expect("written"), "nc0-one\nnc0-one\ntwonc0\n");
    }
}
