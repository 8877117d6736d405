//! The daemon as its operator meets it: what goes wrong is said, what is stopped is gone.
//!
//! ```text
//! client -- local == wan0: 10 Mbit/s, 5 ms == internet -- remote
//!                 == wan1: 10 Mbit/s, 5 ms ==          -- server
//! ```

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::portal::{
    self, Background, Method, PORT, Pair, PairOptions, Portal, local_config, random_key, remote_config,
};
use evaluation::traffic::Traffic;
use evaluation::wait::until;

const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(20);

fn two_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(10.0).delay_ms(5.0), LinkSpec::mbit(10.0).delay_ms(5.0)]).unwrap()
}

/// Waits until `show` gives this reason for there being no session, in JSON and for people.
fn wait_trouble(portal: &Portal, words: &str) {
    until(LONG, &format!("{words:?} in show"), || {
        let shown = portal.show()?;
        assert_ne!(shown["session"]["state"], "established", "{shown}");
        Ok(shown["session"]["trouble"].to_string().contains(words))
    })
    .unwrap();
    let first: String = words.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let text = portal.show_text().unwrap();
    assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(&first), "{text}");
}

/// What the system of a portal has that a portal could leave behind.
fn belongings(namespace: &Namespace) -> String {
    let list = |arguments: &[&str]| namespace.run("ip", arguments).unwrap();
    // The routes of the lab to and through the tunnel are not the portal's.
    let routes = list(&["route", "show", "table", "all"]);
    let routes: Vec<&str> = routes.lines().filter(|line| !line.contains("unreachable")).collect();
    [list(&["-br", "link"]), list(&["rule"]), list(&["-6", "rule"]), routes.join("\n")].join("\n")
}

/// The files of a portal but for those that the lab has made.
fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "nc0.conf" && name != "nc0.log").collect()
}

/// Whether the process is gone, or waits only for the system's first one to take note of its end.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}

#[test]
fn a_wrong_key_makes_no_tunnel_and_both_sides_say_so() {
    if !may_build_labs("a wrong key") {
        return;
    }
    for method in [Method::Udp, Method::Tcp] {
        let lab = two_links();
        let options = PairOptions { method, ..PairOptions::default() };
        let configs = [
            local_config(&lab, &options, &random_key().unwrap()),
            remote_config(&options, &random_key().unwrap()),
        ];
        let mut pair = Pair::start_with(&lab, &options, configs).unwrap();
        wait_trouble(pair.remote().unwrap(), "does not fit the Key");
        wait_trouble(pair.local().unwrap(), "its Key differs");
        pair.remote().unwrap().wait_logged(SHORT, &["WARN", "does not fit the Key"]).unwrap();
        pair.local().unwrap().wait_logged(SHORT, &["WARN", "Key differs"]).unwrap();
        assert!(pair.wait_connected(Duration::from_secs(1)).is_err());
        pair.stop().unwrap();
    }
}

#[test]
fn different_protections_make_no_tunnel_and_that_is_said() {
    if !may_build_labs("different protections") {
        return;
    }
    let lab = two_links();
    let key = random_key().unwrap();
    let (aead, mac) =
        (PairOptions::default(), PairOptions { protection: "mac".into(), ..Default::default() });
    let configs = [local_config(&lab, &mac, &key), remote_config(&aead, &key)];
    let mut pair = Pair::start_with(&lab, &aead, configs).unwrap();
    wait_trouble(pair.remote().unwrap(), "another Protection");
    pair.remote().unwrap().wait_logged(SHORT, &["WARN", "another Protection", "aead"]).unwrap();
    wait_trouble(pair.local().unwrap(), "no answer from the other portal");
    assert!(pair.wait_connected(Duration::from_secs(1)).is_err());
    pair.stop().unwrap();
}

#[test]
fn a_port_in_use_is_said_and_tried_again() {
    if !may_build_labs("a port in use") {
        return;
    }
    for method in [Method::Udp, Method::Tcp] {
        let lab = two_links();
        let options = PairOptions { method, ..PairOptions::default() };
        let taken = lab.remote().enter(|| match method {
            Method::Udp => UdpSocket::bind(("::", PORT)).map(Result::Ok),
            Method::Tcp => TcpListener::bind(("::", PORT)).map(Result::Err),
        });
        let taken = taken.unwrap().unwrap();
        let mut pair = Pair::start(&lab, &options).unwrap();
        let remote = pair.remote().unwrap();
        remote.wait_logged(SHORT, &["WARN", "port 7000 is in use by another program"]).unwrap();
        let shown = remote.show().unwrap();
        let reason = shown["links"][0]["reason"].to_string();
        assert!(reason.contains("port 7000 is in use"), "{shown}");
        assert_eq!(shown["links"][0]["state"], "down", "{shown}");
        drop(taken);
        pair.wait_connected(LONG).unwrap();
        pair.stop().unwrap();
    }
}

