//! What leads packets into the tunnel: the set-ups of `scripts/linux`, which the program carries with it.
//!
//! `Table`, `Route` and `DNS` of the configuration are the role `table`, which the portal itself calls; the others
//! are for the commands of its hooks, by `netcombiner routes`.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::{Command, Stdio};

use super::run_dir::RunDir;
use crate::config::{Host, InterfaceName, Peer, Table};

/// What the scripts read first.
const COMMON: &str = include_str!("../../scripts/linux/common.sh");

/// The line by which they read it where they are files.
const READ_COMMON: &str = r#". "$(dirname "$(readlink -f "$0")")/common.sh""#;

/// What a set-up makes of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The portal that leads the LAN, translated, into the tunnel.
    LocalNat,
    /// The portal whose client owns the remote portal's address.
    LocalPortal,
    /// The portal that translates what comes out of the tunnel.
    RemoteNat,
    /// The portal whose address the other side owns.
    RemotePortal,
    /// What `Table`, `Route` and `DNS` ask for.
    Table,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] =
        [Role::LocalNat, Role::LocalPortal, Role::RemoteNat, Role::RemotePortal, Role::Table];

    /// The name of its script.
    pub fn name(self) -> &'static str {
        match self {
            Role::LocalNat => "local-nat",
            Role::LocalPortal => "local-portal",
            Role::RemoteNat => "remote-nat",
            Role::RemotePortal => "remote-portal",
            Role::Table => "table",
        }
    }

    fn script(self) -> String {
        let text = match self {
            Role::LocalNat => include_str!("../../scripts/linux/local-nat"),
            Role::LocalPortal => include_str!("../../scripts/linux/local-portal"),
            Role::RemoteNat => include_str!("../../scripts/linux/remote-nat"),
            Role::RemotePortal => include_str!("../../scripts/linux/remote-portal"),
            Role::Table => include_str!("../../scripts/linux/table"),
        };
        text.replacen(READ_COMMON, COMMON, 1)
    }
}

/// The script of `role` with these arguments, ready to run: `up INTERFACE OPTION...`.
pub fn command(role: Role, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(role.script()).arg(role.name()).args(arguments);
    command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
    command
}

/// Why packets are not led, in one line.
#[derive(Debug)]
pub struct RoutesError(String);

impl fmt::Display for RoutesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RoutesError {}

/// Leads packets as the configuration says; what an earlier one led besides is undone.
///
/// # Errors
///
/// The first step that failed; those before it are undone, unless they hold from an earlier call.
pub fn up(
    interface: &InterfaceName,
    host: &Host,
    peers: &[Peer],
    run_dir: &RunDir,
) -> Result<(), RoutesError> {
    match table_options(host, peers) {
        Some(options) => run("up", interface, options, run_dir),
        None => run("down", interface, Vec::new(), run_dir),
    }
}

/// Undoes [`up`], if that did anything. What cannot be undone is logged.
pub fn down(interface: &InterfaceName, run_dir: &RunDir) {
    if let Err(error) = run("down", interface, Vec::new(), run_dir) {
        tracing::warn!("{error}");
    }
}

fn run(
    verb: &str,
    interface: &InterfaceName,
    options: Vec<String>,
    run_dir: &RunDir,
) -> Result<(), RoutesError> {
    if verb == "down" && !run_dir.routes_file(interface, Some(Role::Table.name())).exists() {
        return Ok(());
    }
    let mut command = command(Role::Table, [verb, interface.as_str()]);
    command.args(options).arg("--run-dir").arg(run_dir.path());
    let output =
        command.output().map_err(|error: io::Error| RoutesError(format!("cannot run /bin/sh: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        said.lines().for_each(|line| tracing::warn!("{line}"));
        return Ok(());
    }
    Err(RoutesError(said.lines().last().unwrap_or("the script of Table failed").to_owned()))
}

/// The options of the role `table`; `None` if the configuration leaves the system's routes alone.
fn table_options(host: &Host, peers: &[Peer]) -> Option<Vec<String>> {
    let routing = &host.routing;
    let mut options = Vec::new();
    match routing.table {
        Table::Off if routing.dns.is_empty() && routing.search.is_empty() => return None,
        Table::Off => options.push("--no-lead".to_owned()),
        Table::Auto => {}
        Table::Number(number) => options.extend(["--into".to_owned(), number.to_string()]),
    }
    let mut add = |option: &str, value: String| options.extend([option.to_owned(), value]);
    routing.routes.iter().for_each(|network| add("--route", network.to_string()));
    routing.dns.iter().for_each(|server| add("--dns", server.to_string()));
    routing.search.iter().for_each(|domain| add("--search", domain.clone()));
    let interfaces = peers.iter().filter_map(|peer| peer.interface.as_ref());
    interfaces.for_each(|interface| add("--wan", interface.to_string()));
    Some(options)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_script_holds_what_it_reads() {
        for role in Role::ALL {
            let script = role.script();
            assert!(script.contains("\nundo_ledger() {") && !script.contains(READ_COMMON), "{role:?}");
            let help = command(role, ["--help"]).output().expect("a shell");
            let text = String::from_utf8_lossy(&help.stdout).into_owned();
            assert!(text.starts_with(&format!("usage: {} up INTERFACE", role.name())), "{text}");
        }
    }

    #[test]
    fn the_configuration_becomes_options() {
        let options = |host: &str| {
            let key = "U2FtcGxlS2V5Rm9yVGVzdHNPbmx5Tm90U2VjcmV0ISE=";
            let text = format!("[Host]\nKey = {key}\n{host}\n[Peer]\nInterface = wan0\nLocalPort = 9000\n");
            let (config, _) = Config::parse("nc0", &text, Path::new("")).expect("valid");
            table_options(&config.host, &config.peers).map(|options| options.join(" "))
        };
        assert_eq!(options("Table = off"), None);
        assert_eq!(options("Table = auto").as_deref(), Some("--wan wan0"));
        assert_eq!(options("DNS = 9.9.9.9").as_deref(), Some("--no-lead --dns 9.9.9.9 --wan wan0"));
        assert_eq!(
            options("Table = 9\nRoute = 10.0.0.0/8").as_deref(),
            Some("--into 9 --route 10.0.0.0/8 --wan wan0")
        );
    }
}
