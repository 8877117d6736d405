//! The set-ups of `scripts/linux` by themselves, on a system whose interfaces lead nowhere.
//!
//! ```text
//! internet -- eth0 .2 | host | lan0 -- LAN          nc0, nc1: stand-ins for tunnels
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;

use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::scratch::Scratch;
use evaluation::system_state::SystemState;

use crate::script;

const ROLES: [(&str, &str); 5] = [
    ("remote-portal", "--port 9000 --port tcp/443"),
    ("remote-nat", "--lan 192.168.7.0/24 --lan 2001:db8:7::/64"),
    ("local-portal", "--lan lan0 --address 198.51.100.9 --address 2001:db8:51::9 --link eth0"),
    ("local-nat", "--lan lan0 --snat 198.51.100.9 --link eth0"),
    ("table", "--route 0.0.0.0/0 --route 2001:db8:8000::/33 --wan eth0"),
];

/// A host with strict settings: no forwarding, strict check of sources.
struct Host {
    namespace: Namespace,
    scratch: Scratch,
}

impl Host {
    fn new() -> Self {
        let namespace = Namespace::new("host").unwrap();
        namespace
            .sysctls(&[
                ("net.ipv4.conf.all.rp_filter", "1"),
                ("net.ipv6.conf.default.accept_dad", "0"),
                ("net.ipv4.ip_forward", "0"),
                ("net.ipv6.conf.all.forwarding", "0"),
            ])
            .unwrap();
        namespace.ip(&["eth0", "lan0", "nc0", "nc1"].map(veth).concat()).unwrap();
        namespace
            .ip("addr add 198.51.100.2/24 dev eth0\naddr add 2001:db8:51::2/64 dev eth0 nodad\n\
                 addr add 192.168.7.1/24 dev lan0\naddr add 2001:db8:7::1/64 dev lan0 nodad\n\
                 addr add 10.77.0.1/24 dev nc0\naddr add fd77::1/64 dev nc0 nodad\n\
                 addr add 10.78.0.1/24 dev nc1\n\
                 link set nc0 mtu 1400\n\
                 route add default via 198.51.100.1\nroute add default via 2001:db8:51::1\n\
                 rule add pref 500 from 192.0.2.1 lookup 500\n\
                 route add 192.0.2.0/24 dev eth0 table 500")
            .unwrap();
        namespace
            .run_with_input("nft", &["-f", "-"], "table inet foreign { chain c { counter; }; }")
            .unwrap();
        Self { namespace, scratch: Scratch::new().unwrap() }
    }

    fn try_run(&self, role: &str, words: &str) -> Result<String, String> {
        let script = script(role);
        let run_dir = self.run_dir();
        let mut arguments = vec![script.as_str()];
        arguments.extend(words.split_whitespace());
        arguments.extend(["--run-dir", &run_dir]);
        self.namespace.run("sh", &arguments).map_err(|error| format!("{error:#}"))
    }

    fn run(&self, role: &str, words: &str) -> String {
        self.try_run(role, words).unwrap()
    }

    fn run_dir(&self) -> String {
        self.scratch.path().join("run").to_string_lossy().into_owned()
    }

    fn state(&self) -> SystemState {
        SystemState::of(&self.namespace).unwrap()
    }

    fn sysctl(&self, name: &str) -> String {
        let path = format!("/proc/sys/net/{name}");
        self.namespace.enter(|| fs::read_to_string(path).unwrap().trim().to_owned()).unwrap()
    }
}

/// An interface that has a carrier; its other end leads nowhere.
fn veth(name: &str) -> String {
    format!("link add {name} type veth peer name {name}-end\nlink set {name} up\nlink set {name}-end up\n")
}

#[track_caller]
fn assert_same(now: &SystemState, before: &SystemState, what: &str) {
    let changes = now.changes_since(before);
    assert!(changes.is_empty(), "{what}:\n{changes}");
}

