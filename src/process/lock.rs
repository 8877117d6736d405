//! One portal per interface: a locked file with the process id in it.
//!
//! The kernel drops the lock with the process, however that ends, so a file left behind by
//! `kill -9` is no obstacle.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::run_dir::RunDir;
use crate::config::InterfaceName;

/// How often a held lock is tried. More than once, since a portal that ends, or a look at
/// [`is_held`], holds it for a moment only.
const ATTEMPTS: u32 = 4;

/// Time between two attempts: longer than a process takes to exit.
const PAUSE: Duration = Duration::from_millis(50);

/// The lock of one interface, held until dropped; then the file is removed.
///
/// Acquire it after [`super::daemon::daemonise`]: a copy in a parent process would give it up.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Dropped, and so unlocked, after the file is removed.
    _file: Flock<File>,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another portal serves the interface.
    Held {
        /// The interface.
        interface: InterfaceName,
        /// The other process, if the file tells.
        pid: Option<u32>,
    },
    /// The file cannot be made or locked.
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { interface, pid: Some(pid) } => {
                write!(f, "{interface} is already running (pid {pid})")
            }
            LockError::Held { interface, pid: None } => {
                write!(f, "{interface} is already running")
            }
            LockError::Failed { path, error } => {
                write!(f, "cannot lock {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for LockError {}

impl Lock {
    /// Takes the lock of `interface` and writes this process's id into its file.
    ///
    /// # Errors
    ///
    /// If another portal holds it, or the file cannot be made.
    pub fn acquire(run_dir: &RunDir, interface: &InterfaceName) -> Result<Lock, LockError> {
        let path = run_dir.pid_file(interface);
        let attempt = || -> io::Result<Option<Lock>> {
            run_dir.create()?;
            for attempt in 0..ATTEMPTS {
                if attempt > 0 {
                    thread::sleep(PAUSE);
                }
                if let Some(file) = try_lock(&path)? {
                    let path = path.clone();
                    return Ok(Some(Lock { path, _file: file }));
                }
            }
            Ok(None)
        };
        match attempt() {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(LockError::Held { interface: interface.clone(), pid: pid(&path) }),
            Err(error) => Err(LockError::Failed { path, error }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a living portal holds the lock file `path`.
///
/// # Errors
///
/// If the file can be neither opened nor locked.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// The process id in the lock file `path`.
pub fn pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `None` if somebody else has the lock, or had it and removed the file while it was being opened.
fn try_lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    let locked = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == (locked.dev(), locked.ino()) => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, RunDir, InterfaceName) {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = RunDir::new(dir.path()).expect("absolute");
        (dir, run_dir, "nc0".parse().expect("a name"))
    }

    #[test]
    fn the_second_is_told_who_is_first() {
        let (_dir, run_dir, nc0) = place();
        let path = run_dir.pid_file(&nc0);
        assert!(!is_held(&path).expect("no file"));

        let lock = Lock::acquire(&run_dir, &nc0).expect("free");
        assert!(is_held(&path).expect("readable"));
        let refused = Lock::acquire(&run_dir, &nc0).expect_err("held").to_string();
        let own = std::process::id();
        assert_eq!(refused, format!("nc0 is already running (pid {own})"));

        drop(lock);
        assert!(!path.exists());
        assert!(!is_held(&path).expect("no file"));
    }

    #[test]
    fn a_stale_file_is_no_obstacle() {
        let (_dir, run_dir, nc0) = place();
        let path = run_dir.pid_file(&nc0);
        fs::write(&path, "4194304999\n").expect("written");
        assert!(!is_held(&path).expect("readable"));
        let _lock = Lock::acquire(&run_dir, &nc0).expect("free");
        assert_eq!(pid(&path), Some(std::process::id()));
    }

    #[test]
    fn a_short_look_does_not_refuse_a_start() {
        let (_dir, run_dir, nc0) = place();
        let path = run_dir.pid_file(&nc0);
        fs::write(&path, "").expect("written");
        let file = File::open(&path).expect("there");
        let look = Flock::lock(file, FlockArg::LockShared).expect("free");
        let looker = thread::spawn(move || {
            thread::sleep(PAUSE);
            drop(look);
        });
        Lock::acquire(&run_dir, &nc0).expect("free after a moment");
        looker.join().expect("no panic");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        let run_dir = RunDir::new(&file).expect("absolute");
        let error = Lock::acquire(&run_dir, &"nc0".parse().expect("a name"));
        let error = error.expect_err("a file is no directory").to_string();
        assert!(error.starts_with(&format!("cannot lock {}/nc0.pid: ", file.display())), "{error}");
    }
}
