//! The program as its user meets it: what it prints, where, and how it exits.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netcombiner::config::Key;

const KEY: &str = "NotSecret/ReplaceIt/RunNetcombinerGenkey000=";

fn netcombiner(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netcombiner"));
    command.args(args);
    command
}

/// Exit code, standard output and standard error.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

fn config(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("nc0");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn check_counts_the_links_of_a_good_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = config(dir.path(), &format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9\n"));
    let path = shown(&path);
    let fine = (0, format!("{path}: OK, 1 link\n"), String::new());
    assert_eq!(outcome(&mut netcombiner(&["check", path])), fine);

    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("changed");
    let (code, _, stderr) = outcome(&mut netcombiner(&["check", path]));
    let warning =
        format!("netcombiner: warning: nc0: {path} is open to others than its owner: chmod 600 {path}\n");
    assert_eq!((code, stderr), (0, warning));
}

#[test]
fn check_prints_every_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!("[Host]\nKey={KEY}\nMTU=1\n[Peer]\nLocalPort=74523\n");
    let path = config(dir.path(), &text);
    let errors = "netcombiner: nc0:3: Host.MTU invalid: auto or min 576; given 1\n\
                  netcombiner: nc0:5: Peer[1].LocalPort invalid: max 65535; given 74523\n";
    let expected = (1, String::new(), errors.to_owned());
    assert_eq!(outcome(&mut netcombiner(&["check", shown(&path)])), expected);
}

#[test]
fn check_takes_an_interface_for_its_configuration() {
    let (code, _, stderr) = outcome(&mut netcombiner(&["check", "absent9"]));
    let path = Path::new(netcombiner::cli::CONFIG_DIR).join("absent9");
    assert!(stderr.contains(&format!("cannot read {}: ", path.display())), "{stderr}");
    assert_eq!(code, 1);
}

#[test]
fn mistyped_commands_are_told_from_interfaces() {
    for (args, line) in [
        (["shwo", "nc0"], "there is no command shwo: try netcombiner show"),
        (["frobnicate", "nc0"], "there is no command frobnicate: try netcombiner --help"),
        (["nc0", "show"], "the command comes first: netcombiner show nc0"),
    ] {
        let expected = (2, String::new(), format!("netcombiner: {line}\n"));
        assert_eq!(outcome(&mut netcombiner(&args)), expected);
    }
    let contradictions: [&[&str]; 3] = [
        &["show", "nc0", "--json", "--details"],
        &["setup", "local", "nc0", "LINE", "--route-all", "--route", "10.0.0.0/8"],
        &["--foreground", "show", "nc0"],
    ];
    for args in contradictions {
        let (code, _, stderr) = outcome(&mut netcombiner(args));
        assert!(code == 2 && stderr.contains("cannot be used with"), "{args:?}: {stderr}");
    }
}

#[test]
fn senseless_arguments_exit_with_2() {
    let cases: [&[&str]; 5] =
        [&[], &["a name"], &["sixteen-letters-"], &["nc0", "--frobnicate"], &["nc0", "--log-level", "loud"]];
    for args in cases {
        let (code, stdout, stderr) = outcome(&mut netcombiner(args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains("--help") || stderr.contains("Usage:"), "{stderr}");
    }
}

#[test]
fn every_subcommand_explains_itself() {
    for args in [&["--help"][..], &["check", "--help"], &["genkey", "--help"], &["show", "--help"]] {
        let (code, stdout, _) = outcome(&mut netcombiner(args));
        assert_eq!(code, 0, "{args:?}");
        assert!(stdout.contains("Example"), "{stdout}");
    }
}

#[test]
fn genkey_prints_a_new_key_each_time() {
    let keys = [(), ()].map(|()| {
        let (code, stdout, stderr) = outcome(&mut netcombiner(&["genkey"]));
        assert_eq!((code, stderr.as_str()), (0, ""));
        stdout.trim_end().parse::<Key>().expect("a key")
    });
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn genkey_warns_of_a_file_that_others_can_read() {
    let dir = tempfile::tempdir().expect("a directory");
    for (mode, warns) in [(0o600, false), (0o640, true), (0o604, true)] {
        let path = dir.path().join("key");
        let file = File::create(&path).expect("created");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        let (code, _, stderr) = {
            let output = netcombiner(&["genkey"]).stdout(file).output().expect("started");
            let stderr = String::from_utf8(output.stderr).expect("text");
            (output.status.code(), (), stderr)
        };
        assert_eq!(code, Some(0));
        assert_eq!(stderr.contains("umask 077"), warns, "{mode:o}: {stderr}");
        let key = fs::read_to_string(&path).expect("text");
        assert!(key.trim_end().parse::<Key>().is_ok());
    }
}

#[test]
fn a_portal_that_does_not_run_cannot_be_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let run_dir = format!("--run-dir={}", dir.path().display());
    let not_running = (1, String::new(), "netcombiner: nc0 is not running\n".to_owned());
    for command in ["show", "down", "reload", "test"] {
        let asked = outcome(&mut netcombiner(&[command, "nc0", &run_dir]));
        assert_eq!(asked, not_running, "{command}");
    }
    // The standard library's listener leaves its file, as a killed portal does.
    drop(UnixListener::bind(dir.path().join("nc0.sock")).expect("bound"));
    assert_eq!(outcome(&mut netcombiner(&["show", "nc0", &run_dir])), not_running);

    let nobody = format!("netcombiner: no portal is running in {}\n", dir.path().display());
    assert_eq!(outcome(&mut netcombiner(&["show", &run_dir])), (0, String::new(), nobody.clone()));
    let none = (0, "[]\n".to_owned(), nobody);
    assert_eq!(outcome(&mut netcombiner(&["show", "--json", &run_dir])), none);
}

#[test]
fn a_start_without_a_good_configuration_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("nc9");
    let (code, _, stderr) = outcome(&mut netcombiner(&["nc0", "--config", shown(&missing)]));
    assert_eq!(code, 1);
    if stderr.contains("CAP_NET_ADMIN") {
        let expected = "netcombiner: nc0: creating the interface needs CAP_NET_ADMIN; run as root\n";
        assert_eq!(stderr, expected);
        return;
    }
    let expected = format!(
        "netcombiner: nc0: there is no configuration {}; write it, or name another with --config\n",
        missing.display()
    );
    assert_eq!(stderr, expected);

    let text = format!("[Host]\nKey={KEY}\n[Peer]\nLocalPort=9\nInterface=nc7\n");
    let path = config(dir.path(), &text);
    let (code, _, stderr) = outcome(&mut netcombiner(&["nc7", "--config", shown(&path)]));
    let own = "netcombiner: nc0:5: Peer[1].Interface invalid: nc7 is the interface of this portal";
    assert_eq!(code, 1);
    assert!(stderr.starts_with(own), "{stderr}");
}