#[test]
fn each_role_goes_up_and_down_and_up_twice_is_up_once() {
    if !may_build_labs("the set-ups") {
        return;
    }
    let host = Host::new();
    let before = host.state();
    for (role, options) in ROLES {
        let up = format!("up nc0 {options}");
        let commands = host.run(role, &format!("{up} --dry-run"));
        assert!(commands.contains("nft -f - <<EOF") && commands.contains(" rule add "), "{commands}");
        assert_same(&host.state(), &before, role);
        assert!(!Path::new(&host.run_dir()).exists());

        host.run(role, &up);
        let once = host.state();
        assert!(!once.changes_since(&before).is_empty());
        if role != "table" {
            let forwarding = ["ipv4/conf/nc0/forwarding", "ipv6/conf/all/forwarding"];
            assert!(forwarding.iter().all(|key| host.sysctl(key) == "1"), "{role}");
        }
        let ledger =
            format!("{}/{}", host.run_dir(), if role == "table" { "nc0.table.setup" } else { "nc0.setup" });
        let text = fs::read_to_string(&ledger).unwrap();
        host.run(role, &up);
        assert_same(&host.state(), &once, &format!("{role} up again"));
        assert_eq!(fs::read_to_string(&ledger).unwrap(), text);

        assert!(host.run(role, "down nc0 --dry-run").contains("nft delete table inet netcombiner_nc0"));
        assert_same(&host.state(), &once, &format!("{role} down --dry-run"));
        host.run(role, "down nc0");
        assert_same(&host.state(), &before, &format!("{role} down"));
        assert!(!Path::new(&host.run_dir()).exists());
        host.run(role, "down nc0");
        assert_same(&host.state(), &before, &format!("{role} down again"));
    }
}

#[test]
fn other_options_replace_the_old_ones_and_other_interfaces_are_left_alone() {
    if !may_build_labs("the set-ups") {
        return;
    }
    let host = Host::new();
    let before = host.state();
    host.run("remote-portal", "up nc0 --port 9000 --address 198.51.100.2");
    let first = host.state();
    host.run("remote-portal", "up nc0 --port 9001 --address 2001:db8:51::2 --table 9000");
    let rules = host.namespace.run("ip", &["rule"]).unwrap();
    assert!(!rules.contains("fwmark"), "{rules}");
    host.run("remote-portal", "up nc0 --port 9000 --address 198.51.100.2");
    assert_same(&host.state(), &first, "up as at first");

    // The last of two set-ups restores what both need.
    host.run("local-nat", "up nc1 --lan lan0");
    host.run("remote-portal", "down nc0");
    for key in ["ipv6/conf/all/forwarding", "ipv4/conf/lan0/forwarding"] {
        assert_eq!(host.sysctl(key), "1", "{key}");
    }
    host.run("local-nat", "down nc1");
    assert_same(&host.state(), &before, "both down");

    // A system that has lost its interface, rules and table is put in order by the next `up`.
    host.run("local-nat", "up nc0 --lan lan0");
    let up = host.state();
    host.namespace.ip("route flush table 7700").unwrap();
    host.namespace.run("ip", &["-6", "rule", "del", "pref", "7702"]).unwrap();
    host.namespace.run("nft", &["delete", "table", "inet", "netcombiner_nc0"]).unwrap();
    host.run("local-nat", "up nc0 --lan lan0");
    assert_same(&host.state(), &up, "repaired");
    host.run("local-nat", "down nc0");
    assert_same(&host.state(), &before, "down after the repair");
}

#[test]
fn everything_but_what_is_marked_goes_into_the_tunnel() {
    if !may_build_labs("the set-up of Table") {
        return;
    }
    let host = Host::new();
    let before = host.state();
    let way = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        host.namespace
            .run("ip", &[&["route", "get"], words.as_slice()].concat())
            .unwrap_or_else(|e| format!("{e:#}"))
    };
    // Both roles of one interface hold at once.
    host.run("local-nat", "up nc0 --lan lan0");
    host.run("table", "up nc0 --wan eth0");
    for target in ["203.0.113.1", "2001:db8:113::1"] {
        assert!(way(target).contains("dev nc0"), "{}", way(target));
        assert!(way(&format!("{target} mark 0x40000000")).contains("dev eth0"));
        assert!(way(&format!("{target} oif eth0 mark 0x40000000")).contains("dev eth0"));
    }
    // The LAN and the links' networks stay in reach.
    for (target, device) in [("192.168.7.9", "lan0"), ("2001:db8:7::9", "lan0"), ("198.51.100.1", "eth0")] {
        assert!(way(target).contains(&format!("dev {device}")), "{}", way(target));
    }
    // Where the interface knows no IPv6, that does not go past the tunnel.
    host.namespace.ip("addr del fd77::1/64 dev nc0").unwrap();
    host.run("table", "up nc0 --wan eth0");
    assert!(way("2001:db8:113::1").contains("No route to host"), "{}", way("2001:db8:113::1"));
    host.namespace.ip("addr add fd77::1/64 dev nc0 nodad").unwrap();

    // A table of the operator's, and its own routes.
    host.run("table", "up nc0 --into 500 --route 10.0.0.0/8");
    let routes = host.namespace.run("ip", &["route", "show", "table", "500"]).unwrap();
    assert!(routes.contains("10.0.0.0/8 dev nc0") && routes.contains("192.0.2.0/24 dev eth0"), "{routes}");
    assert!(way("203.0.113.1").contains("dev eth0"));
    host.run("table", "down nc0");
    host.run("local-nat", "down nc0");
    assert_same(&host.state(), &before, "both down");
}

