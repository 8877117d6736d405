//! `netcombiner setup`: both sides by one command each, a client behind them, an address that changes, and the way
//! back.
//!
//! ```text
//!                              wan0 == wire 0 == (NAT)
//! client -- lan0 router (local) <                      > internet -- eth0 VPS (remote)
//!                              wan1 == wire 1 ==           \-------- eth0 server
//! ```
//!
//! Both systems are as a distribution leaves them: they check sources strictly and forward nothing. The router has
//! a default route for each link, of different metrics, as DHCP clients make them. The internet translates what
//! comes from the first link, and the second one's address and gateway change.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::ping::Ping;
use evaluation::portal::binary;
use evaluation::system_state::SystemState;
use evaluation::wait::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything in the lab may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent to see that both links carry it: a second of both.
const LOAD: usize = 2_000_000;

/// Both systems before the set-up, and what is on their disks.
struct Site {
    lab: Lab,
    before: [(SystemState, Vec<String>); 2],
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new(&[LinkSpec::mbit(8.0).delay_ms(2.0), LinkSpec::mbit(6.0).delay_ms(4.0)]).unwrap();
        for namespace in [lab.local(), lab.remote()] {
            namespace
                .sysctls(&[
                    ("net.ipv4.conf.all.rp_filter", "1"),
                    ("net.ipv4.ip_forward", "0"),
                    ("net.ipv6.conf.all.forwarding", "0"),
                ])
                .unwrap();
        }
        be_a_plain_router(&lab);
        translate_first_link(&lab);
        for namespace in [lab.local(), lab.remote()] {
            fs::create_dir(lab.directory().join(namespace.name())).unwrap();
        }
        // A file that the set-up replaces.
        let etc = lab.directory().join("local/etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("nc0"), "# an older one\n").unwrap();
        let before = [lab.local(), lab.remote()].map(|namespace| state(&lab, namespace));
        Self { lab, before }
    }

