//! What a file gives, and every error that it can give.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;

const KEY: &str = "U2FtcGxlS2V5Rm9yVGVzdHNPbmx5Tm90U2VjcmV0ISE=";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("nc0", text, Path::new("/nonexistent"))
        .map(|(config, _)| config)
        .map_err(|errors| errors.to_string())
}

/// A file whose `[Host]` stands on line 1 with `host` from line 3, and a good `[Peer]` behind.
fn host_errors(host: &str) -> String {
    let text = format!("[Host]\nKey = {KEY}\n{host}\n[Peer]\nLocalPort = 9000\n");
    parse(&text).expect_err(&text)
}

/// A file whose only `[Peer]` stands on line 3, with `peer` from line 4.
fn peer_errors(peer: &str) -> String {
    peers_errors(&format!("[Peer]\n{peer}"))
}

/// A file whose sections from line 3 are `peers`.
fn peers_errors(peers: &str) -> String {
    let text = format!("[Host]\nKey = {KEY}\n{peers}");
    parse(&text).expect_err(&text)
}

#[test]
fn smallest_file_has_the_documented_defaults() {
    let text =
        format!("[Host]\nKey={KEY}\n[Peer]\nRemoteHost=a.example\nRemotePort=1\n[Peer]\nLocalPort=9\n");
    let config = parse(&text).expect("valid");
    assert_eq!(config.host.protection.name(), "aead");
    assert!(config.host.compression && config.host.offload);
    assert_eq!(config.host.processors, None);
    assert_eq!(config.host.mtu, Mtu::Auto);
    assert_eq!(config.host.addresses, []);
    assert_eq!(config.host.hooks, Hooks::default());

    let [initiator, listener] = config.peers.as_slice() else {
        panic!("two links");
    };
    assert_eq!((initiator.section, initiator.name.as_str()), (1, "peer1"));
    assert_eq!(initiator.method, Method::Udp);
    assert_eq!((initiator.local_address, initiator.local_port), (None, 0));
    assert_eq!(initiator.congestion_control, CongestionControl::Bbr);
    assert_eq!(initiator.metric, 0);
    assert_eq!(initiator.keep_alive, Some(Duration::from_secs(25)));
    assert!(initiator.initiates());
    assert!(initiator.gso && initiator.gro);
    assert_eq!(listener.keep_alive, None);
    assert!(!listener.initiates());
}

