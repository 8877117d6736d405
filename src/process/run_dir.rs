//! The directory of what exists only while a portal runs: its lock and its control socket.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::InterfaceName;

/// Where it is unless the command line says otherwise.
#[cfg(target_os = "linux")]
pub const DEFAULT: &str = "/run/netcombiner";
/// Where it is unless the command line says otherwise.
#[cfg(not(target_os = "linux"))]
pub const DEFAULT: &str = "/var/run/netcombiner";

const SOCKET: &str = "sock";

/// The directory, which need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Names a directory; a relative path is taken from the current directory once and for all.
    ///
    /// # Errors
    ///
    /// If the path is empty, or the current directory is unknown.
    pub fn new(path: &Path) -> io::Result<RunDir> {
        std::path::absolute(path).map(RunDir)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory if it is not there; its files are for their owner, their names for all.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.0)
    }

    /// The control socket of `interface`.
    pub fn socket(&self, interface: &InterfaceName) -> PathBuf {
        self.0.join(format!("{interface}.{SOCKET}"))
    }

    /// The lock of `interface`.
    pub fn pid_file(&self, interface: &InterfaceName) -> PathBuf {
        self.0.join(format!("{interface}.pid"))
    }

    /// Where a set-up notes what it did for `interface`; `part` is the name of one that holds beside another.
    pub fn routes_file(&self, interface: &InterfaceName, part: Option<&str>) -> PathBuf {
        let part = part.map_or(String::new(), |part| format!(".{part}"));
        self.0.join(format!("{interface}{part}.setup"))
    }

    /// Every interface that has a control socket, sorted; its portal may be dead.
    ///
    /// # Errors
    ///
    /// What the system says; a directory that does not exist is merely empty.
    pub fn interfaces(&self) -> io::Result<Vec<InterfaceName>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|extension| extension == SOCKET) {
                names.extend(stem.and_then(|stem| stem.parse::<InterfaceName>().ok()));
            }
        }
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sockets_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = RunDir::new(dir.path()).expect("absolute");
        for name in ["nc1.sock", "nc0.sock", "nc2.pid", "no name.sock", ".sock"] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let names = run_dir.interfaces().expect("readable");
        assert_eq!(names.iter().map(InterfaceName::as_str).collect::<Vec<_>>(), ["nc0", "nc1"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_empty_until_it_is_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let run_dir = RunDir::new(&dir.path().join("a/b")).expect("absolute");
        assert_eq!(run_dir.interfaces().expect("empty"), []);
        run_dir.create().expect("made");
        run_dir.create().expect("there already");
        assert!(run_dir.path().is_dir());
    }
}