    /// `netcombiner WORDS` there, with directories of its own; what it prints on standard output.
    fn try_run(&self, namespace: &Namespace, words: &[&str]) -> Result<String, String> {
        let directory = self.lab.directory().join(namespace.name());
        let place = |name: &str| directory.join(name).display().to_string();
        let (etc, state, run) = (place("etc"), place("state"), place("run"));
        let mut arguments = words.to_vec();
        if words[0] == "setup" {
            arguments.extend(["--etc-dir", &etc, "--state-dir", &state]);
        }
        arguments.extend(["--run-dir", &run]);
        let program = binary().unwrap().display().to_string();
        namespace.run(&program, &arguments).map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn run(&self, namespace: &Namespace, words: &[&str]) -> String {
        self.try_run(namespace, words).unwrap()
    }

    /// The links that the router's portal shows.
    fn links(&self) -> Vec<Value> {
        let shown = self.run(self.lab.local(), &["show", "nc0", "--json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["links"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn assert_as_before(&self) {
        for (namespace, (system, files)) in
            [self.lab.local(), self.lab.remote()].into_iter().zip(&self.before)
        {
            let (now, files_now) = state(&self.lab, namespace);
            let changes = now.changes_since(system);
            assert!(changes.is_empty(), "{}: {changes}", namespace.name());
            assert_eq!(&files_now, files, "{}", namespace.name());
        }
    }
}

impl Drop for Site {
    /// Ends the daemons of a test that fails.
    fn drop(&mut self) {
        for name in ["local", "remote"] {
            let path = self.lab.directory().join(name).join("run/nc0.pid");
            if let Some(pid) = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// Takes the lab's own routes away, and gives each link a default route as a DHCP client does.
fn be_a_plain_router(lab: &Lab) {
    for family in Family::BOTH {
        let (flag, server, client) = match family {
            Family::V4 => ("-4", "203.0.113.0/24", "192.168.100.0/24"),
            Family::V6 => ("-6", "2001:db8:113::/64", "2001:db8:100::/64"),
        };
        for table in ["100", "101"] {
            for _ in 0..2 {
                lab.local().run("ip", &[flag, "rule", "del", "lookup", table]).unwrap();
            }
            lab.local().run("ip", &[flag, "route", "flush", "table", table]).unwrap();
        }
        lab.local().run("ip", &[flag, "route", "del", server]).unwrap();
        lab.internet().run("ip", &[flag, "route", "del", client]).unwrap();
        lab.local().run("ip", &[flag, "route", "del", "default"]).unwrap();
    }
    let route = |link: usize| {
        let gateway = lab.gateway(link, Family::V4);
        format!("route add default via {gateway} dev {} metric {}\n", Lab::wan_interface(link), 100 + link)
    };
    lab.local().ip(&(route(0) + &route(1))).unwrap();
    // IPv6 over the first link only.
    let gateway = lab.gateway(0, Family::V6);
    lab.local().ip(&format!("route add default via {gateway} dev wan0 metric 1024")).unwrap();
}

fn translate_first_link(lab: &Lab) {
    let rules = "table ip nat { chain postrouting { type nat hook postrouting priority srcnat; \
                 ip saddr 192.168.1.0/24 masquerade; }; }";
    lab.internet().run_with_input("nft", &["-f", "-"], rules).unwrap();
}

/// The system, and each file and directory of it with what is in it.
fn state(lab: &Lab, namespace: &Namespace) -> (SystemState, Vec<String>) {
    let mut files = Vec::new();
    list(&lab.directory().join(namespace.name()), &mut files);
    files.sort();
    (SystemState::of(namespace).unwrap(), files)
}

fn list(path: &Path, into: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::symlink_metadata(path).unwrap();
    let text = if metadata.is_file() { fs::read_to_string(path).unwrap() } else { String::new() };
    into.push(format!("{} {:o} {} {text}", path.display(), metadata.mode(), metadata.uid()));
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| list(&entry.path(), into));
    }
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    until(PATIENCE, what, || Ok(condition())).unwrap();
}

fn answers(from: &Namespace, target: IpAddr) -> bool {
    let once = Ping { timeout: Duration::from_millis(300), ..Ping::times(1) };
    once.run(from, target).is_ok_and(|report| !report.replies.is_empty())
}

/// Connects, sends `length` bytes, and waits until they are there; who was seen to connect.
#[track_caller]
fn send(from: &Namespace, to: &Namespace, target: SocketAddr, length: usize) -> IpAddr {
    let any: SocketAddr =
        if target.is_ipv4() { ([0; 4], target.port()).into() } else { ([0u16; 8], target.port()).into() };
    let listener = to.enter(|| TcpListener::bind(any)).unwrap().unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut left = length;
        let mut buffer = [0; 65_536];
        while left > 0 {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        assert_eq!(left, 0);
        stream.write_all(b"!").unwrap();
        peer.ip()
    });
    let mut stream = from.enter(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap().unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&vec![7; length]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    receiver.join().unwrap()
}

#[test]
fn a_vps_and_a_router_are_bonded_by_two_commands_and_nothing_is_left_of_it() {
    if !may_build_labs("netcombiner setup") {
        return;
    }
    let site = Site::new();
    let (lab, router, vps) = (&site.lab, site.lab.local(), site.lab.remote());
    nothing_is_done_to_show_it(&site);

    let line = site.run(vps, &["setup", "remote", "nc0"]);
    assert!(line.starts_with("nc1:") && line.lines().count() == 1, "{line}");
    let line = line.trim();
    let local = ["setup", "local", "nc0", line, "--lan", "lan0", "--route-all", "--json"];
    let made: Value = serde_json::from_str(&site.run(router, &local)).unwrap();
    let links = made["links"].as_array().unwrap();
    assert!(made["changed"] == true && links.len() == 2, "{made}");
    assert!(links.iter().all(|link| link["state"] == "up"), "{made}");

    a_second_time_changes_nothing(&site, line, &local);
    the_client_gets_out_by_both_links(&site);
    the_tunnel_never_runs_through_itself(&site);
    the_second_link_survives_another_address(&site);

    // The first system is left in order, the second one after a crash of its portal.
    site.run(router, &["setup", "undo", "nc0"]);
    let pid = fs::read_to_string(lab.directory().join("remote/run/nc0.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    wait_for("the end of the VPS's portal", || !Path::new("/proc").join(pid.trim()).exists());
    site.run(vps, &["setup", "undo", "nc0"]);
    put_the_second_link_back(lab);
    site.assert_as_before();
    site.run(router, &["setup", "undo", "nc0"]);
    site.assert_as_before();
}

fn nothing_is_done_to_show_it(site: &Site) {
    let shown = site.run(site.lab.remote(), &["setup", "remote", "nc0", "--dry-run"]);
    for expected in ["Key = (the key)", "LocalPort = 7000", "nft -f - <<EOF", "masquerade", "nc0 --config"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    // Nobody answers there, which makes no difference; a line that was cut is refused in one line.
    let error = site.try_run(site.lab.local(), &["setup", "local", "nc0", "nc1:abc"]).unwrap_err();
    assert!(
        error.ends_with("nc0: not a pairing line: it was cut or changed on the way; copy all of it"),
        "{error}"
    );
    site.assert_as_before();
}

fn a_second_time_changes_nothing(site: &Site, line: &str, local: &[&str]) {
    let both = [site.lab.local(), site.lab.remote()];
    let once = both.map(|namespace| state(&site.lab, namespace));
    assert_eq!(site.run(site.lab.remote(), &["setup", "remote", "nc0"]).trim(), line);
    let again: Value = serde_json::from_str(&site.run(site.lab.local(), local)).unwrap();
    assert_eq!(again["changed"], false, "{again}");
    for (namespace, (system, files)) in both.into_iter().zip(&once) {
        let (now, files_now) = state(&site.lab, namespace);
        let changes = now.changes_since(system);
        assert!(changes.is_empty(), "{}: {changes}", namespace.name());
        assert_eq!(&files_now, files);
    }
    let other = site.try_run(site.lab.remote(), &["setup", "local", "nc0", line]).unwrap_err();
    assert!(other.contains("it is set up as the remote portal"), "{other}");
}

fn the_client_gets_out_by_both_links(site: &Site) {
    let lab = &site.lab;
    for family in Family::BOTH {
        let server = lab.server_address(family);
        wait_for("a way out", || answers(lab.client(), server));
        for from in [lab.client(), lab.local()] {
            let seen = send(from, lab.server(), (server, 80).into(), 10_000);
            assert_eq!(seen, lab.remote_address(family), "{}", from.name());
        }
        // The LAN is in reach as before.
        assert!(answers(lab.local(), lab.client_address(family)));
    }
    send(lab.client(), lab.server(), (lab.server_address(Family::V4), 80).into(), LOAD);
    for link in site.links() {
        let share = link["sent_share"].as_f64().unwrap();
        assert!(share > 0.1, "{}: {share}", link["name"]);
    }
}

/// The routes of the tunnel's own packets are those of the links, whatever is led into the tunnel.
fn the_tunnel_never_runs_through_itself(site: &Site) {
    let target = site.lab.remote_address(Family::V4).to_string();
    let way = |words: &[&str]| {
        let arguments = [&["route", "get", &target], words].concat();
        site.lab.local().run("ip", &arguments).unwrap()
    };
    assert!(way(&[]).contains("dev nc0"));
    assert!(way(&["mark", "0x40000000"]).contains("dev wan0"));
    for link in ["wan0", "wan1"] {
        let told = way(&["oif", link, "mark", "0x40000000"]);
        assert!(told.contains(&format!("dev {link}")), "{told}");
    }
    // A connection to the router over a link is answered there.
    let router = site.lab.local_address(1, Family::V4);
    let seen = send(site.lab.remote(), site.lab.local(), (router, 22).into(), 1_000);
    assert_eq!(seen, site.lab.remote_address(Family::V4));
}

/// What a DHCP client does when it gets another lease, of another network.
fn the_second_link_survives_another_address(site: &Site) {
    let lab = &site.lab;
    lab.internet()
        .ip("addr add 192.168.22.1/24 dev link1\naddr del 192.168.2.1/24 dev link1\n\
             neigh replace 192.168.22.7 lladdr 02:4e:43:00:01:02 dev link1 nud permanent")
        .unwrap();
    lab.local()
        .ip("addr del 192.168.2.2/24 dev wan1\naddr add 192.168.22.7/24 dev wan1\n\
             neigh replace 192.168.22.1 lladdr 02:4e:43:00:01:01 dev wan1 nud permanent\n\
             route add default via 192.168.22.1 dev wan1 metric 101")
        .unwrap();
    // It alone must do.
    lab.internet().ip("link set link0 down").unwrap();
    wait_for("a way over the second link alone", || answers(lab.client(), lab.server_address(Family::V4)));
}

/// As it was before the test.
fn put_the_second_link_back(lab: &Lab) {
    lab.internet().ip("addr del 192.168.22.1/24 dev link1\naddr add 192.168.2.1/24 dev link1").unwrap();
    lab.local()
        .ip("addr del 192.168.22.7/24 dev wan1\naddr add 192.168.2.2/24 dev wan1\n\
             route add default via 192.168.2.1 dev wan1 metric 101")
        .unwrap();
}

#[test]
fn the_other_manners_begin_and_end_as_well() {
    if !may_build_labs("the manners of netcombiner setup") {
        return;
    }
    let site = Site::new();
    let lab = &site.lab;
    for manner in ["local-nat", "address"] {
        let line = site.run(lab.remote(), &["setup", "remote", "nc0", "--manner", manner]);
        let refused = site.try_run(lab.local(), &["setup", "local", "nc0", line.trim()]).unwrap_err();
        assert!(refused.contains("--lan"), "{refused}");
        site.run(lab.local(), &["setup", "local", "nc0", line.trim(), "--lan", "lan0"]);
        if manner == "local-nat" {
            wait_for("a way out", || answers(lab.client(), lab.server_address(Family::V4)));
            let seen = send(lab.client(), lab.server(), (lab.server_address(Family::V4), 80).into(), 10_000);
            assert_eq!(seen, lab.remote_address(Family::V4));
        } else {
            let rules = lab.local().run("ip", &["rule"]).unwrap();
            assert!(rules.contains("from 198.51.100.2 lookup 7700"), "{rules}");
        }
        for namespace in [lab.local(), lab.remote()] {
            site.run(namespace, &["setup", "undo", "nc0"]);
        }
        site.assert_as_before();
    }
}

#[test]
fn networks_alone_are_led_and_a_reload_changes_them() {
    if !may_build_labs("Table and Route") {
        return;
    }
    let site = Site::new();
    let lab = &site.lab;
    let line = site.run(lab.remote(), &["setup", "remote", "nc0"]);
    let local = ["setup", "local", "nc0", line.trim(), "--lan", "lan0", "--route", "203.0.113.0/24"];
    site.run(lab.local(), &local);
    let server = lab.server_address(Family::V4);
    wait_for("a way out", || answers(lab.client(), server));
    let way = |target: &str| lab.local().run("ip", &["route", "get", target]).unwrap();
    assert!(way(&server.to_string()).contains("dev nc0") && way("192.0.2.9").contains("dev wan0"));

    // The operator edits the file: a second set-up refuses to lose that, and its removal keeps it.
    let config: PathBuf = lab.directory().join("local/etc/nc0");
    let text = fs::read_to_string(&config).unwrap().replace("203.0.113.0/24", "192.0.2.0/24");
    fs::write(&config, &text).unwrap();
    site.run(lab.local(), &["reload", "nc0"]);
    assert!(way(&server.to_string()).contains("dev wan0") && way("192.0.2.9").contains("dev nc0"));
    let refused = site.try_run(lab.local(), &local).unwrap_err();
    assert!(refused.contains("was edited since it was set up"), "{refused}");
    fs::write(&config, text.replace("Table = auto\nRoute = 192.0.2.0/24\n", "")).unwrap();
    site.run(lab.local(), &["reload", "nc0"]);
    assert!(!lab.local().run("ip", &["rule"]).unwrap().contains("suppress_prefixlength"));

    for namespace in [lab.local(), lab.remote()] {
        site.run(namespace, &["setup", "undo", "nc0"]);
    }
    let edited = config.with_added_extension("edited");
    assert!(fs::read_to_string(&edited).unwrap().contains("[Peer]"));
    fs::remove_file(edited).unwrap();
    site.assert_as_before();
}