#[test]
fn name_servers_are_told_to_resolvconf() {
    if !may_build_labs("the set-up of DNS") {
        return;
    }
    let host = Host::new();
    let (bin, log) = (host.scratch.path().join("bin"), host.scratch.path().join("log"));
    fs::create_dir(&bin).unwrap();
    let program = bin.join("resolvconf");
    fs::write(
        &program,
        format!("#!/bin/sh\n{{ echo \"$@\"; [ \"$1\" = -f ] || cat; }} >>{}\n", log.display()),
    )
    .unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let run = |words: &str| {
        let line = format!(
            "PATH={}:$PATH sh {} {words} --run-dir {}",
            bin.display(),
            script("table"),
            host.run_dir()
        );
        host.namespace.run("sh", &["-c", &line]).unwrap();
    };
    run("up nc0 --no-lead --dns 9.9.9.9 --dns 2620:fe::fe --search example.org");
    run("down nc0");
    let text = fs::read_to_string(&log).unwrap();
    let expected =
        "-a nc0 -m 0 -x\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\nsearch example.org\n-f -d nc0\n";
    assert_eq!(text.replace("tun.nc0", "nc0"), expected);
}

#[test]
fn a_failure_is_one_line_and_changes_nothing() {
    if !may_build_labs("the set-ups") {
        return;
    }
    let host = Host::new();
    let before = host.state();
    for (role, words, expected) in [
        ("remote-portal", "up nc7 --port 9000", "nc7: there is no such interface"),
        ("remote-portal", "up nc0", "nc0: which port is the portal's? Give it with --port"),
        ("remote-portal", "up nc0 --port x", "nc0: --port x: not a port"),
        ("remote-portal", "up nc0 --port 9000 --wan eth7", "nc0: there is no interface eth7"),
        ("remote-portal", "up nc0 --port 9000 --table 500", "nc0: routing table 500 is in use by others"),
        (
            "remote-portal",
            "up nc0 --port 9000 --address 300.1.1.1",
            "nc0: --address 300.1.1.1: not an address",
        ),
        ("local-portal", "up nc0 --lan lan0", "nc0: which address is the client's?"),
        ("local-portal", "up nc0 --lan lan0;reboot --address 1.2.3.4", "not the name of an interface"),
        ("local-nat", "up nc0 --lan lan0 --link lan0", "--link lan0: no gateway is known"),
        ("local-nat", "up nc0 --lan lan0 --lan lan7", "nc0: there is no interface lan7"),
        ("local-nat", "up tunnel --lan lan0", "tunnel: no number follows from its name"),
        ("remote-nat", "up nc0 --wan eth0 --snat 1.2.3.4/99", "nc0: --snat 1.2.3.4/99: not an address"),
        ("local-nat", "sideways nc0", "sideways: neither up nor down"),
        ("local-nat", "up", "usage: local-nat up|down INTERFACE"),
        ("local-nat", "up nc0 --lan", "--run-dir: not the name of an interface"),
        ("table", "up nc0 --route 10.0.0.0/40", "nc0: --route 10.0.0.0/40: not an address"),
        ("table", "up nc0 --search a;b", "nc0: --search a;b: not a domain"),
    ] {
        let error = host.try_run(role, words).unwrap_err();
        let line = [": local-", ": remote-", ": table"]
            .iter()
            .find_map(|head| error.rsplit_once(head))
            .map_or("", |(_, said)| said);
        assert!(error.contains(expected) && !line.contains('\n'), "{words}: {error}");
        assert_same(&host.state(), &before, words);
        assert!(!Path::new(&host.run_dir()).exists(), "{words}");
    }
    // A wrong order to a set-up that holds leaves that as it is.
    host.run("local-nat", "up nc0 --lan lan0");
    let up = host.state();
    host.try_run("local-nat", "up nc0 --lan lan0 --link lan0").unwrap_err();
    let other = host.try_run("remote-nat", "up nc0").unwrap_err();
    assert!(other.contains("set up by local-nat; undo that first: local-nat down nc0"), "{other}");
    host.try_run("remote-nat", "down nc0").unwrap_err();
    assert_same(&host.state(), &up, "wrong orders");
    host.run("local-nat", "down nc0");
    assert_same(&host.state(), &before, "down after wrong orders");
}

