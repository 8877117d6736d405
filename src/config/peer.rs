//! A `[Peer]` section.

use std::net::IpAddr;
use std::time::Duration;

use super::fields::{Field, Fields};
use super::{
    CongestionControl, InterfaceName, Method, Peer, Quota, QuotaAction, Remote, RemoteHost, Volume, change,
    value,
};

/// Every key that a `[Peer]` section may hold.
pub const KEYS: &[&str] = &[
    "Name",
    "Method",
    "LocalAddress",
    "LocalPort",
    "Interface",
    "RemoteHost",
    "RemotePort",
    "CongestionControl",
    "Metric",
    "KeepAlive",
    "Gso",
    "Gro",
    "RateLimit",
    "Quota",
    "QuotaResetDay",
    "QuotaAction",
    "Metered",
];

/// The last day that every month has.
const MAX_RESET_DAY: u8 = 28;

/// Silence after which a link that initiates gives a sign of life: home routers forget a UDP flow
/// after 30 s or more, which is why WireGuard's manual recommends 25 s.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(25);

/// A section as far as it could be read: what was invalid has its default, and is reported.
pub(super) struct Draft {
    pub(super) peer: Peer,
    /// Line of the header.
    pub(super) line: usize,
    /// Line of the name, if one is given.
    pub(super) name_line: Option<usize>,
    /// Line of the interface, if one is given.
    pub(super) interface_line: Option<usize>,
    /// Whether all that tells one link's end points from another's was valid.
    pub(super) has_endpoints: bool,
}

/// Reads the section with number `section`; whatever is wrong with it is reported.
pub(super) fn read(fields: &mut Fields, section: usize) -> Draft {
    let name = fields.parsed("Name", value::link_name);
    let method = fields.parsed("Method", |text| text.parse::<Method>());
    let local_address = fields.parsed("LocalAddress", value::local_address);
    let local_port = fields.parsed("LocalPort", |text| value::number(text, 0, u16::MAX));
    let interface = fields.parsed("Interface", |text| text.parse::<InterfaceName>());
    let host = fields.parsed("RemoteHost", |text| text.parse::<RemoteHost>());
    let port = fields.parsed("RemotePort", |text| value::number(text, 1, u16::MAX));
    let metric = fields.parsed("Metric", |text| value::number(text, 0, u8::MAX));
    let keep_alive = fields.parsed("KeepAlive", keep_alive);
    let metered = fields.parsed("Metered", |text| value::choice(text, &[("yes", true), ("no", false)]));
    let congestion_control = congestion_control(fields, &method);
    let rate_limit = fields.parsed("RateLimit", change::rate_limit);
    let quota = quota(fields);
    let (gso, gro) = (offload(fields, "Gso", &method), offload(fields, "Gro", &method));

    same_family(fields, &local_address, &host);
    let listens = matches!(host, Field::Absent);
    if listens {
        port_to_listen_on(fields, &local_port);
        if let Some(line) = port.line() {
            let fault = "refused: there is no RemoteHost, so this link listens";
            fields.error(line, "RemotePort", fault);
        }
    } else if matches!(port, Field::Absent) {
        fields.missing("RemotePort", "the port that the other portal listens on");
    }

    let keep_alive_default = (!listens).then_some(DEFAULT_KEEP_ALIVE);
    let any_invalid = method.is_invalid()
        || local_address.is_invalid()
        || local_port.is_invalid()
        || interface.is_invalid();
    let lacks_end = if listens {
        matches!(local_port, Field::Absent | Field::Given(0, _))
    } else {
        host.line().is_none() || port.line().is_none()
    };
    Draft {
        line: fields.line(),
        name_line: name.line(),
        interface_line: interface.line(),
        has_endpoints: !any_invalid && !lacks_end,
        peer: Peer {
            section,
            name: name.value().unwrap_or_else(|| format!("peer{section}")),
            method: method.value().unwrap_or(Method::Udp),
            local_address: local_address.value(),
            local_port: local_port.value().unwrap_or(0),
            interface: interface.value(),
            remote: host.value().zip(port.value()).map(|(host, port)| Remote { host, port }),
            congestion_control,
            metric: metric.value().unwrap_or(0),
            keep_alive: keep_alive.value().unwrap_or(keep_alive_default),
            gso,
            gro,
            rate_limit: rate_limit.value().flatten(),
            quota,
            metered: metered.value().unwrap_or(false),
        },
    }
}

fn congestion_control(fields: &mut Fields, method: &Field<Method>) -> CongestionControl {
    let given = fields.parsed("CongestionControl", |text| text.parse::<CongestionControl>());
    if let Field::Given(Method::Tcp, _) = method {
        if let Some(line) = given.line() {
            let fault = "refused: on a TCP link the kernel does it; leave the line out";
            fields.error(line, "CongestionControl", fault);
        }
        return CongestionControl::Kernel;
    }
    given.value().unwrap_or(CongestionControl::Bbr)
}

/// The data cap. What belongs to it makes no sense without it.
fn quota(fields: &mut Fields) -> Option<Quota> {
    let volume = fields.parsed("Quota", |text| text.parse::<Volume>());
    let reset_day = fields.parsed("QuotaResetDay", |text| value::number(text, 1, MAX_RESET_DAY));
    let action = fields.parsed("QuotaAction", |text| text.parse::<QuotaAction>());
    if let Field::Absent = volume {
        for (key, line) in [("QuotaResetDay", reset_day.line()), ("QuotaAction", action.line())] {
            if let Some(line) = line {
                fields.error(line, key, "refused: there is no Quota");
            }
        }
    }
    Some(Quota {
        volume: volume.value()?,
        reset_day: reset_day.value().unwrap_or(1),
        action: action.value().unwrap_or_default(),
    })
}

/// Whether an offload of UDP links may be used: `auto`, the default, or `off`.
fn offload(fields: &mut Fields, key: &str, method: &Field<Method>) -> bool {
    let given = fields.parsed(key, |text| value::choice(text, &[("auto", true), ("off", false)]));
    if let (Field::Given(Method::Tcp, _), Some(line)) = (method, given.line()) {
        fields.error(line, key, "refused: it is for UDP links; leave the line out");
    }
    given.value().unwrap_or(true)
}

/// IPv4 cannot reach IPv6, nor the other way round.
fn same_family(fields: &mut Fields, local: &Field<IpAddr>, host: &Field<RemoteHost>) {
    let (Field::Given(local, line), Field::Given(RemoteHost::Address(remote), _)) = (local, host) else {
        return;
    };
    if local.is_ipv4() != remote.is_ipv4() {
        let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
        let allowed = format!("{family} as RemoteHost is");
        fields.invalid(*line, "LocalAddress", &allowed, &local.to_string());
    }
}

fn port_to_listen_on(fields: &mut Fields, local_port: &Field<u16>) {
    match local_port {
        Field::Absent => fields.missing("LocalPort", "a link without RemoteHost listens and needs its port"),
        Field::Given(0, line) => {
            let allowed = "min 1 on a link that listens (without RemoteHost)";
            fields.invalid(*line, "LocalPort", allowed, "0");
        }
        _ => {}
    }
}

fn keep_alive(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    value::number(text, 1, u16::MAX)
        .map(|seconds| Some(Duration::from_secs(seconds.into())))
        .map_err(|range| format!("off or seconds, {range}"))
}
