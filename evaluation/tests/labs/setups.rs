//! The set-ups of `scripts/linux` around real portals: who sees which address, what stays local,
//! and what is left when all is over.
//!
//! ```text
//!                            wan0 == wire 0 ==
//! client -- lan0 local nc0 <                   > internet -- eth0 remote nc0
//!                            wan1 == wire 1 ==       \------ eth0 server
//! ```
//!
//! Both portals' systems check sources strictly, and forward nothing until a set-up says so. The
//! default route of `local` is a link: whatever the set-up does not lead into the tunnel goes past
//! it, and arrives without NAT or not at all.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::ping::Ping;
use evaluation::portal::{PairOptions, Portal, binary, local_config, random_key, remote_config};
use evaluation::system_state::SystemState;
use evaluation::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use crate::script;

/// How long anything in the lab may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The lab with the two systems as they are before a set-up.
struct Site {
    lab: Lab,
    key: String,
    before: [SystemState; 2],
}

impl Site {
    fn new() -> Self {
        let lab =
            Lab::new(&[LinkSpec::mbit(50.0).delay_ms(2.0), LinkSpec::mbit(20.0).delay_ms(4.0)]).unwrap();
        for namespace in [lab.local(), lab.remote()] {
            namespace
                .sysctls(&[
                    ("net.ipv4.conf.all.rp_filter", "1"),
                    ("net.ipv4.ip_forward", "0"),
                    ("net.ipv6.conf.all.forwarding", "0"),
                ])
                .unwrap();
        }
        // The way that the lab starts with would lead past the tunnel.
        for family in Family::BOTH {
            let [flag, server, client] = match family {
                Family::V4 => ["-4", "203.0.113.0/24", "192.168.100.0/24"],
                Family::V6 => ["-6", "2001:db8:113::/64", "2001:db8:100::/64"],
            };
            lab.local().run("ip", &[flag, "route", "del", server]).unwrap();
            lab.internet().run("ip", &[flag, "route", "del", client]).unwrap();
        }
        let before = [lab.local(), lab.remote()].map(|namespace| SystemState::of(namespace).unwrap());
        Self { lab, key: random_key().unwrap(), before }
    }

    fn run_dir(&self, namespace: &Namespace) -> PathBuf {
        self.lab.directory().join(namespace.name())
    }

    /// The hooks that call a set-up.
    fn hooks(&self, namespace: &Namespace, role: &str, options: &str) -> Vec<String> {
        let run_dir = self.run_dir(namespace).display().to_string();
        let script = script(role);
        vec![
            format!("PostUp = {script} up %i {options} --run-dir {run_dir}"),
            format!("PreDown = {script} down %i --run-dir {run_dir}"),
        ]
    }

    /// The configurations of both portals with their set-ups: the local one's, the remote one's.
    fn configs(&self, local: (&str, &str), remote: (&str, &str)) -> [String; 2] {
        let options = |namespace, (role, options)| PairOptions {
            host_lines: self.hooks(namespace, role, options),
            ..PairOptions::default()
        };
        [
            local_config(&self.lab, &options(self.lab.local(), local), &self.key),
            remote_config(&options(self.lab.remote(), remote), &self.key),
        ]
    }

    /// Starts both portals, and waits for their set-ups and for the tunnel.
    fn start(&self, local: (&str, &str), remote: (&str, &str)) -> [Portal; 2] {
        let configs = self.configs(local, remote);
        let namespaces = [self.lab.local(), self.lab.remote()];
        let portals = [0, 1].map(|side| {
            let directory = self.lab.directory();
            let portal =
                Portal::start(namespaces[side], &binary().unwrap(), "nc0", &configs[side], directory)
                    .unwrap();
            wait_for("a set-up", || self.run_dir(namespaces[side]).join("nc0.setup").exists());
            portal
        });
        let once = Ping { timeout: Duration::from_millis(300), ..Ping::times(1) };
        let server = self.lab.server_address(Family::V4);
        wait_for("a way through the tunnel", || {
            once.run(self.lab.client(), server).is_ok_and(|report| !report.replies.is_empty())
        });
        portals
    }