#[test]
fn the_shells_of_small_systems_agree() {
    if !may_build_labs("the set-ups") {
        return;
    }
    let host = Host::new();
    let installed = |shell: &str| Command::new(shell).arg("--help").output().is_ok();
    for (role, options) in ROLES {
        let mut outputs = Vec::new();
        for shell in ["sh", "dash", "bash", "busybox"] {
            if !installed(shell) {
                eprintln!("SKIPPED: {shell} is not installed");
                continue;
            }
            let applet = if shell == "busybox" { "ash " } else { "" };
            // A busybox may prefer its own, smaller `ip`.
            let line = format!(
                "exec {shell} {applet}-c 'ip() {{ command $IP \"$@\"; }}; . \"$0\"' {} up nc0 {options} --dry-run",
                script(role)
            );
            let line = format!("IP=$(command -v ip) && export IP && {line}");
            outputs.push((shell, host.namespace.run("sh", &["-c", &line]).unwrap()));
        }
        for (shell, output) in &outputs {
            assert_eq!(output, &outputs[0].1, "{role} in {shell}");
        }
    }
}

#[test]
fn the_systemd_unit_is_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED: the systemd unit: systemd-analyze is not installed");
        return;
    }
    let scratch = Scratch::new().unwrap();
    let unit = format!("{}/../scripts/systemd/netcombiner@.service", env!("CARGO_MANIFEST_DIR"));
    // The program need not be installed here.
    let text = fs::read_to_string(unit).unwrap().replace("/usr/bin/netcombiner", "/bin/true");
    for name in ["netcombiner@.service", "netcombiner@nc0.service"] {
        fs::write(scratch.path().join(name), &text).unwrap();
    }
    let instance = scratch.path().join("netcombiner@nc0.service");
    let output = Command::new("systemd-analyze").arg("verify").arg(&instance).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("netcombiner@"), "{said}");
}

#[test]
fn the_scripts_for_freebsd_are_read_by_a_shell_and_print_rules_of_one_family_each() {
    let directory = format!("{}/../scripts/freebsd", env!("CARGO_MANIFEST_DIR"));
    for script in ["netcombiner", "netcombiner-pf"] {
        let read = Command::new("sh").arg("-n").arg(format!("{directory}/{script}")).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
    for (role, options) in [
        ("remote-portal", "--wan em0 --address 192.0.2.1 --address 2001:db8::1 --port 9000"),
        ("remote-nat", "--wan em0 --lan 192.168.1.0/24 --lan 2001:db8:1::/64"),
        ("local-portal", "--lan em0 --address 192.0.2.1 --client 192.168.1.2"),
        ("local-nat", "--lan em0"),
    ] {
        let line = format!("{directory}/netcombiner-pf {role} up nc0 --dry-run {options}");
        let output = Command::new("sh").args(line.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("pfctl -a netcombiner/nc0 -f -"), "{role}: {said}");
        for rule in said.lines().filter(|line| line.contains(" inet ")) {
            assert!(!rule.contains("2001:"), "{rule}");
        }
        for rule in said.lines().filter(|line| line.contains(" inet6 ")) {
            assert!(!rule.contains("192."), "{rule}");
        }
    }
}
