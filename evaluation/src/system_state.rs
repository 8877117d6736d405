//! What a set-up may change in a system and must put back: rules, routes, tables, sysctls, links,
//! processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;

use crate::netns::Namespace;

/// What is looked at, each as text.
const LISTINGS: [(&str, &[&str]); 7] = [
    ("ip", &["-o", "-br", "link"]),
    ("ip", &["-d", "-4", "rule"]),
    ("ip", &["-d", "-6", "rule"]),
    ("ip", &["-4", "route", "show", "table", "all"]),
    ("ip", &["-6", "route", "show", "table", "all"]),
    ("ip", &["-o", "addr"]),
    ("nft", &["list", "ruleset"]),
];

/// The settings of all interfaces, and some for the whole system.
const SYSCTLS: [&str; 5] =
    ["ipv4/conf", "ipv6/conf", "ipv4/ip_forward", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect"];

/// The state of a namespace at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemState {
    parts: BTreeMap<String, String>,
}

impl SystemState {
    /// Looks at a namespace.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let mut parts = BTreeMap::new();
        for (program, arguments) in LISTINGS {
            let text = namespace.run(program, arguments)?;
            parts.insert(format!("{program} {}", arguments.join(" ")), text);
        }
        namespace.enter(|| {
            SYSCTLS.iter().for_each(|name| read_all(&Path::new("/proc/sys/net").join(name), &mut parts));
        })?;
        let processes = processes(namespace)?;
        parts.insert("processes".into(), processes.join("\n"));
        Ok(Self { parts })
    }

    /// What differs from an earlier state, for people; empty if nothing does.
    pub fn changes_since(&self, earlier: &Self) -> String {
        let mut text = String::new();
        let names: std::collections::BTreeSet<_> = self.parts.keys().chain(earlier.parts.keys()).collect();
        for name in names {
            let [before, after] =
                [earlier, self].map(|state| state.parts.get(name).map_or("", String::as_str));
            if before != after {
                text += &format!("{name}\nbefore:\n{before}\nafter:\n{after}\n");
            }
        }
        text
    }
}

fn read_all(path: &Path, into: &mut BTreeMap<String, String>) {
    if let Ok(entries) = fs::read_dir(path) {
        entries.flatten().for_each(|entry| read_all(&entry.path(), into));
    } else if let Ok(text) = fs::read_to_string(path) {
        // A secret that was never set cannot be read.
        into.insert(path.display().to_string(), text);
    }
}

/// The processes whose main thread is in the namespace, as `pid command`.
fn processes(namespace: &Namespace) -> Result<Vec<String>> {
    let inode = fs::metadata(namespace.path())?.ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end while we look.
        if fs::metadata(entry.path().join("ns/net")).is_ok_and(|ns| ns.ino() == inode) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{} {}", entry.file_name().to_string_lossy(), command.trim()));
        }
    }
    found.sort();
    Ok(found)
}
