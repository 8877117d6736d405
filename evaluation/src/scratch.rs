//! A temporary directory that goes whatever ends this process.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A private directory under the system's temporary one, removed on drop.
///
/// A small shell outside our process group holds the read end of a pipe of ours. The pipe closes
/// when we drop it or die, by `kill -9` too; then the shell removes the directory. So no signal
/// handler is needed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    janitor: Child,
}

impl Scratch {
    /// Makes the directory, readable by its owner only.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("netcombiner-lab-")
            .tempdir()
            .context("making a temporary directory")?;
        let janitor = Command::new("sh")
            .arg("-c")
            .arg(r#"trap "" HUP INT TERM; cat >/dev/null; rm -rf -- "$1""#)
            .arg("netcombiner-lab-janitor")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting the shell that removes the temporary directory")?;
        Ok(Self { path: directory.keep(), janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // The janitor ends by itself; nothing could be done about a failure here.
        let _ = self.janitor.wait();
    }
}
