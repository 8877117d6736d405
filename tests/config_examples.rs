//! Every pair of portals in `config-examples/` loads, and its two sides fit each other.

use std::fs;
use std::path::{Path, PathBuf};

use netcombiner::config::{Config, Peer};

fn pairs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config-examples");
    let entries = fs::read_dir(root).expect("the examples");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.join("local").is_dir()).collect()
}

fn load(pair: &Path, side: &str) -> Config {
    let (config, _) = Config::load(&pair.join(side).join("nc0"))
        .unwrap_or_else(|errors| panic!("{} {side}: {errors}", pair.display()));
    config
}

#[test]
fn both_sides_load_and_fit() {
    let pairs = pairs();
    assert_eq!(pairs.len(), 7);
    for pair in pairs {
        let (local, remote) = (load(&pair, "local"), load(&pair, "remote"));
        let shown = pair.display();
        assert_eq!(local.host.protection, remote.host.protection, "{shown}");
        for (own, other) in local.host.addresses.iter().zip(&remote.host.addresses) {
            assert_ne!(own.address(), other.address(), "{shown}");
        }
        assert_eq!(local.host.addresses.len(), remote.host.addresses.len(), "{shown}");
        reaches(&local.peers, &remote.peers);
        reaches(&remote.peers, &local.peers);
    }
}

/// Each link that one side opens ends where the other listens.
fn reaches(from: &[Peer], to: &[Peer]) {
    for peer in from {
        let Some(remote) = &peer.remote else { continue };
        let listener = to.iter().find(|other| {
            !other.initiates() && other.method == peer.method && other.local_port == remote.port
        });
        assert!(listener.is_some(), "nobody listens on {remote}");
    }
}
