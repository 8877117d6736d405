//! Who takes part in the race.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, Serializer};

use super::peers::{self, Ends};
use super::track::{PATHS, Track};
use crate::ping::Ping;
use crate::portal::{PORT, Portal, binary, random_key};
use crate::process::Started;
use crate::usage;
use crate::wait::until;

/// How long a tunnel may take until packets pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// One that takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Contestant {
    /// How people call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What takes part.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The path itself.
    NoTunnel,
    /// A pair of portals over so many paths, with lines of `[Host]`.
    Netcombiner {
        /// The further lines.
        host_lines: Vec<String>,
        /// Paths that are used, from the first.
        paths: usize,
    },
    /// A program that is called as `wireguard-go` is, and set up by `wg`.
    WireGuard(PathBuf),
    /// OpenVPN between two peers: TLS, AES-256-GCM, without help of the kernel.
    OpenVpn(PathBuf),
    /// Any other tunnel, by a program that starts it: see [`Contestant::peer`].
    Program(PathBuf),
}

/// A tunnel at work, or the path itself. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    ends: Option<Ends<End>>,
    /// The remote end's address in the tunnel.
    pub address: IpAddr,
}

/// The process at one end.
#[derive(Debug)]
pub(super) enum End {
    /// A portal.
    Portal(Portal),
    /// Another program.
    Program(Started),
}

impl Contestant {
    /// The ones that are always there: no tunnel, and portals with each protection, without offload, and over two
    /// paths.
    pub fn usual() -> Vec<Self> {
        let portals = |name: &str, paths, lines: &[&str]| Self {
            name: format!("netcombiner, {name}"),
            kind: Kind::Netcombiner {
                host_lines: lines.iter().map(|&line| line.to_owned()).collect(),
                paths,
            },
        };
        vec![
            Self { name: "no tunnel".into(), kind: Kind::NoTunnel },
            portals("aead", 1, &[]),
            portals("mac", 1, &["Protection = mac"]),
            portals("none", 1, &["Protection = none"]),
            portals("offload off", 1, &["Offload = off"]),
            portals("two paths", PATHS, &[]),
        ]
    }

    /// The other tunnels that are installed.
    pub fn installed_peers() -> Vec<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian's place of openvpn is not in everybody's path.
        let places: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
        let find = |name: &&str| places.iter().map(|place| place.join(name)).find(|file| file.is_file());
        let known = ["wireguard-go", "boringtun-cli", "gotatun", "openvpn"];
        known.iter().filter_map(|name| Some(Self::peer(name, find(name)?))).collect()
    }

    /// Another tunnel by its program. What is called `openvpn…` is started as that, `wireguard…`, `boringtun…` and
    /// `gotatun…` as `wireguard-go`. Any other program is started on both hosts without arguments, and finds
    /// in its environment `SIDE` (`local` or `remote`), `OUTER_LOCAL` and `OUTER_REMOTE` (own and other address), `INTERFACE`
    /// and `ADDRESS` (with prefix length) to make, and `DIRECTORY` for files. It must bring the tunnel up, and be it until it is
    /// killed: a script ends with `exec`.
    pub fn peer(name: &str, program: PathBuf) -> Self {
        let called = |known: &[&str]| known.iter().any(|known| name.starts_with(known));
        let kind = if called(&["openvpn"]) {
            Kind::OpenVpn(program)
        } else if called(&["wireguard", "boringtun", "gotatun"]) {
            Kind::WireGuard(program)
        } else {
            Kind::Program(program)
        };
        Self { name: name.to_owned(), kind }
    }

    /// Whether it is another tunnel than ours.
    pub fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::WireGuard(_) | Kind::OpenVpn(_) | Kind::Program(_))
    }

    /// Whether it may exchange many packets at a time with the kernel. Programs that are not known are taken for ones
    /// that do not.
    pub fn may_offload(&self) -> bool {
        !matches!(self.kind, Kind::OpenVpn(_) | Kind::Program(_))
    }

    /// Starts it, and waits until packets pass.
    pub fn start(&self, track: &Track) -> Result<Running> {
        let (ends, address) = match &self.kind {
            Kind::NoTunnel => (None, Track::address(0, 1)),
            Kind::Netcombiner { host_lines, paths } => {
                (Some(portals(track, host_lines, *paths)?), peers::inner_address(1))
            }
            Kind::WireGuard(program) => (Some(peers::wireguard(track, program)?), peers::inner_address(1)),
            Kind::OpenVpn(program) => (Some(peers::openvpn(track, program)?), peers::inner_address(1)),
            Kind::Program(program) => (Some(peers::program(track, program)?), peers::inner_address(1)),
        };
        let mut running = Running { ends, address };
        let once = Ping { timeout: Duration::from_millis(500), ..Ping::times(1) };
        until(PATIENCE, &format!("packets through {}", self.name), || {
            running.check()?;
            // Without a route yet, ping fails; that is told only if nothing better comes.
            Ok(!once.run(&track.hosts()[0], address)?.replies.is_empty())
        })?;
        if let (Kind::Netcombiner { paths, .. }, Some([End::Portal(local), _])) = (&self.kind, &running.ends)
        {
            (0..*paths).try_for_each(|path| local.wait_state(&link_name(path), "up", PATIENCE).map(drop))?;
        }
        Ok(running)
    }
}