#[test]
fn show_explains_how_late_links_are_and_why_one_carries_nothing() {
    if !may_build_labs("show under load") {
        return;
    }
    let links = [5.0, 25.0, 5.0].map(|delay| LinkSpec::mbit(10.0).delay_ms(delay));
    let lab = Lab::new(&links).unwrap();
    let options = PairOptions { link_lines: vec![(2, "Metric = 10".into())], ..PairOptions::default() };
    let mut pair = Pair::start_connected(&lab, &options).unwrap();
    pair.wait_all_up(LONG).unwrap();
    let traffic = Traffic::with_streams(&lab, Family::V4, 4).unwrap();
    traffic.run_until(Duration::from_secs(8));
    let explained = |portal: &Portal| {
        let (shown, text) = (portal.show().unwrap(), portal.show_text().unwrap());
        println!("{text}");
        let links = shown["links"].as_array().unwrap();
        // On a busy machine what is read in one go adds to the delay.
        let mut later: Vec<f64> =
            links.iter().map(|link| link["delay_difference_ms"].as_f64().unwrap()).collect();
        later.sort_by(f64::total_cmp);
        assert!(later[1] < 5.0 && (15.0..25.0).contains(&later[2]), "{text}");
        for share in ["sent_share", "received_share"] {
            let sum: f64 = links.iter().map(|link| link[share].as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{text}");
        }
        // The remote portal numbers the links as they come in.
        let standby = links.iter().find(|link| link["limit"] == "standby").expect(&text);
        // It may have been the first that was up, and have taken what the kernel says of itself.
        assert!(standby["sent_share"].as_f64().unwrap() < 0.01, "{text}");
        assert!(text.contains("  reason: standby: metric 10 behind metric 0\n"), "{text}");
        let bandwidths = links.iter().map(|link| link["bandwidth_bps"].as_f64().unwrap());
        assert!(bandwidths.sum::<f64>() > 1e7, "{text}");
        assert!(shown["queue"]["sojourn_p95_ms"].as_f64().is_some(), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    };
    explained(pair.local().unwrap());
    explained(pair.remote().unwrap());
    drop(traffic);
    pair.stop().unwrap();
}

#[test]
fn links_are_changed_while_they_run_and_events_tell_of_it() {
    if !may_build_labs("changes of links") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    pair.wait_all_up(LONG).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(Duration::from_secs(1));
    let portal = pair.local().unwrap();
    portal.change_link("link1", &["down"]).unwrap();
    portal.wait_reason("link1", "taken down by command", SHORT).unwrap();
    pair.remote().unwrap().wait_logged(SHORT, &[": suspect, the other portal has lost it"]).unwrap();
    let portal = pair.local().unwrap();
    let shown = portal.show_summary().unwrap();
    assert!(shown.starts_with("nc0: connected, 1 of 2 links carries, "), "{shown}");
    assert!(shown.contains("changed: down, the file says up\n"), "{shown}");
    portal.change_link("link0", &["metric", "10"]).unwrap();
    portal.change_link("link0", &["rate-limit", "4", "Mbit/s"]).unwrap();
    portal.change_link("link1", &["up"]).unwrap();
    portal.wait_state("link1", "up", SHORT).unwrap();
    portal.wait_reason("link0", "metric 10 behind metric 0", SHORT).unwrap();
    let refusal = portal.change_link("link7", &["up"]).unwrap_err();
    assert!(
        format!("{refusal:#}").contains("there is no link link7; the links are link0, link1"),
        "{refusal:#}"
    );

    // A reload goes by the file again, also by what is new in it and concerns the use alone, and disturbs nothing.
    let since = |name: &str| {
        let uptime = portal.show().unwrap()["uptime_seconds"].as_f64().unwrap();
        uptime - portal.link(name).unwrap()["since_seconds"].as_f64().unwrap()
    };
    let begun = since("link0");
    let config = fs::read_to_string(portal.directory().join("nc0.conf")).unwrap();
    portal.reload(&config.replace("Name = link0", "Name = link0\nMetered = yes")).unwrap();
    portal.wait_logged(SHORT, &["configuration read again"]).unwrap();
    let link = portal.link("link0").unwrap();
    assert_eq!((&link["metric"], &link["changed"]), (&0.into(), &serde_json::json!([])), "{link}");
    assert_eq!(link["metered"], true, "{link}");
    assert!(link["rate_limit_bps"].is_null() && (since("link0") - begun).abs() < 0.5, "{link}");

    let events = portal.events().unwrap();
    let mut lines = events.lines();
    for words in [
        "session with the other portal established",
        "link 2 link1: down, taken down by command",
        "link link0: metric 10, by command",
        "link link0: rate-limit 4 Mbit/s, by command",
        "link 2 link1: up",
        "configuration read again",
    ] {
        assert!(lines.any(|line| line.contains(words)), "{words}, in this order:\n{events}");
    }
    let log = portal.log();
    assert!(events.lines().all(|line| log.contains(&line[20..])), "the log lacks some of\n{events}");
    traffic.run_until(Duration::from_secs(1));
    drop(traffic);
    pair.stop().unwrap();
}

#[test]
fn a_link_whose_quota_is_used_up_is_spared_also_after_a_restart() {
    if !may_build_labs("data caps") {
        return;
    }
    let lab = two_links();
    let link_lines = vec![(1, "Quota = 2 MB\nQuotaAction = off".to_owned())];
    let options = PairOptions { link_lines, ..PairOptions::default() };
    let mut pair = Pair::start_connected(&lab, &options).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    pair.local().unwrap().wait_reason("link1", "its Quota is nearly used up", LONG).unwrap();
    let events = pair.local().unwrap().events().unwrap();
    assert!(events.contains(" % of its 2 MB used: closed until "), "{events}");
    drop(traffic);
    let used = |portal: &Portal| portal.link("link1").unwrap()["quota"]["used_bytes"].as_u64().unwrap();
    let before = used(pair.local().unwrap());
    assert!((1_900_000..20_000_000).contains(&before), "{before} bytes");
    pair.take_local().unwrap().stop().unwrap();
    pair.start_local().unwrap();
    pair.wait_connected(LONG).unwrap();
    let portal = pair.local().unwrap();
    portal.wait_reason("link1", "its Quota is nearly used up", SHORT).unwrap();
    let after = used(portal);
    assert!((before..before + 100_000).contains(&after), "{before} bytes, then {after}");
    let shown = portal.show_summary().unwrap();
    assert!(shown.contains("quota: ") && shown.contains(" of 2.00 MB used since "), "{shown}");
    pair.stop().unwrap();
}

#[test]
fn sigterm_leaves_nothing() {
    if !may_build_labs("SIGTERM") {
        return;
    }
    let lab = two_links();
    let namespaces = [lab.local(), lab.remote()];
    let before = namespaces.map(belongings);
    let pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let directories = ["local", "remote"].map(|name| lab.directory().join(name));
    assert_eq!(files(&directories[0]).len(), 2, "a lock and a socket");
    pair.stop().unwrap();
    lab.route_directly(0).unwrap();
    assert_eq!(namespaces.map(belongings), before);
    for directory in directories {
        assert_eq!(files(&directory), [""; 0]);
    }
}

#[test]
fn an_interface_that_is_removed_stops_the_daemon() {
    if !may_build_labs("ip link del nc0") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let mut portal = pair.take_local().unwrap();
    lab.local().ip("link del nc0").unwrap();
    let end = portal.wait_end(SHORT).unwrap();
    assert!(end.is_some(), "still running:\n{}", portal.log());
    assert!(portal.log().contains("the interface is gone"), "{}", portal.log());
    assert_eq!(files(portal.directory()), [""; 0]);
    drop(portal);
    // It can be started again, and the other one has not noticed much.
    pair.start_local().unwrap();
    pair.wait_connected(LONG).unwrap();
    pair.stop().unwrap();
}

#[test]
fn a_reload_adds_and_removes_links_and_leaves_the_others_alone() {
    if !may_build_labs("SIGHUP") {
        return;
    }
    let lab = two_links();
    let only_first = PairOptions { links: vec![0], ..PairOptions::default() };
    let key = random_key().unwrap();
    let [one, both] = [&only_first, &PairOptions::default()].map(|options| local_config(&lab, options, &key));
    let configs = [one.clone(), remote_config(&only_first, &key)];
    let mut pair = Pair::start_with(&lab, &only_first, configs).unwrap();
    pair.wait_connected(LONG).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    let portal = pair.local().unwrap();
    // Since when the first link is up, on the clock of the portal.
    let since = |portal: &Portal| {
        let uptime = portal.show().unwrap()["uptime_seconds"].as_f64().unwrap();
        uptime - portal.link("link0").unwrap()["since_seconds"].as_f64().unwrap()
    };
    let begun = since(portal);
    let same = |portal: &Portal| (since(portal) - begun).abs() < 0.5;
    let links = |portal: &Portal| portal.show().unwrap()["links"].as_array().unwrap().len();
    traffic.run_until(Duration::from_secs(1));

    portal.reload(&both).unwrap();
    portal.wait_state("link1", "up", SHORT).unwrap();
    assert!(same(portal), "{}", portal.log());

    // A broken file changes nothing and is reported; so is what needs a restart.
    portal.reload(&both.replace("RemotePort = 7000", "RemotePort = 74523")).unwrap();
    portal.wait_logged(SHORT, &["ERROR", "not applied", "Peer[1].RemotePort", "74523"]).unwrap();
    portal.reload(&both.replace("Address = 10.77.0.1/24", "Address = 10.77.0.9/24")).unwrap();
    portal.wait_logged(SHORT, &["ERROR", "not applied", "Address", "restart"]).unwrap();
    assert_eq!(links(portal), 2);
    assert!(same(portal), "{}", portal.log());

    portal.reload(&one).unwrap();
    until(SHORT, "one link", || Ok(links(portal) == 1)).unwrap();
    assert!(same(portal), "{}", portal.log());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(portal.link("link0").unwrap()["state"], "up");
    traffic.survived(Duration::from_secs(2)).unwrap();
    pair.stop().unwrap();
}

#[test]
fn a_second_start_says_who_is_first() {
    if !may_build_labs("a second start") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let portal = pair.local().unwrap();
    for foreground in [true, false] {
        let mut again = lab.local().command(portal::binary().unwrap());
        again.arg("nc0").arg("--run-dir").arg(portal.directory());
        again.arg("--config").arg(portal.directory().join("nc0.conf"));
        if foreground {
            again.arg("--foreground");
        }
        let again = again.output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr);
        assert_eq!(again.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("nc0 is already running (pid {})", portal.pid())), "{said}");
    }
    assert!(portal.is_running());
    pair.wait_connected(SHORT).unwrap();
    pair.stop().unwrap();
}

