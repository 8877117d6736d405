//! The harness of the portals, with a stand-in for the daemon: a script that makes the interface
//! and does nothing more.
//!
//! ```text
//! client -- local (stand-in, nc0) == wan0, wan1 == internet -- remote (stand-in, nc0), server
//! ```

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::ping::Ping;
use evaluation::portal::{Pair, PairOptions};

const STAND_IN: &str = r#"#!/bin/sh
if [ "$1" = show ]; then echo '{"interface": "'"$2"'"}'; exit; fi
echo "stand-in: $*" >&2
grep -q "^Refuse" "$6" && { echo "refused" >&2; exit 1; }
ip tuntap add "$1" mode tun && ip link set "$1" up
trap 'ip link del "$1"; exit 0' TERM
while :; do sleep 0.05; done
"#;

fn stand_in(lab: &Lab) -> PathBuf {
    let path = lab.directory().join("netcombiner");
    fs::write(&path, STAND_IN).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn portals_start_stop_die_and_start_again() {
    if !may_build_labs("the portals' harness") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(50.0), LinkSpec::mbit(20.0)]).unwrap();
    let options = PairOptions {
        binary: Some(stand_in(&lab)),
        congestion_control: "newreno".into(),
        protection: "mac".into(),
        link_lines: vec![(1, "Metric = 5".into())],
        ..PairOptions::default()
    };
    let mut pair = Pair::start(&lab, &options).unwrap();
    let [local, remote] = pair.configs().clone();
    assert_eq!(local.matches("[Peer]").count(), 2);
    assert!(local.contains("Interface = wan1\nRemoteHost = 198.51.100.2\nRemotePort = 7000\n"));
    assert!(local.ends_with("CongestionControl = newreno\nMetric = 5\n"), "{local}");
    assert!(remote.contains("\nLocalPort = 7000\n") && !remote.contains("RemoteHost"));

    let portal = pair.local().unwrap();
    assert!(portal.is_running() && portal.rss_kb().unwrap() > 100);
    assert!(portal.cpu_seconds().unwrap() < 5.0);
    assert_eq!(portal.show().unwrap()["interface"], "nc0");
    assert!(portal.log().contains("stand-in: nc0 --foreground --log-level info --config"));
    let config = lab.directory().join("local/nc0.conf");
    assert_eq!(fs::metadata(config).unwrap().permissions().mode() & 0o777, 0o600);

    // The traffic goes into the tunnel, or nowhere when that is gone; never past it.
    let ping = Ping { timeout: std::time::Duration::from_millis(100), ..Ping::times(2) };
    for _ in 0..2 {
        let report = ping.run(lab.client(), lab.server_address(Family::V4)).unwrap();
        assert_eq!(report.replies, []);
        if let Ok(portal) = pair.take_local() {
            portal.kill();
        }
    }
    pair.start_local().unwrap();
    assert!(pair.local().unwrap().is_running());
    pair.stop().unwrap();
}

#[test]
fn a_daemon_that_refuses_is_an_error_with_its_words() {
    if !may_build_labs("the portals' harness") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(50.0)]).unwrap();
    let options = PairOptions {
        binary: Some(stand_in(&lab)),
        host_lines: vec!["Refuse = yes".into()],
        ..PairOptions::default()
    };
    let error = format!("{:#}", Pair::start(&lab, &options).unwrap_err());
    assert!(error.contains("refused") && error.contains("netcombiner nc0 of remote"), "{error}");
}
