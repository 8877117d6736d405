//! `netcombiner setup`.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::RunArgs;
use super::failure::{Failure, print_out, say};
use super::up::CONFIG_DIR;
use crate::config::{InterfaceName, Network};
use crate::process::privilege;
use crate::process::run_dir::RunDir;
use crate::setup::{self, Link, LinkRoute, LocalOptions, Manner, Pairing, Place, RemoteOptions};

pub(super) const EXAMPLES: &str = "\
Example:
  netcombiner setup remote nc0                               (on the VPS)
  netcombiner setup local nc0 nc1:eyJhIjpb... --lan br-lan   (on the router)
  netcombiner setup undo nc0                                 (on either)";

/// UDP port of the remote portal.
const PORT: u16 = 7000;

/// Most bytes of standard input that a pairing line is looked for in.
const MAX_LINE: u64 = 8192;

#[derive(Debug, Subcommand)]
pub(super) enum SetupCommand {
    /// Make this system, with a public address, the remote portal, and print the pairing line
    #[command(after_help = "\
Examples:
  netcombiner setup remote nc0
  netcombiner setup remote nc0 --manner address --dry-run
  ssh vps netcombiner setup remote nc0 | netcombiner setup local nc0 - --lan br-lan

It finds the public addresses, makes a key, writes the configuration, and starts
the portal, now and at each boot. The line that it prints on standard output
holds the key: treat it as a password. A second time it prints the same line and
changes nothing.")]
    Remote {
        /// Interface to make; its name ends in a number
        interface: InterfaceName,
        /// Who owns the public address
        #[arg(long, value_enum, default_value_t = MannerName::Nat, value_name = "MANNER")]
        manner: MannerName,
        /// UDP port to listen on
        #[arg(long, default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Address by which the router reaches this system; repeatable [default: the public ones of --wan]
        #[arg(long, value_name = "ADDRESS")]
        address: Vec<IpAddr>,
        /// Interface to the Internet [default: that of the default route]
        #[arg(long, value_name = "INTERFACE")]
        wan: Option<InterfaceName>,
        /// Port of SSH, which stays here where the other side owns the address [default: that of this
        /// connection, or 22]
        #[arg(long, value_name = "PORT")]
        ssh: Option<u16>,
        #[command(flatten)]
        how: HowArgs,
        #[command(flatten)]
        places: PlaceArgs,
    },
    /// Make this system, with several Internet links, the local portal
    #[command(after_help = "\
Examples:
  netcombiner setup local nc0 nc1:eyJhIjpb... --lan br-lan
  netcombiner setup local nc0 - --route-all <pairing-line
  netcombiner setup local nc0 nc1:eyJhIjpb... --lan br-lan --route 10.0.0.0/8 --dry-run

Each interface with a default route becomes a link, bound to it, and follows its
routes when DHCP or PPP change them. The tunnel's own packets are marked and
never led into the tunnel. Call it again when a link was added.")]
    Local {
        /// Interface to make; its name ends in a number
        interface: InterfaceName,
        /// What `netcombiner setup remote` printed; - reads it from standard input, which hides it from
        /// `ps` and the shell's history
        pairing_line: String,
        /// Interface to the LAN, all of which goes into the tunnel; repeatable
        #[arg(long, value_name = "INTERFACE")]
        lan: Vec<InterfaceName>,
        /// A link; with its gateway if it has no default route of its own; repeatable [default: each
        /// interface with a default route]
        #[arg(long, value_name = "INTERFACE[,GATEWAY]", value_parser = parse::<LinkRoute>)]
        link: Vec<LinkRoute>,
        /// Lead all that this system itself sends into the tunnel as well
        #[arg(long, conflicts_with = "route")]
        route_all: bool,
        /// Lead this network alone into the tunnel, for this system and the LAN; several may follow
        #[arg(long, value_name = "NET", num_args = 1.., value_parser = parse::<Network>)]
        route: Vec<Network>,
        /// Name server for this system, told to resolvconf; repeatable
        #[arg(long, value_name = "ADDRESS")]
        dns: Vec<IpAddr>,
        #[command(flatten)]
        how: HowArgs,
        #[command(flatten)]
        places: PlaceArgs,
    },
    /// Take back exactly what `setup remote` or `setup local` did
    #[command(after_help = "\
Examples:
  netcombiner setup undo nc0 --dry-run
  netcombiner setup undo nc0

The portal ends, and with it what it did to routes, rules, nftables and sysctls;
files that were there before come back. A configuration that was edited since is
kept beside, as nc0.edited.")]
    Undo {
        /// Interface
        interface: InterfaceName,
        /// Print what would be done, do nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        places: PlaceArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct HowArgs {
    /// Print every file and command, do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "dry_run")]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// Directory of the configurations
    #[arg(long, value_name = "DIR", default_value = CONFIG_DIR)]
    etc_dir: PathBuf,
    /// Directory where it is noted what was done
    #[arg(long, value_name = "DIR", default_value = setup::STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

/// [`Manner`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MannerName {
    /// This system, which translates (NAT) for the other side
    Nat,
    /// The local portal, which translates (NAT) for its LAN
    LocalNat,
    /// A host behind the local portal
    Address,
}

impl From<MannerName> for Manner {
    fn from(name: MannerName) -> Manner {
        match name {
            MannerName::Nat => Manner::Nat,
            MannerName::LocalNat => Manner::LocalNat,
            MannerName::Address => Manner::Address,
        }
    }
}

fn parse<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

pub(super) fn run(command: SetupCommand) -> Result<(), Failure> {
    match command {
        SetupCommand::Remote { interface, manner, port, address, wan, ssh, how, places } => {
            let place = place(interface, &places, how.dry_run)?;
            let ssh = ssh.unwrap_or_else(ssh_port);
            let asked = RemoteOptions { manner: manner.into(), port, addresses: address, wan, ssh };
            remote(&place, &asked, &how)
        }
        SetupCommand::Local { interface, pairing_line, lan, link, route_all, route, dns, how, places } => {
            let place = place(interface, &places, how.dry_run)?;
            let pairing = pairing(Zeroizing::new(pairing_line)).map_err(|reason| failed(&place, &reason))?;
            let asked = LocalOptions { pairing, lans: lan, links: link, route_all, routes: route, dns };
            local(&place, &asked, &how)
        }
        SetupCommand::Undo { interface, dry_run, places } => {
            undo(&place(interface, &places, dry_run)?, dry_run)
        }
    }
}

fn place(interface: InterfaceName, places: &PlaceArgs, dry_run: bool) -> Result<Place, Failure> {
    if !dry_run && !privilege::may_administer_network() {
        return Err(Failure::new(format!("{interface}: set-up needs CAP_NET_ADMIN; run as root")));
    }
    let unusable = |error: io::Error| Failure::new(format!("{interface}: unusable path: {error}"));
    Ok(Place {
        etc_dir: std::path::absolute(&places.etc_dir).map_err(unusable)?,
        state_dir: std::path::absolute(&places.state_dir).map_err(unusable)?,
        run_dir: RunDir::new(&places.run.run_dir).map_err(unusable)?,
        is_default: places.etc_dir == Path::new(CONFIG_DIR)
            && places.run.run_dir == Path::new(crate::process::run_dir::DEFAULT),
        program: std::env::current_exe().map_err(unusable)?,
        interface,
    })
}

/// The port by which the operator is here (sshd sets `SSH_CONNECTION`), as that must stay open.
fn ssh_port() -> u16 {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    connection.split(' ').nth(3).and_then(|port| port.parse().ok()).unwrap_or(22)
}

fn pairing(line: Zeroizing<String>) -> Result<Pairing, String> {
    let line = if line.as_str() == "-" {
        let mut text = Zeroizing::new(String::new());
        let read = io::stdin().take(MAX_LINE).read_to_string(&mut text);
        read.map_err(|error| format!("cannot read standard input: {error}"))?;
        text
    } else {
        line
    };
    line.parse().map_err(|error: setup::PairingError| error.to_string())
}

fn remote(place: &Place, asked: &RemoteOptions, how: &HowArgs) -> Result<(), Failure> {
    let made = setup::remote(place, asked, how.dry_run).map_err(|error| failed(place, &error))?;
    if let Some(shown) = made.shown {
        made.notes.iter().for_each(|note| say(note));
        return print_out(&shown);
    }
    let line = made.pairing.to_line();
    if how.json {
        let value = json!({
            "interface": place.interface.as_str(),
            "pairing": line.as_str(),
            "endpoints": made.pairing.endpoints,
            "port": made.pairing.port,
            "manner": made.pairing.manner.name(),
            "changed": made.changed,
            "notes": made.notes,
        });
        return print_out(&Zeroizing::new(format!("{value:#}\n")));
    }
    made.notes.iter().for_each(|note| say(note));
    let endpoints: Vec<String> = made.pairing.endpoints.iter().map(IpAddr::to_string).collect();
    say(&format!(
        "{} listens on UDP port {} of {}",
        place.interface,
        made.pairing.port,
        endpoints.join(", ")
    ));
    let interface = &place.interface;
    say(&format!(
        "on the router: netcombiner setup local {interface} PAIRING-LINE --lan LAN; the line is secret:"
    ));
    print_out(&Zeroizing::new(format!("{}\n", *line)))
}

fn local(place: &Place, asked: &LocalOptions, how: &HowArgs) -> Result<(), Failure> {
    let made = setup::local(place, asked, how.dry_run).map_err(|error| failed(place, &error))?;
    if how.json {
        let value = json!({
            "interface": place.interface.as_str(),
            "links": made.links,
            "changed": made.changed,
            "notes": made.notes,
        });
        return print_out(&format!("{value:#}\n"));
    }
    made.notes.iter().for_each(|note| say(note));
    if let Some(shown) = made.shown {
        return print_out(&shown);
    }
    print_out(&made.links.iter().map(shown_link).collect::<String>())
}

fn shown_link(link: &Link) -> String {
    let state = link.state.as_deref().unwrap_or("not known");
    format!("link {} to {}: {state}\n", link.name, link.remote)
}

fn undo(place: &Place, dry_run: bool) -> Result<(), Failure> {
    let told = setup::undo(place, dry_run).map_err(|error| failed(place, &error))?;
    if told.is_empty() {
        say(&format!("{}: nothing is set up", place.interface));
    }
    print_out(&told.iter().map(|line| format!("{line}\n")).collect::<String>())
}

fn failed(place: &Place, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", place.interface))
}
