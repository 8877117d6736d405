//! Into the background, with word to whoever waits whether the start went well.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid};

use super::service;

/// First byte of the daemon's word to its parent: it is ready.
const READY: u8 = b'R';
/// First byte of the daemon's word to its parent: it failed, and why stands behind.
const FAILED: u8 = b'F';

/// Which of the two processes the caller is now.
#[derive(Debug)]
pub enum Daemonised {
    /// The one that was called: the daemon is ready, or could not start and said why. It has
    /// nothing more to do.
    Parent(Result<(), String>),
    /// The daemon, in a session of its own. It keeps standard error until it is ready.
    Daemon(Readiness),
}

/// The duty to tell whoever started the portal how that went.
#[derive(Debug)]
pub struct Readiness {
    parent: Option<File>,
}

/// Splits a daemon off, and in the parent waits for its word.
///
/// # Errors
///
/// If there is more than one thread, of which the daemon would have only this one, or if the
/// system has no room for a process.
pub fn daemonise() -> io::Result<Daemonised> {
    if fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("cannot go to the background with threads"));
    }
    let (from_daemon, to_parent) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    match fork()? {
        ForkResult::Parent { child } => {
            drop(to_parent);
            await_word(from_daemon.into(), child).map(Daemonised::Parent)
        }
        ForkResult::Child => {
            drop(from_daemon);
            let parent = Some(to_parent.into());
            unistd::setsid()?;
            // A daemon must not keep a file system from being unmounted.
            unistd::chdir(Path::new("/"))?;
            Ok(Daemonised::Daemon(Readiness { parent }))
        }
    }
}

impl Readiness {
    /// For a portal that stays in the foreground; only a service manager is told.
    pub fn foreground() -> Readiness {
        Readiness { parent: None }
    }

    /// Whether the portal runs in the background.
    pub fn is_background(&self) -> bool {
        self.parent.is_some()
    }

    /// The portal is ready. In the background, it leaves the terminal alone from here on.
    ///
    /// # Errors
    ///
    /// If standard input and output cannot be turned away from the terminal.
    pub fn ready(self) -> io::Result<()> {
        service::ready();
        let Some(mut parent) = self.parent else {
            return Ok(());
        };
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(&null)?;
        unistd::dup2_stdout(&null)?;
        unistd::dup2_stderr(&null)?;
        // A parent that was interrupted does not want to know.
        let _ = parent.write_all(&[READY]);
        Ok(())
    }

    /// The portal cannot start. Gives `error` back if nobody waits for it, so that the caller
    /// prints it.
    pub fn failed<E: Display>(self, error: E) -> Result<(), E> {
        match self.parent {
            Some(mut parent) => {
                let _ = write!(parent, "{}{error}", char::from(FAILED));
                Ok(())
            }
            None => Err(error),
        }
    }
}

#[allow(unsafe_code)]
fn fork() -> nix::Result<ForkResult> {
    // SAFETY: `daemonise` saw that this is the only thread, so no lock can be held by a thread
    // that does not exist in the child, and the child may do whatever the parent may. Where
    // `/proc` does not tell, its documentation asks the same of the caller.
    unsafe { unistd::fork() }
}

fn await_word(mut from_daemon: File, daemon: Pid) -> io::Result<Result<(), String>> {
    let mut word = Vec::new();
    from_daemon.read_to_end(&mut word)?;
    Ok(match word.split_first() {
        Some((&READY, _)) => Ok(()),
        Some((_, why)) => Err(String::from_utf8_lossy(why).into_owned()),
        None => Err(format!(
            "the daemon ended before it was ready ({}); start it with --foreground to see why",
            end_of(daemon)
        )),
    })
}

fn end_of(daemon: Pid) -> String {
    match waitpid(daemon, None) {
        Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("{signal}"),
        Ok(status) => format!("{status:?}"),
        Err(errno) => errno.to_string(),
    }
}