#[test]
fn every_key_is_read() {
    let text = format!(
        "; a comment\n[host]\nkey = {KEY}\nPROTECTION = Mac\nCompression = off\naddress = 10.0.0.1/24, fd00::1/64\n\
         Address = 10.0.1.1/32 # more\nmtu = 1400\nmetricmode = Overflow\nREDUNDANCY = Realtime\noffload = OFF\nprocessors = 4\n\
         PreUp = a; b\nPreUp = c 'x=\\n' \\\nPostUp = d\n\
         PreDown = e\nPostDown = f\n\n[peer]\nname = dsl\nmethod = tcp\n\
         LocalAddress = ::1\nLocalPort = 5\nInterface = eth0.7\nRemoteHost = [2001:db8::1]\n\
         RemotePort = 6\nMetric = 255\nKeepAlive = off\n"
    );
    let config = parse(&text).expect("valid");
    let addresses: Vec<String> = config.host.addresses.iter().map(Cidr::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1/24", "fd00::1/64", "10.0.1.1/32"]);
    assert_eq!(config.host.mtu, Mtu::Fixed(1400));
    assert_eq!(config.host.metric_mode, MetricMode::Overflow);
    assert_eq!(config.host.redundancy, Redundancy::Realtime);
    assert!(!config.host.compression && !config.host.offload);
    assert_eq!(config.host.processors, Some(4));
    assert_eq!(config.host.hooks.pre_up, ["a; b", "c 'x=\\n' \\"]);
    assert_eq!(config.host.hooks.post_up, ["d"]);
    assert_eq!(config.host.hooks.pre_down, ["e"]);
    assert_eq!(config.host.hooks.post_down, ["f"]);

    let peer = &config.peers[0];
    assert_eq!((peer.name.as_str(), peer.method, peer.metric), ("dsl", Method::Tcp, 255));
    assert_eq!(peer.local_address, "::1".parse::<IpAddr>().ok());
    assert_eq!(peer.local_port, 5);
    assert_eq!(peer.interface.as_ref().map(InterfaceName::as_str), Some("eth0.7"));
    assert_eq!(peer.remote.as_ref().map(Remote::to_string).as_deref(), Some("[2001:db8::1]:6"));
    assert_eq!(peer.congestion_control, CongestionControl::Kernel);
    assert_eq!(peer.keep_alive, None);
}

#[test]
fn what_is_led_into_the_tunnel() {
    let text = |host: &str| format!("[Host]\nKey = {KEY}\n{host}\n[Peer]\nLocalPort = 9000\n");
    let read = |host: &str| parse(&text(host)).expect("valid").host.routing;
    assert_eq!(read("MTU = auto"), Routing::default());
    assert_eq!(read("Table = Auto").table, Table::Auto);
    assert_eq!(read("table = 4711").table, Table::Number(4711));
    let routing = read(
        "Table = auto\nRoute = 10.1.2.3/8, ::/0\nRoute = 0.0.0.0/0\nDNS = 9.9.9.9, example.org, 2620:fe::fe",
    );
    let routes: Vec<String> = routing.routes.iter().map(Network::to_string).collect();
    assert_eq!(routes, ["10.0.0.0/8", "::/0", "0.0.0.0/0"]);
    assert_eq!((routing.dns.len(), routing.search.as_slice()), (2, ["example.org".to_owned()].as_slice()));

    assert_eq!(
        host_errors("Table = main"),
        "nc0:3: Host.Table invalid: auto or off or a number from 1 to 4294967295; given main"
    );
    assert!(host_errors("Table = 254").contains("other than 253 to 255"));
    assert!(host_errors("Route = 10.0.0.0/8").contains("nothing is led while Table is off"));
    assert!(host_errors("Table = auto\nRoute = 10.0.0.0/33").contains("prefix length max 32"));
    assert!(host_errors("Table = auto\nRoute = 10.0.0.0").contains("a network and its prefix length"));
    assert!(
        host_errors("Table = auto\nRoute = 10.0.0.1/8, 10.2.0.0/8").contains("10.0.0.0/8 is given already")
    );
    assert!(host_errors("DNS = a b").contains("addresses of name servers, and search domains"));
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_lines() {
    let text = "[Host]\nMTU = 10\nnonsense\n\n[Peer]\nLocalPort = 74523\nMetrics = 1\n[Per]\nx=1\n";
    let errors = parse(text).expect_err("five errors");
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        [
            "nc0:1: Host.Key missing: Protection = aead needs Key or KeyFile; make one with \
             `netcombiner genkey`",
            "nc0:2: Host.MTU invalid: auto or min 576; given 10",
            "nc0:3: neither [Section] nor Key = value",
            "nc0:6: Peer[1].LocalPort invalid: max 65535; given 74523",
            "nc0:7: Peer[1].Metrics unknown: did you mean Metric?",
            "nc0:8: [Per] unknown: did you mean [Peer]?",
        ]
    );
}

#[test]
fn faulty_lines() {
    assert_eq!(host_errors("Address"), "nc0:3: neither [Section] nor Key = value");
    assert_eq!(host_errors("= 5"), "nc0:3: neither [Section] nor Key = value");
    assert_eq!(host_errors("MTU : 5"), "nc0:3: neither [Section] nor Key = value");
    assert_eq!(host_errors("MTU ="), "nc0:3: MTU has no value");
    assert_eq!(host_errors("MTU = # 1400"), "nc0:3: MTU has no value");
    assert_eq!(host_errors("PreUp = a\u{1b}b"), "nc0:3: PreUp has a control character in its value");
    let header = "nc0:3: not a section header; write [Host] or [Peer]";
    assert_eq!(host_errors("[Peer\nName = x"), header);
    assert_eq!(host_errors("[]"), header);
    assert_eq!(host_errors("[Peer] x"), header);
    let text = format!("MTU = 1400\n[Host]\nKey={KEY}\n[Peer]\nLocalPort=9");
    assert_eq!(parse(&text), Err("nc0:1: MTU stands before any [Section]".into()));
}

#[test]
fn a_comment_after_a_value_needs_a_hash() {
    assert_eq!(
        peer_errors("LocalPort = 9000 ; ours"),
        "nc0:4: Peer[1].LocalPort invalid: a number from 0 to 65535; given 9000 ; ours \
         (a comment after a value starts with #)"
    );
}

#[test]
fn sections_missing_or_repeated() {
    let errors = parse("").expect_err("empty");
    assert_eq!(
        errors,
        "nc0: [Host] missing: it holds the Key and the Address\n\
         nc0: [Peer] missing: each link to the other portal needs one"
    );
    assert_eq!(host_errors("[Host]"), "nc0:3: [Host] repeated: first on line 1");
    assert_eq!(host_errors("[Gateway]"), "nc0:3: [Gateway] unknown: there are [Host] and [Peer]");
    let many: String = (1..=17).map(|port| format!("[Peer]\nLocalPort={port}\n")).collect();
    assert_eq!(peers_errors(&many), "nc0:35: [Peer] refused: max 16 links; given 17");
}

#[test]
fn keys_unknown_misplaced_or_repeated() {
    assert_eq!(host_errors("Metric = 1"), "nc0:3: Host.Metric unknown: Metric belongs to [Peer]");
    assert!(host_errors("Frob = 1").starts_with("nc0:3: Host.Frob unknown: [Host] knows Key, "));
    assert_eq!(peer_errors("LocalPort = 1\nMTU = 1400"), "nc0:5: Peer[1].MTU unknown: MTU belongs to [Host]");
    assert_eq!(
        peer_errors("LocalPort = 1\nMetric = 1\nmetric = 2"),
        "nc0:6: Peer[1].Metric repeated: already given on line 5"
    );
}

#[test]
fn keys_of_the_host() {
    assert_eq!(host_errors("KeyFile = x"), "nc0:3: Host.KeyFile refused: Key stands on line 2; keep one");
    assert_eq!(host_errors("Compression = yes"), "nc0:3: Host.Compression invalid: on or off; given yes");
    assert_eq!(
        host_errors("Protection = aes"),
        "nc0:3: Host.Protection invalid: aead or mac or none; given aes"
    );
    assert_eq!(
        host_errors("Processors = many"),
        "nc0:3: Host.Processors invalid: auto or a number from 1 to 1024; given many"
    );
    assert_eq!(host_errors("Processors = 0"), "nc0:3: Host.Processors invalid: auto or min 1; given 0");
    assert_eq!(
        host_errors("MetricMode = bond"),
        "nc0:3: Host.MetricMode invalid: backup or overflow; given bond"
    );
    assert_eq!(host_errors("Redundancy = all"), "nc0:3: Host.Redundancy invalid: off or realtime; given all");
    assert_eq!(host_errors("Offload = on"), "nc0:3: Host.Offload invalid: auto or off; given on");
    assert_eq!(host_errors("MTU = 65536"), "nc0:3: Host.MTU invalid: auto or max 65535; given 65536");
    assert_eq!(
        host_errors("MTU = big"),
        "nc0:3: Host.MTU invalid: auto or a number from 576 to 65535; given big"
    );
    assert_eq!(
        host_errors("Address = fd00::1/64\nMTU = 1279"),
        "nc0:4: Host.MTU invalid: min 1280 with an IPv6 Address; given 1279"
    );
}

#[test]
fn addresses_of_the_host() {
    let syntax = "an address and its prefix length, as in 10.0.0.1/24 or fd00::1/64";
    for given in ["10.0.0.1", "10.0.0/24", "example.com/24"] {
        let errors = host_errors(&format!("Address = {given}"));
        assert_eq!(errors, format!("nc0:3: Host.Address invalid: {syntax}; given {given}"));
    }
    assert_eq!(
        host_errors("Address = 10.0.0.1/24, fd00::1/129"),
        "nc0:3: Host.Address invalid: prefix length max 128; given fd00::1/129"
    );
    assert_eq!(
        host_errors("Address = 224.0.0.1/4"),
        "nc0:3: Host.Address invalid: an address of one host; given 224.0.0.1/4"
    );
    assert_eq!(
        host_errors("Address = 10.0.0.1/24\nAddress = 10.0.0.1/8"),
        "nc0:4: Host.Address repeated: 10.0.0.1/24 already given on line 3"
    );
}

#[test]
fn a_key_is_never_repeated() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
    let texts = [
        format!("[Host]\nKey = {secret}\n"),
        format!("[Host]\nKeyFile = {KEY}\n"),
        format!("[Host]\nPrivateKey = {KEY}\n"),
        format!("[Host]\n{KEY}\n"),
        format!("{KEY}\n"),
        format!("[Host]\nKey = {KEY} {secret}\n"),
        format!("[Host]\nKey = {KEY}\nKey = {secret}\n"),
    ];
    for text in texts {
        let errors = parse(&text).expect_err("no peer, at the least");
        assert!(!errors.contains(&KEY[..20]) && !errors.contains(&secret[..20]), "{errors}");
    }
    let config = parse(&format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9")).expect("valid");
    assert!(format!("{config:?}").contains("Key(redacted)"));
}

#[test]
fn single_keys_of_a_link() {
    let cases = [
        ("Name = a b", "Name invalid: 1 to 32 of A-Z a-z 0-9 _ . -; given a b"),
        ("Method = SCTP", "Method invalid: UDP or TCP; given SCTP"),
        (
            "LocalAddress = eth0",
            "LocalAddress invalid: an IP address without port or prefix length; given eth0",
        ),
        ("LocalAddress = ff02::1", "LocalAddress invalid: an address of this host; given ff02::1"),
        (
            "Interface = a/b",
            "Interface invalid: an interface name is 1 to 15 of A-Z a-z 0-9 _ = + . -; given a/b",
        ),
        ("Interface = ..", "Interface invalid: . and .. cannot name an interface; given .."),
        (
            "Interface = nc0",
            "Interface invalid: nc0 is the interface of this portal itself, its links must run over others",
        ),
        ("CongestionControl = cubic", "CongestionControl invalid: bbr or newreno or none; given cubic"),
        ("CongestionControl = kernel", "CongestionControl invalid: bbr or newreno or none; given kernel"),
        ("Metric = 256", "Metric invalid: max 255; given 256"),
        ("Metric = -1", "Metric invalid: a number from 0 to 255; given -1"),
        ("Metric = +1", "Metric invalid: a number from 0 to 255; given +1"),
        ("Metric = 99999999999999999999999", "Metric invalid: max 255; given 99999999999999999999999"),
        ("KeepAlive = 0", "KeepAlive invalid: off or seconds, min 1; given 0"),
        ("KeepAlive = 65536", "KeepAlive invalid: off or seconds, max 65535; given 65536"),
        ("RemotePort = 9", "RemotePort refused: there is no RemoteHost, so this link listens"),
    ];
    for (line, error) in cases {
        let errors = peer_errors(&format!("{line}\nLocalPort = 9000"));
        assert_eq!(errors, format!("nc0:4: Peer[1].{error}"));
    }
    let name = "x".repeat(33);
    assert!(peer_errors(&format!("Name = {name}\nLocalPort = 1")).contains("1 to 32 of"));
}

#[test]
fn a_link_that_listens_needs_a_port() {
    assert_eq!(
        peer_errors("Name = a"),
        "nc0:3: Peer[1].LocalPort missing: a link without RemoteHost listens and needs its port"
    );
    assert_eq!(
        peer_errors("LocalPort = 0"),
        "nc0:4: Peer[1].LocalPort invalid: min 1 on a link that listens (without RemoteHost); given 0"
    );
}

#[test]
fn the_remote_end_of_a_link() {
    assert_eq!(
        peer_errors("RemoteHost = a.example"),
        "nc0:3: Peer[1].RemotePort missing: the port that the other portal listens on"
    );
    assert_eq!(
        peer_errors("RemoteHost = a.example\nRemotePort = 0"),
        "nc0:5: Peer[1].RemotePort invalid: min 1; given 0"
    );
    let syntax = "a host name or an IP address, without port";
    for given in ["a.example:9000", "[1.2.3.4]", "256.1.1.1", "a..b", "-a.example", "fe80::1%eth0"] {
        let errors = peer_errors(&format!("RemoteHost = {given}\nRemotePort = 1"));
        assert_eq!(errors, format!("nc0:4: Peer[1].RemoteHost invalid: {syntax}; given {given}"));
    }
    assert_eq!(
        peer_errors("RemoteHost = 0.0.0.0\nRemotePort = 1"),
        "nc0:4: Peer[1].RemoteHost invalid: an address of one host; given 0.0.0.0"
    );
    assert_eq!(
        peer_errors("RemoteHost = 192.0.2.1\nRemotePort = 1\nLocalAddress = ::1"),
        "nc0:6: Peer[1].LocalAddress invalid: IPv4 as RemoteHost is; given ::1"
    );
}

#[test]
fn the_kernel_controls_congestion_of_tcp() {
    assert_eq!(
        peer_errors("Method = TCP\nLocalPort = 1\nCongestionControl = newreno"),
        "nc0:6: Peer[1].CongestionControl refused: on a TCP link the kernel does it; leave the line out"
    );
}

#[test]
fn names_must_differ() {
    assert_eq!(
        peers_errors("[Peer]\nName=a\nLocalPort=1\n[Peer]\nLocalPort=2\nName=a"),
        "nc0:8: Peer[2].Name repeated: a is the name of Peer[1] on line 4"
    );
    assert_eq!(
        peers_errors("[Peer]\nName=peer2\nLocalPort=1\n[Peer]\nLocalPort=2\n"),
        "nc0:6: Peer[2].Name missing: by default peer2 is the name of Peer[1] on line 4"
    );
}

#[test]
fn two_links_need_two_paths() {
    let link = "[Peer]\nRemoteHost=a.example\nRemotePort=1\n";
    assert_eq!(
        peers_errors(&format!("{link}{}", link.replace('a', "A"))),
        "nc0:6: Peer[2] repeated: Peer[1] on line 3 has the same local and remote end points; two \
         links need two paths"
    );
    for other in ["Interface=eth1", "LocalPort=7", "LocalAddress=192.0.2.1", "Method=TCP"] {
        let text = format!("[Host]\nKey={KEY}\n{link}{link}{other}\n");
        assert!(parse(&text).is_ok(), "{other}");
    }
}

#[test]
fn two_links_cannot_listen_in_one_place() {
    let pair = |a: &str, b: &str| {
        parse(&format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9\n{a}\n[Peer]\nLocalPort=9\n{b}\n"))
    };
    let error = "nc0:6: Peer[2] repeated: Peer[1] on line 3 listens there already; one listening \
                 section accepts all links of the other portal";
    let clashes = [
        ("", ""),
        ("", "LocalAddress=192.0.2.1"),
        ("LocalAddress=192.0.2.1", "LocalAddress=192.0.2.1"),
        ("LocalAddress=0.0.0.0", "LocalAddress=192.0.2.1"),
        ("", "Interface=eth0"),
        ("Interface=eth0", "Interface=eth0"),
    ];
    for (a, b) in clashes {
        assert_eq!(pair(a, b), Err(error.to_owned()), "{a} {b}");
    }
    let fine = [
        ("", "Method=TCP"),
        ("LocalAddress=192.0.2.1", "LocalAddress=192.0.2.2"),
        ("LocalAddress=0.0.0.0", "LocalAddress=::"),
        ("Interface=eth0", "Interface=eth1"),
    ];
    for (a, b) in fine {
        assert!(pair(a, b).is_ok(), "{a} {b}");
    }
}

#[test]
fn protection_none_needs_no_key_but_takes_one() {
    let config = parse("[Host]\nProtection=none\n[Peer]\nLocalPort=1").expect("valid");
    assert_eq!(config.host.protection, Protection::None { key: None });
    let text = format!("[Host]\nProtection=none\nKey={KEY}\n[Peer]\nLocalPort=1");
    let config = parse(&text).expect("valid");
    assert_eq!(config.host.protection.key(), KEY.parse().ok().as_ref());
}

#[test]
fn a_key_file_stands_beside_the_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("nc0");
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
    };
    write("nc0", "[Host]\nKeyFile = nc0.key\n[Peer]\nLocalPort = 9\n", 0o600);
    let missing = Config::load(&path).expect_err("no key file").to_string();
    assert!(missing.starts_with("nc0:2: Host.KeyFile invalid: cannot read "), "{missing}");
    assert!(missing.ends_with("nc0.key: No such file or directory (os error 2)"), "{missing}");

    write("nc0.key", "not a key\n", 0o600);
    let faulty = Config::load(&path).expect_err("no key").to_string();
    assert!(faulty.contains("nc0.key must hold 32 bytes in base64"), "{faulty}");

    write("nc0.key", &format!("{KEY}\n"), 0o600);
    let (config, warnings) = Config::load(&path).expect("valid");
    assert_eq!(config.host.protection.key(), KEY.parse().ok().as_ref());
    assert_eq!(warnings, []);

    write("nc0.key", KEY, 0o640);
    let (_, warnings) = Config::load(&path).expect("valid");
    let shown = dir.path().join("nc0.key").display().to_string();
    assert_eq!(
        warnings.iter().map(Warning::to_string).collect::<Vec<_>>(),
        [format!("nc0:2: {shown} is open to others than its owner: chmod 600 {shown}")]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let fault = |path: &Path| Config::load(path).expect_err("unreadable").to_string();
    assert!(fault(dir.path()).ends_with("not a regular file"));
    assert!(fault(&dir.path().join("nc0")).contains("No such file"));

    let path = dir.path().join("nc0");
    fs::write(&path, b"[Host]\n\xff").expect("written");
    assert!(fault(&path).ends_with("not UTF-8 on line 2"));
    fs::write(&path, vec![b'\n'; 1 << 19]).expect("written");
    assert!(fault(&path).ends_with("more than 262144 bytes"));
}

#[test]
fn warnings_come_with_errors_too_and_the_interface_may_be_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("some.conf");
    let text = format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9\nInterface=nc7\n");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");

    let (_, warnings) = Config::load(&path).expect("valid for another interface");
    assert_eq!(warnings.len(), 1);
    let own: InterfaceName = "nc7".parse().expect("a name");
    let errors = Config::load_for(&own, &path).expect_err("a loop");
    assert_eq!(errors.warnings(), warnings);
    assert_eq!(errors.iter().next().and_then(Diagnostic::line), Some(5));
}

