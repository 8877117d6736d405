//! The `[Host]` section.

use std::path::Path;

use super::fields::{Field, Fields};
use super::value::{self, MIN_IPV6_MTU};
use super::{Cidr, Hooks, Host, Key, MetricMode, Mtu, Protection, Redundancy, load};

/// Every key that a `[Host]` section may hold.
pub const KEYS: &[&str] = &[
    "Key",
    "KeyFile",
    "Protection",
    "Compression",
    "Address",
    "MTU",
    "MetricMode",
    "Redundancy",
    "Offload",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
];

/// Reads the section; whatever is wrong with it is reported. `None` if that leaves no host.
pub(super) fn read(fields: &mut Fields, base_dir: &Path) -> Option<Host> {
    let key = key(fields, base_dir);
    let protection = protection(fields, key);
    let compression =
        fields.parsed("Compression", |text| value::choice(text, &[("on", true), ("off", false)]));
    let addresses = addresses(fields);
    let mtu = fields.parsed("MTU", |text| text.parse::<Mtu>());
    if let Field::Given(Mtu::Fixed(mtu), line) = mtu
        && mtu < MIN_IPV6_MTU
        && addresses.iter().any(|cidr| cidr.address().is_ipv6())
    {
        let allowed = format!("min {MIN_IPV6_MTU} with an IPv6 Address");
        fields.invalid(line, "MTU", &allowed, &mtu.to_string());
    }
    let metric_mode = fields.parsed("MetricMode", |text| text.parse::<MetricMode>());
    let redundancy = fields.parsed("Redundancy", |text| text.parse::<Redundancy>());
    let offload = fields.parsed("Offload", |text| value::choice(text, &[("auto", true), ("off", false)]));
    let commands = |key| fields.all(key).map(|entry| entry.value.clone()).collect();
    Some(Host {
        hooks: Hooks {
            pre_up: commands("PreUp"),
            post_up: commands("PostUp"),
            pre_down: commands("PreDown"),
            post_down: commands("PostDown"),
        },
        protection: protection?,
        compression: compression.value().unwrap_or(true),
        addresses,
        mtu: mtu.value().unwrap_or(Mtu::Auto),
        metric_mode: metric_mode.value().unwrap_or_default(),
        redundancy: redundancy.value().unwrap_or_default(),
        offload: offload.value().unwrap_or(true),
    })
}

/// The key, from the file itself or from the one that `KeyFile` names.
fn key(fields: &mut Fields, base_dir: &Path) -> Field<Key> {
    let (inline, file) = (fields.one("Key"), fields.one("KeyFile"));
    let (name, entry, parsed) = match (inline, file) {
        (None, None) => return Field::Absent,
        (Some(inline), Some(file)) => {
            let fault = format!("refused: Key stands on line {}; keep one", inline.line);
            fields.error(file.line, "KeyFile", &fault);
            return Field::Invalid;
        }
        (Some(entry), None) => ("Key", entry, entry.value.parse::<Key>()),
        (None, Some(entry)) => {
            let read = load::key_file(base_dir, entry, fields.report);
            ("KeyFile", entry, read)
        }
    };
    match parsed {
        Ok(key) => Field::Given(key, entry.line),
        Err(fault) => {
            fields.error(entry.line, name, &format!("invalid: {fault}"));
            Field::Invalid
        }
    }
}

fn protection(fields: &mut Fields, key: Field<Key>) -> Option<Protection> {
    #[derive(Clone, Copy)]
    enum Kind {
        Aead,
        Mac,
        None,
    }
    let kinds = [("aead", Kind::Aead), ("mac", Kind::Mac), ("none", Kind::None)];
    let kind = match fields.parsed("Protection", |text| value::choice(text, &kinds)) {
        Field::Given(kind, _) => kind,
        Field::Absent => Kind::Aead,
        Field::Invalid => return None,
    };
    let needs_key = match (kind, key) {
        (_, Field::Invalid) => return None,
        (Kind::None, key) => return Some(Protection::None { key: key.value() }),
        (Kind::Aead, Field::Given(key, _)) => return Some(Protection::Aead { key }),
        (Kind::Mac, Field::Given(key, _)) => return Some(Protection::Mac { key }),
        (Kind::Aead, Field::Absent) => "aead",
        (Kind::Mac, Field::Absent) => "mac",
    };
    let fault = format!("Protection = {needs_key} needs Key or KeyFile; make one with `netcombiner genkey`");
    fields.missing("Key", &fault);
    None
}

fn addresses(fields: &mut Fields) -> Vec<Cidr> {
    let mut found: Vec<(Cidr, usize)> = Vec::new();
    for entry in fields.all("Address") {
        for text in entry.value.split(',').map(str::trim) {
            let cidr = match text.parse::<Cidr>() {
                Ok(cidr) => cidr,
                Err(allowed) => {
                    fields.invalid(entry.line, "Address", &allowed, text);
                    continue;
                }
            };
            let same = |(other, _): &&(Cidr, usize)| other.address() == cidr.address();
            if let Some((other, line)) = found.iter().find(same) {
                let fault = format!("repeated: {other} already given on line {line}");
                fields.error(entry.line, "Address", &fault);
            } else {
                found.push((cidr, entry.line));
            }
        }
    }
    found.into_iter().map(|(cidr, _)| cidr).collect()
}
