//! What the system has: interfaces with a default route, and their addresses, asked of `ip`.

use std::net::IpAddr;
use std::process::Command;

use serde::Deserialize;

use super::SetupError;
use crate::config::InterfaceName;

/// A default route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultRoute {
    pub(super) interface: InterfaceName,
    pub(super) is_ipv4: bool,
}

#[derive(Deserialize)]
struct Route {
    dev: Option<String>,
    metric: Option<u32>,
    #[serde(default)]
    nexthops: Vec<Hop>,
}

#[derive(Deserialize)]
struct Hop {
    dev: String,
}

#[derive(Deserialize)]
struct Interface {
    ifname: Option<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
    #[serde(default)]
    temporary: bool,
    #[serde(default)]
    deprecated: bool,
    #[serde(default)]
    tentative: bool,
}

/// The default routes, those of IPv4 first, the preferred of each family first.
pub(super) fn default_routes() -> Result<Vec<DefaultRoute>, SetupError> {
    let mut found = Vec::new();
    for (flag, is_ipv4) in [("-4", true), ("-6", false)] {
        found.extend(default_routes_in(&ip(&["-j", flag, "route", "show", "default"])?, is_ipv4)?);
    }
    Ok(found)
}

fn default_routes_in(json: &str, is_ipv4: bool) -> Result<Vec<DefaultRoute>, SetupError> {
    let mut routes: Vec<Route> = read(json)?;
    routes.sort_by_key(|route| route.metric.unwrap_or(0));
    let mut found: Vec<DefaultRoute> = Vec::new();
    for name in routes
        .into_iter()
        .flat_map(|route| route.dev.into_iter().chain(route.nexthops.into_iter().map(|hop| hop.dev)))
    {
        // An unreachable default has `lo` on some kernels.
        let interface = name.parse::<InterfaceName>().ok().filter(|interface| interface.as_str() != "lo");
        if let Some(interface) = interface.filter(|new| found.iter().all(|route| route.interface != *new)) {
            found.push(DefaultRoute { interface, is_ipv4 });
        }
    }
    Ok(found)
}

/// The stable addresses of an interface for the world, or of all with `None`.
pub(super) fn addresses(interface: Option<&InterfaceName>) -> Result<Vec<IpAddr>, SetupError> {
    let mut arguments = vec!["-j", "addr", "show", "scope", "global"];
    if let Some(interface) = interface {
        arguments.extend(["dev", interface.as_str()]);
    }
    addresses_in(&ip(&arguments)?)
}

fn addresses_in(json: &str) -> Result<Vec<IpAddr>, SetupError> {
    let interfaces: Vec<Interface> = read(json)?;
    let stable = |address: &Address| !address.temporary && !address.deprecated && !address.tentative;
    let addresses = interfaces.into_iter().flat_map(|interface| interface.addr_info);
    Ok(addresses.filter(stable).filter_map(|address| address.local).collect())
}

/// Whether there is such an interface.
pub(super) fn has_interface(name: &InterfaceName) -> Result<bool, SetupError> {
    let interfaces: Vec<Interface> = read(&ip(&["-j", "link", "show"])?)?;
    Ok(interfaces.iter().any(|interface| interface.ifname.as_deref() == Some(name.as_str())))
}

/// Whether the kernel knows IPv6.
pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Whether the world can reach the address: it is neither private (RFC 1918, RFC 6598, RFC 4193) nor of one link.
pub(super) fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            !(v4.is_private() || v4.is_link_local() || v4.is_loopback() || is_shared)
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback()),
    }
}

/// The names of the tables of nft that drop by default what comes in, or what is to be forwarded.
pub(super) fn strict_firewalls(hook: &str) -> Vec<String> {
    let output = Command::new("nft").args(["list", "chains"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    strict_tables(&text, hook)
}

fn strict_tables(listing: &str, hook: &str) -> Vec<String> {
    let mut table = "";
    let mut found = Vec::new();
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if line.contains(&format!(" hook {hook} ")) && line.contains("policy drop") {
            found.push(table.to_owned());
        }
    }
    found
}

fn ip(arguments: &[&str]) -> Result<String, SetupError> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| SetupError::new(format!("cannot run ip of iproute2: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or("failed").to_owned();
    Err(SetupError::new(format!("ip {}: {line}", arguments.join(" "))))
}

fn read<T: for<'a> Deserialize<'a>>(json: &str) -> Result<Vec<T>, SetupError> {
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(json)
        .map_err(|error| SetupError::new(format!("cannot understand the JSON of ip: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_come_in_the_order_of_preference() {
        let json = r#"[{"dst":"default","gateway":"192.168.2.1","dev":"wwan0","metric":700,"flags":[]},
            {"dst":"default","gateway":"192.168.1.1","dev":"eth1","protocol":"dhcp","metric":100,"flags":[]},
            {"dst":"default","flags":[],"metric":800,"nexthops":[{"dev":"ppp0","weight":1},{"gateway":"10.0.0.1","dev":"eth1","weight":1}]}]"#;
        let names: Vec<String> = default_routes_in(json, true)
            .expect("read")
            .iter()
            .map(|route| route.interface.to_string())
            .collect();
        assert_eq!(names, ["eth1", "wwan0", "ppp0"]);
        assert_eq!(default_routes_in("", true).expect("read"), []);
        assert!(default_routes_in("BusyBox", true).is_err());
    }

    #[test]
    fn only_stable_addresses_count() {
        let json = r#"[{},{"ifname":"eth0","addr_info":[{"family":"inet","local":"198.51.100.2","prefixlen":24},
            {"family":"inet6","local":"2001:db8::1","temporary":true},{"family":"inet6","local":"2001:db8::2"}]}]"#;
        let addresses = addresses_in(json).expect("read");
        assert_eq!(
            addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            ["198.51.100.2", "2001:db8::2"]
        );
    }

    #[test]
    fn private_addresses_are_not_public() {
        for (text, public) in [
            ("198.51.100.2", true),
            ("10.0.0.5", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", false),
        ] {
            assert_eq!(is_public(&text.parse().expect("an address")), public, "{text}");
        }
    }

    #[test]
    fn a_firewall_that_drops_is_seen() {
        let listing = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
            \tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n";
        assert_eq!(strict_tables(listing, "input"), ["inet filter"]);
        assert_eq!(strict_tables(listing, "forward"), [""; 0]);
    }
}