    /// Stops both portals; their systems must be as they were.
    fn stop(&self, portals: [Portal; 2]) {
        for portal in portals {
            let run_dir = self.run_dir(portal.namespace());
            portal.stop().unwrap();
            assert_eq!(files(&run_dir), ["nc0.conf", "nc0.log"]);
        }
        self.assert_as_before();
    }

    fn assert_as_before(&self) {
        for (namespace, before) in [self.lab.local(), self.lab.remote()].into_iter().zip(&self.before) {
            assert_same(namespace, before);
        }
    }

    /// The remote portal's public addresses, as options of the set-ups.
    fn public_addresses(&self, option: &str) -> String {
        Family::BOTH.map(|family| format!(" {option} {}", self.lab.remote_address(family))).concat()
    }
}

#[track_caller]
fn assert_same(namespace: &Namespace, before: &SystemState) {
    let changes = SystemState::of(namespace).unwrap().changes_since(before);
    assert!(changes.is_empty(), "{}: {changes}", namespace.name());
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    until(PATIENCE, what, || Ok(condition())).unwrap();
}

/// Listens there. Waits for an earlier listener's port: a program that another test is just starting
/// holds a copy of every socket until it runs.
#[track_caller]
fn listen(namespace: &Namespace, address: SocketAddr) -> TcpListener {
    let mut listener = None;
    until(PATIENCE, "a listener", || {
        listener = Some(namespace.enter(|| TcpListener::bind(address))??);
        Ok(true)
    })
    .unwrap();
    listener.unwrap()
}