impl Running {
    /// The processor time that each end has used so far, in seconds; `None` without a tunnel.
    pub fn cpu_seconds(&self) -> Result<Option<[f64; 2]>> {
        self.each(usage::cpu_seconds)
    }

    /// The same to the nanosecond, while no thread ends.
    pub fn exact_cpu_seconds(&self) -> Result<Option<[f64; 2]>> {
        self.each(usage::exact_cpu_seconds)
    }

    /// The resident memory of each end in kB.
    pub fn rss_kb(&self) -> Result<Option<[u64; 2]>> {
        self.each(usage::rss_kb)
    }

    /// The most that it ever was.
    pub fn peak_rss_kb(&self) -> Result<Option<[u64; 2]>> {
        self.each(usage::peak_rss_kb)
    }

    /// What portals say of themselves, for people.
    pub fn account(&self) -> String {
        let tell = |end: &End| match end {
            End::Portal(portal) => {
                format!("{}\n{}", portal.show_text().unwrap_or_default(), portal.log())
            }
            End::Program(_) => String::new(),
        };
        self.ends.iter().flatten().map(tell).collect()
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        for end in self.ends.into_iter().flatten() {
            match end {
                End::Portal(portal) => portal.stop()?,
                End::Program(child) => drop(child),
            }
        }
        Ok(())
    }

    fn each<T>(&self, of: impl Fn(u32) -> Result<T>) -> Result<Option<[T; 2]>> {
        let Some([local, remote]) = &self.ends else { return Ok(None) };
        Ok(Some([of(local.pid())?, of(remote.pid())?]))
    }

    /// Whether both ends still run.
    fn check(&mut self) -> Result<()> {
        for end in self.ends.iter_mut().flatten() {
            let ended = match end {
                End::Portal(portal) => !portal.is_running(),
                End::Program(child) => child.0.try_wait()?.is_some(),
            };
            ensure!(!ended, "it has ended");
        }
        Ok(())
    }
}

impl End {
    fn pid(&self) -> u32 {
        match self {
            Self::Portal(portal) => portal.pid(),
            Self::Program(child) => child.0.id(),
        }
    }
}

fn link_name(path: usize) -> String {
    format!("path{path}")
}

fn portals(track: &Track, host_lines: &[String], paths: usize) -> Result<Ends<End>> {
    if !(1..=PATHS).contains(&paths) {
        bail!("there are {PATHS} paths");
    }
    let key = random_key()?;
    let host = |side| {
        let lines: String = host_lines.iter().map(|line| format!("{line}\n")).collect();
        format!("[Host]\nKey = {key}\nAddress = {}/24\n{lines}", peers::inner_address(side))
    };
    let links: String = (0..paths)
        .map(|path| {
            let (name, to) = (link_name(path), Track::address(path, 1));
            format!(
                "\n[Peer]\nName = {name}\nMethod = UDP\nInterface = wire{path}\nRemoteHost = {to}\nRemotePort = {PORT}\n"
            )
        })
        .collect();
    let configs =
        [host(0) + &links, host(1) + &format!("\n[Peer]\nName = local\nMethod = UDP\nLocalPort = {PORT}\n")];
    let binary = binary()?;
    let start = |side: usize| {
        let host = &track.hosts()[side];
        let portal = Portal::start(host, &binary, peers::INTERFACE, &configs[side], track.directory());
        portal.map(End::Portal).with_context(|| format!("starting the portal of {}", host.name()))
    };
    Ok([start(0)?, start(1)?])
}

impl Serialize for Contestant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_known_by_their_names() {
        let kind = |name: &str| Contestant::peer(name, "/bin/x".into()).kind;
        assert_eq!(kind("wireguard-go-new"), Kind::WireGuard("/bin/x".into()));
        assert_eq!(kind("boringtun-cli"), Kind::WireGuard("/bin/x".into()));
        assert_eq!(kind("openvpn"), Kind::OpenVpn("/bin/x".into()));
        assert_eq!(kind("glorytun"), Kind::Program("/bin/x".into()));
        assert!(Contestant::usual().iter().all(|contestant| !contestant.is_peer()));
        assert!(!Contestant::peer("glorytun", "/bin/x".into()).may_offload());
    }
}
