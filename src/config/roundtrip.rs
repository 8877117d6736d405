//! Properties: a valid configuration that is written down reads back as itself, and no text makes
//! the reader panic.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_printed_config_reads_back(config in config()) {
        let text = print(&config);
        let read = Config::parse("nc0", &text, Path::new(""));
        prop_assert_eq!(read, Ok((config, Vec::new())), "{}", text);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Config::parse("nc0", &text, Path::new("")).is_err());
    }

    /// Text made of the reader's own words gets further into it than random bytes do.
    #[test]
    fn no_words_panic(words in vec(word(), 0..60)) {
        // Either outcome will do.
        let _ = Config::parse("nc0", &words.concat(), Path::new("/nonexistent"));
    }
}

fn word() -> impl Strategy<Value = String> {
    let keys = host::KEYS.iter().chain(peer::KEYS).map(|key| format!("{key} ="));
    let others = [
        "[Host]", "[Peer]", "[", "]", "=", ":", "#", ";", "\n", "\n", "\n", " ", "\r", "\"", "'", "\\", ",",
        "/", "0", "1", "65536", "nc0", "::1", "10.0.0.1", "UDP", "TCP", "off", "auto", "aead", "mac", "none",
        "overflow", "realtime", "é", "\u{feff}", "\0",
    ];
    let words: Vec<String> = keys.chain(others.map(str::to_owned)).collect();
    proptest::sample::select(words)
}

fn config() -> impl Strategy<Value = Config> {
    (host(), vec(peer(), 1..=MAX_PEERS)).prop_map(|(host, mut peers)| {
        for (peer, section) in peers.iter_mut().zip(1..) {
            // Own ports and names keep the sections apart.
            peer.section = section;
            peer.local_port += u16::try_from(section).expect("few sections");
            peer.name = match peer.name.as_str() {
                "" => format!("peer{section}"),
                name => format!("{name}_{section}"),
            };
        }
        Config { host, peers }
    })
}

fn host() -> impl Strategy<Value = Host> {
    let mtu = prop_oneof![Just(Mtu::Auto), (1280..=u16::MAX).prop_map(Mtu::Fixed)];
    let metric_mode = prop_oneof![Just(MetricMode::Backup), Just(MetricMode::Overflow)];
    let redundancy = prop_oneof![Just(Redundancy::Off), Just(Redundancy::Realtime)];
    let choices = (any::<bool>(), metric_mode, redundancy, any::<bool>(), option::of(1..=1024_u16));
    let host = (protection(), choices, vec(cidr(), 0..5), mtu, status(), routing(), hooks());
    host.prop_map(|(protection, choices, mut addresses, mtu, status, routing, hooks)| {
        let (compression, metric_mode, redundancy, offload, processors) = choices;
        let mut seen = BTreeSet::new();
        addresses.retain(|cidr| seen.insert(cidr.address()));
        Host {
            protection,
            compression,
            addresses,
            mtu,
            metric_mode,
            redundancy,
            offload,
            processors,
            status,
            routing,
            hooks,
        }
    })
}

fn status() -> impl Strategy<Value = Option<Status>> {
    // Neither a comment nor its beginning.
    let password = option::of("[!-~]{8,128}".prop_filter("no comment", |text| !text.starts_with(['#', ';'])));
    let status = (address(), 1..=u16::MAX, password).prop_map(|(ip, port, password)| {
        let password = password.map(|text| text.parse().expect("a valid password"));
        Status { address: (ip, port).into(), password }
    });
    option::of(
        status
            .prop_filter("guarded", |status| status.password.is_some() || status.address.ip().is_loopback()),
    )
}

