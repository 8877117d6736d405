//! The init script of OpenWrt, with what it asks of procd printed instead.

use std::fs;
use std::process::Command;

/// Stands for rc.common and procd.
const PROCD: &str = "
procd_open_instance() { echo \"instance $1\"; }
procd_set_param() { echo \"$*\"; }
procd_close_instance() { :; }
start() { start_service; }
";

fn run(function: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["nc0", "nc1", "nc0.key", "nc0.example"] {
        fs::write(directory.path().join(name), "").expect("written");
    }
    let init = include_str!("../openwrt/files/netcombiner.init");
    let script = format!(
        "{PROCD}{init}\nPROGRAM=echo\nCONFIG_DIR={}\nset -eu\n{function}",
        directory.path().display()
    );
    let output = Command::new("sh").arg("-c").arg(script).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn each_configuration_is_one_instance() {
    let said = run("start_service");
    let commands: Vec<&str> = said.lines().filter(|line| line.starts_with("command ")).collect();
    assert_eq!(commands, ["command echo nc0 --foreground", "command echo nc1 --foreground"]);
    assert_eq!(said.matches("instance ").count(), 2, "{said}");
}

#[test]
fn a_reload_starts_what_is_new_and_asks_the_others() {
    let said = run("reload_service");
    assert!(said.contains("instance nc1") && said.ends_with("reload nc0\nreload nc1\n"), "{said}");
}

#[test]
fn the_example_is_a_valid_configuration() {
    let text = include_str!("../openwrt/files/nc0.example");
    let directory = tempfile::tempdir().expect("a directory");
    let key = "NotSecret/ReplaceIt/RunNetcombinerGenkey000=\n";
    fs::write(directory.path().join("nc0.key"), key).expect("written");
    let config = directory.path().join("nc0");
    fs::write(&config, text).expect("written");
    let (config, _) = netcombiner::config::Config::load(&config).expect("valid");
    assert_eq!(config.peers.len(), 2);
}
