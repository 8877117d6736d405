//! The `[Host]` section.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use super::diagnostic::Report;
use super::fields::{Field, Fields};
use super::status::{self, Password, Status};
use super::text::Entry;
use super::value::{self, MIN_IPV6_MTU};
use super::{Cidr, Hooks, Host, Key, MetricMode, Mtu, Network, Protection, Redundancy, Routing, Table, load};

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
    "Processors",
    "Status",
    "StatusPassword",
    "StatusPasswordFile",
    "Table",
    "Route",
    "DNS",
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
    let processors = fields.parsed("Processors", value::processors);
    let offload = fields.parsed("Offload", |text| value::choice(text, &[("auto", true), ("off", false)]));
    let status = status(fields, base_dir);
    let routing = routing(fields);
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
        processors: processors.value().flatten(),
        status,
        routing,
    })
}

/// The key, from the file itself or from the one that `KeyFile` names.
fn key(fields: &mut Fields, base_dir: &Path) -> Field<Key> {
    secret(fields, base_dir, ["Key", "KeyFile"], load::key_file)
}

/// Where the status page is served. An address that others can reach needs a password.
fn status(fields: &mut Fields, base_dir: &Path) -> Option<Status> {
    let names = ["StatusPassword", "StatusPasswordFile"];
    let password = secret::<Password>(fields, base_dir, names, load::password_file);
    let Field::Given(Some(address), line) = fields.parsed("Status", status::address) else {
        return None;
    };
    if matches!(password, Field::Absent) && !address.ip().is_loopback() {
        let fault =
            format!("refused: others can reach {address}; it needs StatusPassword or StatusPasswordFile");
        fields.error(line, "Status", &fault);
        return None;
    }
    Some(Status { address, password: password.value() })
}

/// A value that nobody else should see: from the configuration itself, or from the file that the second of the two
/// keys names, as `read` gives it. It is never repeated in an error.
fn secret<T: FromStr<Err = String>>(
    fields: &mut Fields,
    base_dir: &Path,
    [inline_name, file_name]: [&'static str; 2],
    read: fn(&Path, &Entry, &mut Report) -> Result<T, String>,
) -> Field<T> {
    let (inline, file) = (fields.one(inline_name), fields.one(file_name));
    let (name, entry, parsed) = match (inline, file) {
        (None, None) => return Field::Absent,
        (Some(inline), Some(file)) => {
            let fault = format!("refused: {inline_name} stands on line {}; keep one", inline.line);
            fields.error(file.line, file_name, &fault);
            return Field::Invalid;
        }
        (Some(entry), None) => (inline_name, entry, entry.value.parse::<T>()),
        (None, Some(entry)) => (file_name, entry, read(base_dir, entry, fields.report)),
    };
    match parsed {
        Ok(value) => Field::Given(value, entry.line),
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

fn routing(fields: &mut Fields) -> Routing {
    let table = fields.parsed("Table", |text| text.parse::<Table>());
    let mut routing = Routing::default();
    for entry in fields.all("Route") {
        if matches!(table, Field::Absent | Field::Given(Table::Off, _)) {
            fields.error(
                entry.line,
                "Route",
                "refused: nothing is led while Table is off; write Table = auto",
            );
        }
        for text in entry.value.split(',').map(str::trim) {
            match text.parse::<Network>() {
                Ok(network) if routing.routes.contains(&network) => {
                    fields.error(entry.line, "Route", &format!("repeated: {network} is given already"));
                }
                Ok(network) => routing.routes.push(network),
                Err(allowed) => fields.invalid(entry.line, "Route", &allowed, text),
            }
        }
    }
    for entry in fields.all("DNS") {
        for text in entry.value.split(',').map(str::trim) {
            match (text.parse::<IpAddr>(), value::search_domain(text)) {
                (Ok(address), _) => routing.dns.push(address),
                (_, Ok(domain)) => routing.search.push(domain),
                (_, Err(allowed)) => fields.invalid(entry.line, "DNS", &allowed, text),
            }
        }
    }
    routing.table = table.value().unwrap_or_default();
    routing
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