fn routing() -> impl Strategy<Value = Routing> {
    let table = prop_oneof![Just(Table::Off), Just(Table::Auto), (256..=u32::MAX).prop_map(Table::Number)];
    let domain = "[a-z]{1,8}(\\.[a-z]{2,3}){0,2}".prop_filter("no address", |d| d.parse::<IpAddr>().is_err());
    (table, vec(cidr(), 0..3), vec(address(), 0..3), vec(domain, 0..3)).prop_map(
        |(table, cidrs, dns, search)| {
            let mut routes: Vec<Network> = Vec::new();
            for network in cidrs.iter().map(|cidr| cidr.to_string().parse().expect("a network")) {
                if table != Table::Off && !routes.contains(&network) {
                    routes.push(network);
                }
            }
            Routing { table, routes, dns, search }
        },
    )
}

fn protection() -> impl Strategy<Value = Protection> {
    let key = || any::<[u8; 32]>().prop_map(Key::new);
    prop_oneof![
        key().prop_map(|key| Protection::Aead { key }),
        key().prop_map(|key| Protection::Mac { key }),
        option::of(key()).prop_map(|key| Protection::None { key }),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|a| IpAddr::V4(Ipv4Addr::from(a))),
        any::<[u8; 16]>().prop_map(|a| IpAddr::V6(Ipv6Addr::from(a))),
    ]
    .prop_filter("of one host", |a| !a.is_unspecified() && !a.is_multicast())
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (address(), 0..=128u8).prop_map(|(address, prefix)| {
        let prefix = if address.is_ipv4() { prefix % 33 } else { prefix };
        format!("{address}/{prefix}").parse().expect("a valid CIDR")
    })
}

fn hooks() -> impl Strategy<Value = Hooks> {
    // A command may hold anything but control characters and what would start a comment.
    let command = "[^\\p{C}\\p{Z}#]([^\\p{C}\\p{Z}]|[;\"'\\\\= ]){0,20}[^\\p{C}\\p{Z}#]"
        .prop_filter("no comment", |c| !c.contains(" #") && !c.starts_with(';'));
    let commands = || vec(command.clone(), 0..3);
    (commands(), commands(), commands(), commands())
        .prop_map(|(pre_up, post_up, pre_down, post_down)| Hooks { pre_up, post_up, pre_down, post_down })
}

fn peer() -> impl Strategy<Value = Peer> {
    let interface = option::of("(eth|wwan)[0-9]{1,3}".prop_map(|name| name.parse().expect("valid")));
    let keep_alive = option::of((1..=u16::MAX).prop_map(|s| Duration::from_secs(s.into())));
    (
        prop_oneof![Just(String::new()), "[A-Za-z0-9_.-]{1,29}"],
        prop_oneof![Just(Method::Udp), Just(Method::Tcp)],
        option::of(address()),
        0..60_000u16,
        interface,
        option::of(remote()),
        any::<bool>(),
        any::<u8>(),
        keep_alive,
        (any::<[bool; 3]>(), option::of(8..1_000_000u64), quota()),
    )
        .prop_map(
            |(name, method, local, local_port, interface, remote, free, metric, keep_alive, extras)| {
                let (switches, kbits, quota) = extras;
                let local_address = match &remote {
                    Some(Remote { host: RemoteHost::Address(remote), .. }) => {
                        local.filter(|local| local.is_ipv4() == remote.is_ipv4())
                    }
                    _ => local,
                };
                let congestion_control = match method {
                    Method::Tcp => CongestionControl::Kernel,
                    Method::Udp if free => CongestionControl::None,
                    Method::Udp => CongestionControl::NewReno,
                };
                Peer {
                    section: 0,
                    name,
                    method,
                    local_address,
                    // Steps of 17 leave room to add the number of the section.
                    local_port: local_port / 17 * 17,
                    interface,
                    remote,
                    congestion_control,
                    metric,
                    keep_alive,
                    gso: method == Method::Tcp || switches[0],
                    gro: method == Method::Tcp || switches[1],
                    metered: switches[2],
                    rate_limit: kbits.map(|kbits| format!("{kbits} kbit/s").parse().expect("valid")),
                    quota,
                }
            },
        )
}

