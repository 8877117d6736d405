//! How other tunnels are started, each with one process at each end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contestant::End;
use super::track::Track;
use crate::netns::Namespace;
use crate::process::Started;
use crate::wait::until;

/// What belongs to the two ends: local, remote.
pub(super) type Ends<T> = [T; 2];

/// The tunnel's interface on both hosts.
pub(super) const INTERFACE: &str = "race0";

/// Where the peers send to.
const PORT: u16 = 7100;

/// WireGuard's usual MTU; it also suits OpenVPN's somewhat shorter header.
const MTU: u16 = 1_420;

/// How long a program may take to make its interface.
const PATIENCE: Duration = Duration::from_secs(10);

/// The address of an end inside the tunnel.
pub(super) fn inner_address(side: usize) -> IpAddr {
    Ipv4Addr::new(10, 78, 0, side as u8 + 1).into()
}

/// A program that is called as `wireguard-go` is. Its control socket is in a file system of its own, which goes with
/// it.
pub(super) fn wireguard(track: &Track, program: &Path) -> Result<Ends<End>> {
    const SCRIPT: &str =
        r#"mount -t tmpfs tmpfs /run && mkdir -p /run/wireguard && exec "$1" --foreground "$2""#;
    let keys: Ends<String> = [private_key(track, 0)?, private_key(track, 1)?];
    let start = |side: usize| -> Result<End> {
        let host = &track.hosts()[side];
        let mut command = host.quiet_command("unshare");
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(program).arg(INTERFACE);
        // boringtun would give up the right to change its interface.
        command.env("WG_SUDO", "1");
        let child = spawn(command, track, host, program)?;
        wait_interface(host)?;
        let config = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n\
             [Peer]\nPublicKey = {}\nEndpoint = {}:{PORT}\nAllowedIPs = 0.0.0.0/0\n",
            keys[side],
            public_key(host, &keys[1 - side])?,
            Track::address(0, 1 - side)
        );
        let mount = format!("--mount=/proc/{}/ns/mnt", child.0.id());
        host.run_with_input("nsenter", &[&mount, "wg", "setconf", INTERFACE, "/dev/stdin"], &config)?;
        let address = inner_address(side);
        host.ip(&format!("addr add {address}/24 dev {INTERFACE}\nlink set {INTERFACE} mtu {MTU} up\n"))?;
        Ok(End::Program(child))
    };
    Ok([start(0)?, start(1)?])
}

fn private_key(track: &Track, side: usize) -> Result<String> {
    Ok(track.hosts()[side].run("wg", &["genkey"])?.trim().to_owned())
}

fn public_key(host: &Namespace, private: &str) -> Result<String> {
    Ok(host.run_with_input("wg", &["pubkey"], private)?.trim().to_owned())
}

/// OpenVPN between two peers. Both have the same certificate, which vouches for itself.
pub(super) fn openvpn(track: &Track, program: &Path) -> Result<Ends<End>> {
    let [certificate, key] = ["race.crt", "race.key"].map(|name| track.directory().join(name));
    let mut parameters = rcgen::CertificateParams::new(vec!["race".to_owned()])?;
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = rcgen::KeyPair::generate()?;
    fs::write(&certificate, parameters.self_signed(&pair)?.pem())?;
    fs::write(&key, pair.serialize_pem())?;
    let start = |side: usize| -> Result<End> {
        let host = &track.hosts()[side];
        let (mtu, port) = (MTU.to_string(), PORT.to_string());
        let [near, far] = [side, 1 - side].map(|side| Track::address(0, side).to_string());
        let [own, other] = [side, 1 - side].map(|side| inner_address(side).to_string());
        let mut command = host.quiet_command(program);
        command.args(["--dev", INTERFACE, "--dev-type", "tun", "--proto", "udp", "--port", &port]);
        command.args(["--local", &near, "--remote", &far, "--ifconfig", &own, &other]);
        command.args(["--cipher", "AES-256-GCM", "--data-ciphers", "AES-256-GCM", "--disable-dco"]);
        command.args(["--tun-mtu", &mtu, "--mssfix", "0", "--fast-io"]);
        command.arg("--ca").arg(&certificate).arg("--cert").arg(&certificate).arg("--key").arg(&key);
        match side {
            0 => command.arg("--tls-client"),
            _ => command.args(["--tls-server", "--dh", "none"]),
        };
        Ok(End::Program(spawn(command, track, host, program)?))
    };
    Ok([start(0)?, start(1)?])
}

/// A tunnel that a program starts: see `Contestant::peer`.
pub(super) fn program(track: &Track, program: &Path) -> Result<Ends<End>> {
    let start = |side: usize| -> Result<End> {
        let host = &track.hosts()[side];
        let mut command = host.quiet_command(program);
        command
            .env("SIDE", host.name())
            .env("OUTER_LOCAL", Track::address(0, side).to_string())
            .env("OUTER_REMOTE", Track::address(0, 1 - side).to_string())
            .env("INTERFACE", INTERFACE)
            .env("ADDRESS", format!("{}/24", inner_address(side)))
            .env("DIRECTORY", track.directory());
        Ok(End::Program(spawn(command, track, host, program)?))
    };
    Ok([start(0)?, start(1)?])
}

/// Starts a program, what it says going to a file.
fn spawn(mut command: Command, track: &Track, host: &Namespace, program: &Path) -> Result<Started> {
    let log = fs::File::create(track.directory().join(format!("{}-peer.log", host.name())))?;
    command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log));
    Ok(Started(command.spawn().with_context(|| format!("starting {}", program.display()))?))
}

fn wait_interface(host: &Namespace) -> Result<()> {
    until(PATIENCE, INTERFACE, || {
        ensure!(host.run("ip", &["link", "show", INTERFACE]).is_ok(), "no such interface");
        Ok(true)
    })
    .map(drop)
}
