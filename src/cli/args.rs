//! What may be written on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};
use tracing::Level;

use super::setup::SetupCommand;
use crate::config::InterfaceName;
use crate::process::routes::Role;
use crate::process::run_dir;

/// Bonds several Internet links into one network interface.
///
/// Started with the name of an interface, it makes that interface, joins the links of its
/// configuration to the other portal, and goes to the background.
#[derive(Debug, Parser)]
#[command(name = "netcombiner", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) up: UpArgs,
}

const EXAMPLES: &str = "\
Examples:
  netcombiner setup remote nc0
  netcombiner setup local nc0 PAIRING-LINE --lan br-lan
  umask 077; netcombiner genkey >/etc/netcombiner/nc0.key
  netcombiner check /etc/netcombiner/nc0
  netcombiner nc0
  netcombiner show nc0
  netcombiner down nc0";

#[derive(Debug, clap::Args)]
pub(super) struct UpArgs {
    /// Interface to make, 1 to 15 of A-Z a-z 0-9 _ = + . -
    #[arg(required = true)]
    pub(super) interface: Option<InterfaceName>,
    /// Configuration [default: the file of the interface's name in /etc/netcombiner, on FreeBSD
    /// in /usr/local/etc/netcombiner]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Stay in the foreground and log to standard error
    #[arg(long)]
    pub(super) foreground: bool,
    /// Least serious events that are logged
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    pub(super) log_level: LogLevel,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Directory of the lock and the control socket
    #[arg(long, value_name = "DIR", default_value = run_dir::DEFAULT)]
    pub(super) run_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a configuration and print everything that is wrong with it
    #[command(after_help = "\
Example:
  netcombiner check /etc/netcombiner/nc0

Prints `/etc/netcombiner/nc0: OK, 2 links`, or each error with its line and exits with 1.")]
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Make a key for the two portals to share
    #[command(after_help = "\
Example:
  umask 077; netcombiner genkey >/etc/netcombiner/nc0.key

Both portals need the same key: copy the file over a safe channel, such as scp, and name it with
`KeyFile = nc0.key` in the [Host] section of both.")]
    Genkey,
    /// Show the state of a portal and its links, or of all portals
    #[command(after_help = "\
Examples:
  netcombiner show
  netcombiner show nc0
  netcombiner show nc0 --json | jq .links[].state")]
    Show {
        /// Interface [default: every one that runs]
        interface: Option<InterfaceName>,
        /// Print JSON: an object for one interface, an array if none is named
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Make a portal read its configuration anew
    #[command(after_help = "\
Example:
  netcombiner reload nc0

Links that did not change carry on. If the configuration has errors, they are printed and the old
one stays in force.")]
    Reload {
        /// Interface
        interface: InterfaceName,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Stop a portal, and wait until its interface is gone
    #[command(after_help = "\
Example:
  netcombiner down nc0")]
    Down {
        /// Interface
        interface: InterfaceName,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Set up this system as a portal, in one command, or undo that
    #[command(after_help = super::setup::EXAMPLES)]
    Setup {
        #[command(subcommand)]
        side: SetupCommand,
    },
    /// Lead packets into the tunnel: what the hooks of a configuration call
    #[command(after_help = "\
Examples:
  netcombiner routes local-nat
  netcombiner routes local-nat up nc0 --lan eth0 --dry-run

In [Host]:
  PostUp = netcombiner routes local-nat up %i --lan eth0
  PreDown = netcombiner routes local-nat down %i")]
    Routes {
        /// What the system is to be
        role: RoleName,
        /// up or down, the interface, and options; none: print what they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What a set-up makes of a system, as [`Role`] on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleName(pub(super) Role);

impl ValueEnum for RoleName {
    fn value_variants<'a>() -> &'a [RoleName] {
        const ALL: [RoleName; Role::ALL.len()] = [
            RoleName(Role::ALL[0]),
            RoleName(Role::ALL[1]),
            RoleName(Role::ALL[2]),
            RoleName(Role::ALL[3]),
            RoleName(Role::ALL[4]),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Level {
        match level {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
            LogLevel::Trace => Level::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_subcommand_has_an_example() {
        for command in Args::command().get_subcommands() {
            let help = command.get_after_help().expect("help").to_string();
            assert!(help.contains(&format!("netcombiner {}", command.get_name())), "{help}");
        }
    }
}