fn quota() -> impl Strategy<Value = Option<Quota>> {
    let action = prop_oneof![Just(QuotaAction::Backup), Just(QuotaAction::Off)];
    option::of((1..1_000_000u64, 1..=28u8, action).prop_map(|(megabytes, reset_day, action)| Quota {
        volume: format!("{megabytes} MB").parse().expect("valid"),
        reset_day,
        action,
    }))
}

fn remote() -> impl Strategy<Value = Remote> {
    let host = prop_oneof![
        address().prop_map(RemoteHost::Address),
        "[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z]{1,6}){0,3}\\.?".prop_map(RemoteHost::Name),
    ];
    (host, 1..=u16::MAX).prop_map(|(host, port)| Remote { host, port })
}

fn print(config: &Config) -> String {
    let Config { host, peers } = config;
    let mut text = String::from("# made by a test\n[Host]\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key} = {value}").expect("a String takes all");
    };
    line("Protection", &host.protection.name());
    if let Some(key) = host.protection.key() {
        line("Key", &key.to_base64().as_str());
    }
    line("Compression", &if host.compression { "on" } else { "off" });
    for cidr in &host.addresses {
        line("Address", cidr);
    }
    match host.mtu {
        Mtu::Auto => line("MTU", &"auto"),
        Mtu::Fixed(mtu) => line("MTU", &mtu),
    }
    line("MetricMode", &host.metric_mode.name());
    line("Redundancy", &host.redundancy.name());
    line("Offload", &if host.offload { "auto" } else { "off" });
    match host.processors {
        None => line("Processors", &"auto"),
        Some(count) => line("Processors", &count),
    }
    if let Some(status) = &host.status {
        line("Status", &status.address);
        if let Some(password) = &status.password {
            line("StatusPassword", &password.as_str());
        }
    }

    line("Table", &host.routing.table);
    for network in &host.routing.routes {
        line("Route", network);
    }
    for server in &host.routing.dns {
        line("DNS", server);
    }
    for domain in &host.routing.search {
        line("DNS", domain);
    }
    let hooks = &host.hooks;
    let phases = [
        ("PreUp", &hooks.pre_up),
        ("PostUp", &hooks.post_up),
        ("PreDown", &hooks.pre_down),
        ("PostDown", &hooks.post_down),
    ];
    for (key, commands) in phases {
        for command in commands {
            line(key, command);
        }
    }
    for peer in peers {
        text.push_str(&print_peer(peer));
    }
    text
}

fn print_peer(peer: &Peer) -> String {
    let mut text = String::from("\n[Peer]\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key} = {value} # a comment").expect("a String takes all");
    };
    line("Name", &peer.name);
    line("Method", &peer.method);
    if let Some(address) = peer.local_address {
        line("LocalAddress", &address);
    }
    line("LocalPort", &peer.local_port);
    if let Some(interface) = &peer.interface {
        line("Interface", interface);
    }
    if let Some(Remote { host, port }) = &peer.remote {
        line("RemoteHost", host);
        line("RemotePort", port);
    }
    if peer.method == Method::Udp {
        line("CongestionControl", &peer.congestion_control.name());
        line("Gso", &if peer.gso { "auto" } else { "off" });
        line("Gro", &if peer.gro { "auto" } else { "off" });
    }
    line("Metered", &if peer.metered { "yes" } else { "no" });
    line("Metric", &peer.metric);
    match peer.rate_limit {
        Some(rate) => line("RateLimit", &rate),
        None => line("RateLimit", &"off"),
    }
    if let Some(quota) = peer.quota {
        line("Quota", &quota.volume);
        line("QuotaResetDay", &quota.reset_day);
        line("QuotaAction", &quota.action.name());
    }
    match peer.keep_alive {
        Some(silence) => line("KeepAlive", &silence.as_secs()),
        None => line("KeepAlive", &"off"),
    }
    text
}
