//! The arrows between the rooms go down only.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and what each may import of ours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("calendar", &["calendar"]),
    (
        "cli",
        &[
            "cli",
            "config",
            "control",
            "process",
            "journal",
            "top",
            "diagnosis",
            "setup",
            "core::snapshot",
            "core::load_test",
        ],
    ),
    ("config", &["config"]),
    ("control", &["control", "calendar", "journal", "core::snapshot", "core::load_test"]),
    ("core", &["core"]),
    ("diagnosis", &["core::snapshot", "core::load_test"]),
    ("journal", &["journal"]),
    ("process", &["process", "config"]),
    ("quota", &["quota", "calendar"]),
    ("runtime", &["runtime", "calendar", "config", "journal", "quota", "core"]),
    ("setup", &["setup", "config", "control", "process"]),
    ("sim", &["sim", "core"]),
    ("status", &["status", "calendar", "config", "control", "journal", "core::snapshot", "core::load_test"]),
    ("top", &["top", "control", "journal", "core::snapshot"]),
];

/// Modules of `core` that everything there stands on.
const LEAVES: &[&str] = &[
    "units",
    "wire",
    "replay",
    "rtt",
    "packet",
    "discard",
    "ecn",
    "icmp",
    "recent",
    "checksum",
    "one_way",
    "load_wire",
    "places",
];

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// What follows `crate::` on each line, with `{` kept.
fn imports(source: &Path) -> Vec<String> {
    let text = fs::read_to_string(source).expect("readable");
    text.split("crate::").skip(1).map(|rest| rest.lines().next().unwrap_or("").to_owned()).collect()
}

#[test]
fn rooms_import_only_what_lies_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (room, allowed) in MAY_IMPORT {
        for source in sources(&src.join(room)) {
            for import in imports(&source) {
                seen += 1;
                let fine = allowed.iter().any(|name| import.starts_with(name));
                assert!(fine, "{} imports crate::{import}", source.display());
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were found: does this test still see them?");
}

#[test]
fn the_leaves_of_core_stand_on_each_other_only() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    for leaf in LEAVES {
        let text = fs::read_to_string(core.join(format!("{leaf}.rs"))).expect("a leaf");
        for line in
            text.lines().filter(|line| line.starts_with("use super::") || line.starts_with("use crate::"))
        {
            let module = line.trim_start_matches("use super::").trim_start_matches("use crate::core::");
            assert!(LEAVES.iter().any(|leaf| module.starts_with(leaf)), "{leaf}: {line}");
        }
    }
}

#[test]
fn the_map_names_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the map");
    let folders = ["src", "tests", "benches", "fuzz/fuzz_targets", "evaluation/src"];
    let files: Vec<_> = folders.iter().flat_map(|folder| sources(&root.join(folder))).collect();
    let named: Vec<_> = map.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> =
        named.iter().filter(|name| !files.iter().any(|file| file.ends_with(name))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that are not there: {missing:?}");
}