fn connect(namespace: &Namespace, target: SocketAddr) -> TcpStream {
    let stream = namespace.enter(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap();
    let stream = stream.unwrap_or_else(|error| panic!("{} to {target}: {error}", namespace.name()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connects to a listener there. Returns both ends: who connected, who was connected to.
#[track_caller]
fn handshake(from: &Namespace, listener: &TcpListener, target: SocketAddr) -> [TcpStream; 2] {
    let one = connect(from, target);
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_for("a connection at the listener", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (other, _) = accepted.unwrap();
    other.set_nonblocking(false).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    [one, other]
}

/// As [`handshake`], and carries data both ways.
#[track_caller]
fn conversation(from: &Namespace, listener: &TcpListener, target: SocketAddr) -> [TcpStream; 2] {
    let [mut one, mut other] = handshake(from, listener, target);
    // More than fits one packet, less than fits the sockets' buffers.
    let data: Vec<u8> = (0..32_000u32).map(|n| n as u8).collect();
    let mut got = vec![0; data.len()];
    one.write_all(&data).unwrap();
    other.read_exact(&mut got).unwrap();
    assert_eq!(got, data);
    other.write_all(&data).unwrap();
    one.read_exact(&mut got).unwrap();
    assert_eq!(got, data);
    [one, other]
}

fn any(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => ([0; 4], port).into(),
        Family::V6 => ([0u16; 8], port).into(),
    }
}

/// Both ends learn from the handshake alone that the tunnel's MTU bounds a segment.
#[track_caller]
fn assert_clamped(site: &Site, from: &Namespace, listener: &TcpListener, target: SocketAddr) {
    let link = site.lab.local().run("ip", &["-o", "link", "show", "nc0"]).unwrap();
    let mtu: u32 = link.split(" mtu ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // What earlier packets have shown of the path would hide what the handshake says.
    for namespace in [site.lab.client(), site.lab.server()] {
        for flag in ["-4", "-6"] {
            namespace.run("ip", &[flag, "route", "flush", "cache"]).unwrap();
        }
    }
    let headers = if target.is_ipv4() { 40 } else { 60 };
    for end in handshake(from, listener, target) {
        // The timestamps have taken 12 of it.
        let mss = getsockopt(&end, sockopt::TcpMaxSeg).unwrap() + 12;
        assert!(mss <= mtu - headers && mss > 1_200, "MSS {mss}, MTU {mtu}");
    }
}

/// What `ping` from the client says about one packet.
fn ping_says(client: &Namespace, arguments: &str) -> String {
    let mut ping = client.command("ping");
    ping.args(["-n", "-c", "2", "-i", "0.2", "-W", "1"]).args(arguments.split(' '));
    let output = ping.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A router tells that a packet does not fit the tunnel, which no earlier packet has shown.
#[track_caller]
fn assert_too_big(client: &Namespace, target: IpAddr) {
    let [flag, expected] = if target.is_ipv4() {
        ["-4", "Frag needed and DF set (mtu = "]
    } else {
        ["-6", "Packet too big: mtu="]
    };
    client.run("ip", &[flag, "route", "flush", "cache"]).unwrap();
    let said = ping_says(client, &format!("-M do -s 1440 {target}"));
    assert!(said.contains(expected), "{said}");
}

/// A datagram to a port where nobody listens is answered by an ICMP error, and that arrives.
#[track_caller]
fn assert_refused(from: &Namespace, own: SocketAddr, target: SocketAddr) {
    let socket = from.enter(|| UdpSocket::bind(own)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.connect(target).unwrap();
    socket.send(b"anybody?").unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{} to {target}", from.name());
}

/// Gives the client the public addresses, as its owner.
fn give_client_the_public_addresses(lab: &Lab) {
    let mut lines = String::new();
    for (family, length, gateway) in [(Family::V4, 32, "192.168.100.1"), (Family::V6, 128, "2001:db8:100::1")]
    {
        let public = lab.remote_address(family);
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        lines += &format!("addr add {public}/{length} dev eth0{nodad}\n");
        lines += &format!("route replace default via {gateway} src {public}\n");
    }
    lab.client().ip(&lines).unwrap();
}

#[test]
fn the_client_owns_the_remote_portals_address() {
    if !may_build_labs("the set-ups remote-portal and local-portal") {
        return;
    }
    let site = Site::new();
    let lab = &site.lab;
    give_client_the_public_addresses(lab);
    let local = format!("--lan lan0 {}", site.public_addresses("--address"));
    let portals = site.start(("local-portal", &local), ("remote-portal", "--port 7000"));
    for family in Family::BOTH {
        the_public_address_is_the_clients(&site, family);
        the_remote_portal_keeps_its_own(&site, family);
    }

    // Up once more changes nothing, and no connection notices.
    let listener = listen(lab.server(), any(Family::V4, 81));
    let [mut one, mut other] =
        conversation(lab.client(), &listener, (lab.server_address(Family::V4), 81).into());
    let up = || {
        for (namespace, role, options) in
            [(lab.local(), "local-portal", local.as_str()), (lab.remote(), "remote-portal", "--port 7000")]
        {
            let run_dir = site.run_dir(namespace).display().to_string();
            let line = format!("{} up nc0 {options} --run-dir {run_dir}", script(role));
            namespace.run("sh", &line.split_whitespace().collect::<Vec<_>>()).unwrap();
        }
        [lab.local(), lab.remote()].map(|namespace| SystemState::of(namespace).unwrap())
    };
    // The first one takes over the MTU, which the links have changed since the start.
    let ups = up();
    up();
    assert_same(lab.local(), &ups[0]);
    assert_same(lab.remote(), &ups[1]);
    one.write_all(b"still here").unwrap();
    other.read_exact(&mut [0; 10]).unwrap();
    drop((one, other));
    // One portal that clamps is enough for both directions.
    lab.remote().run("nft", &["flush", "chain", "inet", "netcombiner_nc0", "mss"]).unwrap();
    assert_clamped(&site, lab.client(), &listener, (lab.server_address(Family::V4), 81).into());
    site.stop(portals);
}

fn the_public_address_is_the_clients(site: &Site, family: Family) {
    let lab = &site.lab;
    let (public, server) = (lab.remote_address(family), lab.server_address(family));
    // The client calls out, and is called.
    let listener = listen(lab.server(), any(family, 80));
    assert_clamped(site, lab.client(), &listener, (server, 80).into());
    let ends = conversation(lab.client(), &listener, (server, 80).into());
    assert_eq!(ends[1].peer_addr().unwrap().ip(), public);
    let listener = listen(lab.client(), any(family, 8080));
    assert_clamped(site, lab.server(), &listener, (public, 8080).into());
    let ends = conversation(lab.server(), &listener, (public, 8080).into());
    assert_eq!(ends[1].local_addr().unwrap().ip(), public);
    assert_eq!(ends[1].peer_addr().unwrap().ip(), server);
    assert_refused(lab.client(), any(family, 0), (server, 9).into());
    assert_refused(lab.server(), any(family, 0), (public, 9).into());

    // Both portals can answer the client, whose address is the remote one's own.
    let [first_hop, far_end] = match family {
        Family::V4 => ["192.168.100.1", "10.77.0.2"],
        Family::V6 => ["2001:db8:100::1", "fd77::2"],
    };
    for target in [first_hop, far_end] {
        let said = ping_says(lab.client(), target);
        assert!(said.contains("bytes from"), "{target}: {said}");
        let listener = listen(if target == far_end { lab.remote() } else { lab.local() }, any(family, 82));
        conversation(lab.client(), &listener, (target.parse::<IpAddr>().unwrap(), 82).into());
    }
    assert_too_big(lab.client(), server);
    // In IPv6, the best source for an address that one has is that address itself (RFC 6724 §5, rule 1).
    let second_hop = if family == Family::V4 { far_end.to_owned() } else { public.to_string() };
    for (hops, name) in [(1, first_hop), (2, &second_hop)] {
        let said = ping_says(lab.client(), &format!("-t {hops} {server}"));
        let told = said.contains("Time to live exceeded") || said.contains("Time exceeded: Hop limit");
        assert!(said.contains(&format!("From {name} ")) && told, "hop {hops}: {said}");
    }
}

fn the_remote_portal_keeps_its_own(site: &Site, family: Family) {
    let lab = &site.lab;
    let (public, server) = (lab.remote_address(family), lab.server_address(family));
    // The client listens on the same ports, and must not be asked.
    for port in [22, 7000] {
        let clients = listen(lab.client(), (public, port).into());
        let own = listen(lab.remote(), any(family, port));
        conversation(lab.server(), &own, (public, port).into());
        clients.set_nonblocking(true).unwrap();
        assert!(clients.accept().is_err(), "port {port}");
    }
    // Its own connections, and the errors of its own datagrams, come back to it.
    let listener = listen(lab.server(), any(family, 83));
    let ends = conversation(lab.remote(), &listener, (server, 83).into());
    assert_eq!(ends[1].peer_addr().unwrap().ip(), public);
    assert_refused(lab.remote(), any(family, 0), (server, 9).into());
    let said = ping_says(lab.remote(), &server.to_string());
    assert!(said.contains("bytes from"), "{said}");
}

#[test]
fn the_lan_reaches_the_internet_by_nat() {
    if !may_build_labs("the set-ups local-nat and remote-nat") {
        return;
    }
    let site = Site::new();
    let snat = format!("--lan lan0 {}", site.public_addresses("--snat"));
    for (local, remote) in [
        // Both translate; the local one leaves the addresses of the LAN to itself.
        (("local-nat", "--lan lan0"), ("remote-nat", "--wan eth0")),
        // The remote one alone.
        (
            ("local-nat", "--lan lan0 --no-nat"),
            ("remote-nat", "--lan 192.168.100.0/24 --lan 2001:db8:100::/64"),
        ),
        // The local one alone, which owns the public address.
        (("local-nat", snat.as_str()), ("remote-portal", "--port 7000")),
    ] {
        let portals = site.start(local, remote);
        for family in Family::BOTH {
            the_lan_is_translated(&site, family);
        }
        site.stop(portals);
    }
}

fn the_lan_is_translated(site: &Site, family: Family) {
    let lab = &site.lab;
    let server = lab.server_address(family);
    let listener = listen(lab.server(), any(family, 80));
    assert_clamped(site, lab.client(), &listener, (server, 80).into());
    let ends = conversation(lab.client(), &listener, (server, 80).into());
    assert_eq!(ends[0].local_addr().unwrap().ip(), lab.client_address(family));
    assert_eq!(ends[1].peer_addr().unwrap().ip(), lab.remote_address(family));
    assert_refused(lab.client(), any(family, 0), (server, 9).into());
    assert_too_big(lab.client(), server);
    // Both portals are there for the LAN as well.
    let own = listen(lab.remote(), any(family, 22));
    let tunnel_end = if family == Family::V4 { "10.77.0.2" } else { "fd77::2" };
    conversation(lab.client(), &own, (tunnel_end.parse::<IpAddr>().unwrap(), 22).into());
}

#[test]
fn links_get_routing_tables_of_their_own() {
    if !may_build_labs("the set-ups' --link") {
        return;
    }
    let mut site = Site::new();
    // The lab's own rules for the links go; then wan1 has no way out.
    for flag in ["-4", "-6"] {
        for table in ["100", "101"] {
            for _ in 0..2 {
                site.lab.local().run("ip", &[flag, "rule", "del", "lookup", table]).unwrap();
            }
        }
    }
    site.before[0] = SystemState::of(site.lab.local()).unwrap();
    let local = "--lan lan0 --link wan0 --link wan1,192.168.2.1,2001:db8:2::1";
    let mut portals = site.start(("local-nat", local), ("remote-nat", ""));
    wait_for("both links", || {
        let state = portals[0].show().unwrap();
        let links = state["links"].as_array().unwrap().clone();
        links.len() == 2 && links.iter().all(|link| link["state"] == "up")
    });
    assert!(portals[0].is_running());
    // A packet from the link's address leaves by the link as well.
    for (link, family) in [(0, Family::V4), (1, Family::V4), (0, Family::V6), (1, Family::V6)] {
        let address = site.lab.local_address(link, family).to_string();
        let target = site.lab.remote_address(family).to_string();
        let way = site.lab.local().run("ip", &["route", "get", &target, "from", &address]).unwrap();
        assert!(way.contains(&format!("dev wan{link}")), "{way}");
    }
    site.stop(portals);
}

#[test]
fn twenty_times_up_and_down_leaves_nothing() {
    if !may_build_labs("twenty cycles of both portals") {
        return;
    }
    let site = Site::new();
    let local = format!("--lan lan0 {}", site.public_addresses("--address"));
    let configs = site.configs(("local-portal", &local), ("remote-portal", "--port 7000"));
    // Both systems at once, each in its own thread.
    std::thread::scope(|scope| {
        for (namespace, config) in [site.lab.local(), site.lab.remote()].into_iter().zip(&configs) {
            let run_dir = site.run_dir(namespace);
            scope.spawn(move || cycle(namespace, config, &run_dir));
        }
    });
    site.assert_as_before();
}

fn cycle(namespace: &Namespace, config: &str, run_dir: &Path) {
    fs::create_dir(run_dir).unwrap();
    let path = run_dir.join("nc0.conf");
    fs::write(&path, config).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let [binary, path, directory] =
        [binary().unwrap(), path, run_dir.to_owned()].map(|path| path.display().to_string());
    let _guard = KillOnDrop(run_dir.join("nc0.pid"));
    for round in 0..20 {
        namespace.run(&binary, &["nc0", "--config", &path, "--run-dir", &directory]).unwrap();
        let rules = namespace.run("ip", &["rule"]).unwrap();
        assert!(rules.contains("lookup 7700"), "round {round}: {rules}");
        namespace.run(&binary, &["down", "nc0", "--run-dir", &directory]).unwrap();
        assert_eq!(files(run_dir), ["nc0.conf"], "round {round}");
        let links = namespace.run("ip", &["-o", "link"]).unwrap();
        assert!(!links.contains("nc0"), "round {round}: {links}");
    }
}

/// Ends the daemon of a test that fails.
struct KillOnDrop(PathBuf);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