#[test]
fn twenty_times_up_and_down_in_the_background_leave_nothing() {
    if !may_build_labs("the background") {
        return;
    }
    let lab = two_links();
    let key = random_key().unwrap();
    let options = PairOptions::default();
    let configs = [local_config(&lab, &options, &key), remote_config(&options, &key)];
    let namespaces = [lab.local(), lab.remote()];
    let before = namespaces.map(belongings);
    for turn in 0..20 {
        let start = |(namespace, config): (&Namespace, &String)| {
            Background::start(namespace, "nc0", config, lab.directory()).unwrap()
        };
        let portals: Vec<Background> = namespaces.into_iter().zip(&configs).map(start).collect();
        // The interface is there when the program has ended: what comes next may use it.
        lab.route_through("nc0", "nc0").unwrap();
        if turn % 5 == 0 {
            let ping = evaluation::ping::Ping::times(1);
            let target = lab.server_address(Family::V4);
            until(LONG, "traffic", || Ok(!ping.run(lab.client(), target)?.replies.is_empty())).unwrap();
        }
        for portal in portals {
            let (pid, directory) = (portal.pid().unwrap(), portal.directory().to_owned());
            portal.down().unwrap();
            until(SHORT, "its end", || Ok(has_ended(pid))).unwrap();
            assert_eq!(files(&directory), [""; 0]);
        }
    }
    lab.route_directly(0).unwrap();
    assert_eq!(namespaces.map(belongings), before);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    if !may_build_labs("a start that fails") {
        return;
    }
    let lab = two_links();
    let key = random_key().unwrap();
    let options = PairOptions { host_lines: vec!["PostUp = false".into()], ..PairOptions::default() };
    let config = local_config(&lab, &options, &key);
    let before = belongings(lab.local());
    let begun = Instant::now();
    let error = Background::start(lab.local(), "nc0", &config, lab.directory()).unwrap_err();
    assert!(format!("{error:#}").contains("PostUp"), "{error:#}");
    assert!(begun.elapsed() < SHORT);
    assert_eq!(belongings(lab.local()), before);
    assert_eq!(files(&lab.directory().join("local")), [""; 0]);
}
