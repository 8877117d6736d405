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

/// Where state is kept unless the command line says otherwise.
#[cfg(target_os = "freebsd")]
const STATE_DIR: &str = "/var/db/netcombiner";
/// Where state is kept unless the command line says otherwise.
#[cfg(not(target_os = "freebsd"))]
const STATE_DIR: &str = "/var/lib/netcombiner";

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
    /// Directory of what is to be known after a restart: what was used of data caps
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(super) state_dir: PathBuf,
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
Examples:
  netcombiner check nc0
  netcombiner check ./nc0.new

Prints `/etc/netcombiner/nc0: OK, 2 links`, or each error with its line and exits with 1.")]
    Check {
        /// The configuration, or the interface whose configuration it is
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
  netcombiner show nc0 --details
  netcombiner show nc0 --json | jq .links[].state")]
    Show {
        /// Interface [default: every one that runs]
        interface: Option<InterfaceName>,
        /// Print everything that is known
        #[arg(long, conflicts_with = "json")]
        details: bool,
        /// Print JSON: an object for one interface, an array if none is named
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Watch a portal and its links live, with graphs of the last minutes
    #[command(after_help = "\
Examples:
  netcombiner top nc0
  netcombiner top nc0 --json | jq --unbuffered .rates.sent_bps

Keys: q quits, space pauses, u changes units, s sorts the links, ? explains the columns. A portal that is restarted is
shown again as soon as it answers.")]
    Top {
        /// Interface
        interface: InterfaceName,
        /// Print a line of JSON a second: the object of `show --json` as `snapshot`, `rates` since the line before, and
        /// new `events`; or an `error` while the portal does not answer
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Tell what happened in a portal since its start, the last thousand events
    #[command(after_help = "\
Examples:
  netcombiner events nc0
  netcombiner events nc0 --follow
  netcombiner events nc0 --since 120 --json | jq -r .text")]
    Events {
        /// Interface
        interface: InterfaceName,
        /// Go on and print what happens, also after a restart of the portal
        #[arg(long, short)]
        follow: bool,
        /// Print JSON: an object in each line
        #[arg(long)]
        json: bool,
        /// Begin with the event of this number
        #[arg(long, value_name = "N", default_value_t = 1)]
        since: u64,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Change a link while it runs, until the configuration is read again
    #[command(after_help = "\
Examples:
  netcombiner link nc0 lte down
  netcombiner link nc0 lte up
  netcombiner link nc0 lte metric 10
  netcombiner link nc0 dsl rate-limit 20 Mbit/s
  netcombiner link nc0 dsl rate-limit off

Nothing is written to the configuration, and nothing else is disturbed. `show` tells what differs from
the file; `netcombiner reload nc0` makes all links as the file says again.")]
    Link {
        /// Interface
        interface: InterfaceName,
        /// Name of the link, as `show` prints it
        name: String,
        /// up, down, metric N (0 to 255), rate-limit R (such as 20 Mbit/s) or rate-limit off
        #[arg(required = true, num_args = 1..=3, value_name = "CHANGE")]
        change: Vec<String>,
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
    /// Find out why a bond is slow: measure its links one by one and all together
    #[command(after_help = "\
Examples:
  netcombiner test nc0
  netcombiner test nc0 --link lte --seconds 8 --metered
  netcombiner test nc0 --json | jq .findings[].cause

Fills each link alone and then all together, to the other portal (out) and from it (in), and prints
rate, round-trip time idle and full, the longest queue of the link, loss and reordering; then what
limits the bond, and what to do about it. Ordinary traffic goes first all the time.")]
    Test(TestArgs),
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

#[derive(Debug, clap::Args)]
pub(super) struct TestArgs {
    /// Interface
    pub(super) interface: InterfaceName,
    /// Test only the link of this name; repeatable
    #[arg(long, value_name = "NAME")]
    pub(super) link: Vec<String>,
    /// How long links are kept full in each step, 1 to 30
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub(super) seconds: u32,
    /// Most data that the whole test sends, MB of 10^6 bytes, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) megabytes: u64,
    /// Test links with `Metered = yes` too, without asking
    #[arg(long)]
    pub(super) metered: bool,
    /// Print JSON: an object with the measured steps and the findings
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
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
