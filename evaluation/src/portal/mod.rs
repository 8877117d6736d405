//! `netcombiner` daemons in the lab: one of them, and the usual pair.

mod background;
mod pair;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub use background::Background;
pub use pair::{
    Method, PORT, Pair, PairOptions, local_config, random_key, remote_config, remote_tunnel_address,
};

use crate::netns::Namespace;
use crate::process::{Started, collect};
use crate::usage;
use crate::wait::until;

/// How long a daemon may take to bring its interface up, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test of a few links may take.
const TEST_PATIENCE: Duration = Duration::from_secs(180);

/// How much of a log an error shows.
const LOG_LINES: usize = 20;

/// The daemon's program: `NETCOMBINER_BIN`, else `netcombiner` in the directory of this program
/// or, for tests, the one above.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NETCOMBINER_BIN") {
        return Ok(path.into());
    }
    let program = std::env::current_exe()?;
    let places = program.ancestors().skip(1).take(2).map(|place| place.join("netcombiner"));
    places.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "no netcombiner near {}: build it first (cargo build) or set NETCOMBINER_BIN",
            program.display()
        )
    })
}

/// A running daemon. Dropping it kills it, and so does the end of the thread that started it.
#[derive(Debug)]
pub struct Portal {
    namespace: Namespace,
    interface: String,
    binary: PathBuf,
    run_dir: PathBuf,
    log: PathBuf,
    child: Started,
}

impl Portal {
    /// Starts the daemon `binary` with this configuration and waits until its interface is up. Its
    /// files are in `directory`, in a folder of the namespace's name; the log goes on over restarts.
    pub fn start(
        namespace: &Namespace,
        binary: &Path,
        interface: &str,
        config: &str,
        directory: &Path,
    ) -> Result<Self> {
        let run_dir = directory.join(namespace.name());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&run_dir)?;
        let config_path = run_dir.join(format!("{interface}.conf"));
        write_private(&config_path, config).with_context(|| format!("writing {}", config_path.display()))?;
        let log = run_dir.join(format!("{interface}.log"));
        let stderr = OpenOptions::new().create(true).append(true).open(&log)?;

