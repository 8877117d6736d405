//! `netcombiner nc0`: from arguments to all that a portal needs for its start.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use tracing::Level;

use super::args::UpArgs;
use super::failure::Failure;
use crate::config::{Config, InterfaceName, Warning};
use crate::process::privilege;
use crate::process::run_dir::RunDir;

/// Where the configurations are.
#[cfg(target_os = "freebsd")]
pub const CONFIG_DIR: &str = "/usr/local/etc/netcombiner";
/// Where the configurations are.
#[cfg(not(target_os = "freebsd"))]
pub const CONFIG_DIR: &str = "/etc/netcombiner";

/// Where the configuration of an interface is, if it is not named.
pub(super) fn config_of(interface: &InterfaceName) -> PathBuf {
    Path::new(CONFIG_DIR).join(interface.as_str())
}

/// An order to run a portal. Paths are absolute, so they hold in the background too.
#[derive(Debug)]
pub struct Up {
    /// Interface to make.
    pub interface: InterfaceName,
    /// Where `config` was read, for a reload.
    pub config_path: PathBuf,
    /// The configuration.
    pub config: Config,
    /// What is worth a look in it; printed already, for the log.
    pub warnings: Vec<Warning>,
    /// Whether to stay in the foreground.
    pub foreground: bool,
    /// Directory of the lock and the control socket.
    pub run_dir: RunDir,
    /// Directory of what is to be known after a restart; for this interface alone.
    pub state_dir: PathBuf,
    /// Least serious events that are logged.
    pub log_level: Level,
}

/// How a portal ended, or that the daemon which runs it is ready; an error is printed after
/// `netcombiner: nc0: `.
pub type UpResult = Result<(), Box<dyn Error>>;

pub(super) fn run(args: UpArgs, up: fn(Up) -> UpResult) -> Result<(), Failure> {
    // clap has seen to it that there is one.
    let interface = args.interface.ok_or_else(|| Failure::new("the name of an interface is missing"))?;
    if !privilege::may_administer_network() {
        return Err(Failure::new(format!(
            "{interface}: creating the interface needs CAP_NET_ADMIN; run as root"
        )));
    }
    let path = match args.config {
        Some(path) => absolute(&interface, &path)?,
        None => config_of(&interface),
    };
    if !path.exists() {
        let command = super::nearest_command(interface.as_str());
        let meant =
            command.map_or(String::new(), |command| format!("; or did you mean the command {command}?"));
        return Err(Failure::new(format!(
            "{interface}: there is no configuration {}; write it, or name another with --config{meant}",
            path.display()
        )));
    }
    let (config, warnings) = Config::load_for(&interface, &path).map_err(super::refuse)?;
    super::remark(&warnings);
    let run_dir = RunDir::new(&args.run.run_dir).map_err(|error| unusable(&interface, &error))?;
    let state_dir = absolute(&interface, &args.state_dir)?.join(interface.as_str());
    up(Up {
        state_dir,
        config_path: path,
        config,
        warnings,
        foreground: args.foreground,
        run_dir,
        log_level: args.log_level.into(),
        interface: interface.clone(),
    })
    .map_err(|error| Failure::new(format!("{interface}: {error}")))
}

fn absolute(interface: &InterfaceName, path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| unusable(interface, &error))
}

fn unusable(interface: &InterfaceName, error: &io::Error) -> Failure {
    Failure::new(format!("{interface}: unusable path: {error}"))
}
