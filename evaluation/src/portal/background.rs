//! A daemon as an operator starts it: `netcombiner nc0`, which goes to the background, and `netcombiner
//! down nc0`.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{binary, write_private};
use crate::netns::Namespace;
use crate::process::output_within;

/// How long the program may take to start or to stop a daemon.
const PATIENCE: Duration = Duration::from_secs(15);

/// A daemon in the background. Dropping it kills it; should this process be killed, it stays.
#[derive(Debug)]
pub struct Background {
    namespace: Namespace,
    interface: String,
    run_dir: PathBuf,
}

impl Background {
    /// Starts it, and returns when the program that was called has ended with success.
    pub fn start(namespace: &Namespace, interface: &str, config: &str, directory: &Path) -> Result<Self> {
        let run_dir = directory.join(namespace.name());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&run_dir)?;
        let config_path = run_dir.join(format!("{interface}.conf"));
        write_private(&config_path, config)?;
        let config_path = config_path.to_string_lossy();
        let this = Self { namespace: namespace.clone(), interface: interface.to_owned(), run_dir };
        this.call(&[interface, "--config", &config_path])?;
        Ok(this)
    }

    /// Its files.
    pub fn directory(&self) -> &Path {
        &self.run_dir
    }

    /// The process.
    pub fn pid(&self) -> Result<u32> {
        let path = self.run_dir.join(format!("{}.pid", self.interface));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{}: {text:?}", path.display()))
    }

    /// Stops it by the program's own command, which waits for its end.
    pub fn down(self) -> Result<()> {
        self.call(&["down", &self.interface])
    }

    fn call(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.namespace.quiet_command(binary()?);
        command.args(arguments).arg("--run-dir").arg(&self.run_dir);
        let what = || format!("{}: netcombiner {}", self.namespace.name(), arguments.join(" "));
        let output = output_within(&mut command, "", PATIENCE).with_context(what)?;
        if !output.status.success() {
            bail!("{}: {}: {}", what(), output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // After `down` there is none.
        if let Ok(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }
}