        let mut command = namespace.quiet_command(binary);
        command.args([interface, "--foreground", "--log-level", "info"]);
        command.arg("--config").arg(&config_path).arg("--run-dir").arg(&run_dir);
        command.arg("--state-dir").arg(run_dir.join("state"));
        command.stdout(Stdio::from(stderr.try_clone()?)).stderr(Stdio::from(stderr));
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let mut portal = Self {
            namespace: namespace.clone(),
            interface: interface.to_owned(),
            binary: binary.to_owned(),
            run_dir,
            log,
            child: Started(child),
        };
        portal.wait_until_up()?;
        Ok(portal)
    }

    /// The namespace it runs in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name of its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.0.try_wait(), Ok(None))
    }

    /// Where its configuration, log, lock and control socket are.
    pub fn directory(&self) -> &Path {
        &self.run_dir
    }

    /// Replaces its configuration file and asks it to read that (SIGHUP). Whether it did is in its log.
    pub fn reload(&self, config: &str) -> Result<()> {
        write_private(&self.run_dir.join(format!("{}.conf", self.interface)), config)?;
        Ok(kill(Pid::from_raw(self.pid() as i32), Signal::SIGHUP)?)
    }

    /// Waits until it ends by itself; `None` if it does not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.child.wait_within(limit)
    }

    /// Waits until its log has a line with all of these words; returns the line.
    pub fn wait_logged(&self, limit: Duration, words: &[&str]) -> Result<String> {
        let find = || {
            let log = self.log();
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        };
        let what = format!("{words:?} in the log of {}", self.name());
        until(limit, &what, || Ok(find().is_some())).with_context(|| self.log_tail())?;
        find().context("a log that shrinks")
    }

    /// What `show --json` says of the link with this name.
    pub fn link(&self, name: &str) -> Result<Value> {
        let shown = self.show()?;
        let links = shown["links"].as_array().context("no links shown")?;
        let link = links.iter().find(|link| link["name"] == name);
        link.cloned().with_context(|| format!("{} has no link {name}: {shown}", self.name()))
    }

    /// Waits until the link with this name is in a state.
    pub fn wait_state(&self, name: &str, state: &str, limit: Duration) -> Result<Duration> {
        let what = format!("link {name} of {} {state}", self.name());
        until(limit, &what, || Ok(self.link(name)?["state"] == state)).with_context(|| self.log_tail())
    }

    /// Waits until a link tells this reason for not carrying more; returns how long that took.
    pub fn wait_reason(&self, name: &str, reason: &str, limit: Duration) -> Result<Duration> {
        let what = format!("link {name} of {}: {reason}", self.name());
        until(limit, &what, || Ok(self.link(name)?["reason"] == reason)).with_context(|| self.log_tail())
    }

    /// Asks it to end (SIGTERM) and waits; an error if it does not, or not in good order.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM)?;
        match self.child.wait_within(PATIENCE)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} ended with {status}{}", self.name(), self.log_tail()),
            None => bail!("{} does not end on SIGTERM{}", self.name(), self.log_tail()),
        }
    }

    /// Ends it at once, as `kill -9` or a crash does.
    pub fn kill(self) {
        drop(self);
    }

    /// Everything it has written on standard output and error.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The state that it reports: `netcombiner show IF --json`.
    pub fn show(&self) -> Result<Value> {
        let text = self.ask(&["show", &self.interface, "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("{}: not JSON: {text}", self.name()))
    }

    /// The same for people: `netcombiner show IF --details`.
    pub fn show_text(&self) -> Result<String> {
        self.ask(&["show", &self.interface, "--details"])
    }

    /// The page for people who only look: `netcombiner show IF`.
    pub fn show_summary(&self) -> Result<String> {
        self.ask(&["show", &self.interface])
    }

    /// What happened in it: `netcombiner events IF`.
    pub fn events(&self) -> Result<String> {
        self.ask(&["events", &self.interface])
    }

    /// Changes a link: `netcombiner link IF NAME CHANGE`.
    pub fn change_link(&self, name: &str, change: &[&str]) -> Result<()> {
        self.ask(&[&["link", &self.interface, name], change].concat()).map(|_| ())
    }

    /// What `netcombiner test IF --json` and these arguments prints.
    pub fn test(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.namespace.quiet_command(&self.binary);
        command.args(["test", &self.interface, "--json", "--run-dir"]).arg(&self.run_dir).args(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = collect(Started(child), TEST_PATIENCE)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{}: {}", self.name(), String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_str(&text).with_context(|| format!("{}: not JSON: {text}", self.name()))
    }

    /// Starts the same and leaves it alone.
    pub fn start_test(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.namespace.quiet_command(&self.binary);
        command.args(["test", &self.interface, "--run-dir"]).arg(&self.run_dir).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let run_dir = self.run_dir.to_string_lossy();
        let arguments = [arguments, &["--run-dir", &run_dir]].concat();
        self.namespace.run(&self.binary.to_string_lossy(), &arguments)
    }

    /// Its resident memory in kB.
    pub fn rss_kb(&self) -> Result<u64> {
        usage::rss_kb(self.pid()).with_context(|| self.name())
    }

    /// The processor time that it has used, in user and kernel mode, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.pid()).with_context(|| self.name())
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.0.try_wait()? {
                bail!("{} ended at once with {status}{}", self.name(), self.log_tail());
            }
            let links = self.namespace.run("ip", &["-o", "link", "show", "up"])?;
            if links.contains(&format!(": {}:", self.interface)) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("{} brings no interface up{}", self.name(), self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn name(&self) -> String {
        format!("netcombiner {} of {}", self.interface, self.namespace.name())
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        if tail.is_empty() { "; its log is empty".into() } else { format!("; its log:\n  {tail}") }
    }
}

/// Writes a file that only its owner may read, as keys are in it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file: File = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