#[test]
fn offloads_are_switched_for_each_udp_link() {
    let config =
        parse(&format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9\nGSO = Off\ngro = AUTO\n")).expect("valid");
    assert_eq!((config.peers[0].gso, config.peers[0].gro), (false, true));
    assert_eq!(peer_errors("LocalPort = 1\nGro = on"), "nc0:5: Peer[1].Gro invalid: auto or off; given on");
    assert_eq!(
        peer_errors("LocalPort = 1\nMethod = TCP\nGso = off"),
        "nc0:6: Peer[1].Gso refused: it is for UDP links; leave the line out"
    );
}

#[test]
fn a_status_page_that_others_can_reach_needs_a_password() {
    let status = |lines: &str| {
        let text = format!("[Host]\nKey = {KEY}\n{lines}\n[Peer]\nLocalPort = 9000\n");
        parse(&text).map(|config| config.host.status)
    };
    assert_eq!(status(""), Ok(None));
    assert_eq!(status("Status = off\nStatusPassword = longenough"), Ok(None));
    let own = status("Status = [::1]:8475").expect("valid").expect("served");
    assert_eq!((own.address.to_string().as_str(), own.password), ("[::1]:8475", None));
    for open in ["0.0.0.0:8475", "[::]:8475", "192.0.2.1:8475"] {
        let fault = status(&format!("Status = {open}")).expect_err("refused");
        let told = format!("nc0:3: Host.Status refused: others can reach {open}; it needs StatusPassword");
        assert!(fault.starts_with(&told), "{fault}");
        let guarded = status(&format!("Status = {open}\nStatusPassword = longenough")).expect("valid");
        assert!(guarded.expect("served").password.is_some());
    }
    let weak = status("Status = 192.0.2.1:8475\nStatusPassword = hunter2").expect_err("too short");
    assert!(weak.starts_with("nc0:4: Host.StatusPassword invalid: ") && !weak.contains("hunter2"), "{weak}");
}

#[test]
fn the_password_of_the_status_page_may_have_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("page"), "correct-horse\n").expect("written");
    let text = format!(
        "[Host]\nKey = {KEY}\nStatus = 192.0.2.1:8475\nStatusPasswordFile = page\n[Peer]\nLocalPort = 9000\n"
    );
    let (config, _) = Config::parse("nc0", &text, directory.path()).expect("valid");
    let password = config.host.status.expect("served").password.expect("given");
    assert_eq!(password.as_str(), "correct-horse");
}
