//! The side in the data centre.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use zeroize::{Zeroize, Zeroizing};

use super::journal::Journal;
use super::pairing::{Manner, Pairing};
use super::plan::Plan;
use super::{Place, SetupError, check, options, service, system};
use crate::config::{Cidr, InterfaceName, Key};
use crate::process::routes::Role;

/// What the command line says.
#[derive(Debug)]
pub struct RemoteOptions {
    /// Who owns the public address.
    pub manner: Manner,
    /// UDP port to listen on.
    pub port: u16,
    /// Addresses by which the router reaches this system; if empty, the public ones of `wan`.
    pub addresses: Vec<IpAddr>,
    /// Interface to the Internet; if `None`, that of the default route.
    pub wan: Option<InterfaceName>,
    /// Port of SSH, which stays with this system where the other side owns the address.
    pub ssh: u16,
}

/// What was made.
#[derive(Debug)]
pub struct RemoteOutcome {
    /// What the other side needs.
    pub pairing: Pairing,
    /// What would be done, if it was only asked for that.
    pub shown: Option<String>,
    /// Whether anything had to be done.
    pub changed: bool,
    /// What the operator should know, a line each.
    pub notes: Vec<String>,
}

/// Makes this system the remote portal, or with `dry_run` tells how.
///
/// # Errors
///
/// What the system lacks or refuses; a first set-up that fails leaves nothing.
pub fn remote(place: &Place, asked: &RemoteOptions, dry_run: bool) -> Result<RemoteOutcome, SetupError> {
    check(place)?;
    let wan = wan(asked)?;
    let owned = system::addresses(Some(&wan))?;
    let mut notes = Vec::new();
    let endpoints = endpoints(asked, &wan, &owned, &mut notes)?;
    let known = Journal::load(place)?.and_then(|journal| journal.pairing?.parse::<Pairing>().ok());
    let pairing = match known {
        Some(known) => Pairing { endpoints, port: asked.port, manner: asked.manner, owned, ..known },
        None => fresh(place, asked, endpoints, owned)?,
    };
    let (role, role_options) = role(asked, &wan, &pairing.owned);
    let plan = Plan {
        place,
        side: "remote",
        config: config(place, &pairing, role, &role_options),
        roles: vec![(role, role_options)],
    };
    if dry_run {
        return Ok(RemoteOutcome { shown: Some(plan.show()?), pairing, changed: false, notes });
    }
    let mut journal = plan.journal()?;
    if journal.pairing.is_none() && !service::is_running(place)? {
        must_be_free(asked.port)?;
    }
    journal.pairing = Some(pairing.to_line().to_string());
    let applied = plan.apply(journal)?;
    notes.extend(applied.notes);
    notes.extend(firewalls(asked.port));
    if asked.manner != Manner::Nat {
        notes.push(format!(
            "all that comes in for the public address goes to the other side, but for UDP port {} and SSH on port {}; \
             try SSH from a second window before you close this one",
            asked.port, asked.ssh
        ));
    }
    Ok(RemoteOutcome { pairing, shown: None, changed: applied.changed, notes })
}

fn wan(asked: &RemoteOptions) -> Result<InterfaceName, SetupError> {
    if let Some(wan) = &asked.wan {
        return if system::has_interface(wan)? {
            Ok(wan.clone())
        } else {
            Err(SetupError::new(format!("there is no interface {wan}")))
        };
    }
    let first = system::default_routes()?.into_iter().next();
    first.map(|route| route.interface).ok_or_else(|| {
        SetupError::new("there is no default route; name the interface to the Internet with --wan")
    })
}

/// The addresses for the other side to call.
fn endpoints(
    asked: &RemoteOptions,
    wan: &InterfaceName,
    owned: &[IpAddr],
    notes: &mut Vec<String>,
) -> Result<Vec<IpAddr>, SetupError> {
    if !asked.addresses.is_empty() {
        return Ok(asked.addresses.clone());
    }
    let public: Vec<IpAddr> = owned.iter().copied().filter(system::is_public).collect();
    let private = owned.iter().find(|address| address.is_ipv4() && !system::is_public(address));
    match (public.is_empty(), private) {
        (true, Some(private)) => Err(SetupError::new(format!(
            "{wan} has a private address, {private}; name the one by which the world reaches this system with --address"
        ))),
        (true, None) => Err(SetupError::new(format!("{wan} has no public address; name one with --address"))),
        (false, Some(private)) if public.iter().all(IpAddr::is_ipv6) => {
            notes.push(format!(
                "{wan} has a private IPv4 address, {private}, so only links with IPv6 can reach this system; \
                 name its public one with --address"
            ));
            Ok(public)
        }
        (false, _) => Ok(public),
    }
}

/// A key, and addresses for the tunnel that nothing else here uses.
fn fresh(
    place: &Place,
    asked: &RemoteOptions,
    endpoints: Vec<IpAddr>,
    owned: Vec<IpAddr>,
) -> Result<Pairing, SetupError> {
    let mut bytes = Zeroizing::new([0; Key::LEN + 5]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| SetupError::new(format!("no random bytes from the system: {error}")))?;
    let (key, id) = bytes.split_at(Key::LEN);
    let mut key_bytes: [u8; Key::LEN] = std::array::from_fn(|index| key[index]);
    let key = Key::new(key_bytes);
    key_bytes.zeroize();
    let third = free_network(place, &system::addresses(None)?);
    // A unique local prefix (RFC 4193 §3.1): fd and 40 random bits.
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let v6 =
        |host| Ipv6Addr::new(word(0xfd, id[0]), word(id[1], id[2]), word(id[3], id[4]), 0, 0, 0, 0, host);
    let addresses = |host: u16| -> Result<Vec<Cidr>, SetupError> {
        [format!("10.77.{third}.{host}/24"), format!("{}/64", v6(host))]
            .iter()
            .map(|text| text.parse().map_err(SetupError::new))
            .collect()
    };
    Ok(Pairing {
        endpoints,
        port: asked.port,
        key,
        local: addresses(1)?,
        remote: addresses(2)?,
        manner: asked.manner,
        owned,
    })
}

/// The third byte of a network 10.77.x.0/24 that this system is not in, from the number of the interface on.
fn free_network(place: &Place, addresses: &[IpAddr]) -> u8 {
    let digits = place.interface.as_str().rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    let first: u8 = digits.parse().unwrap_or(0);
    let is_taken = |third: u8| {
        let within =
            |address: &IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[..3] == [10, 77, third]);
        addresses.iter().any(within)
    };
    (0..=u8::MAX).map(|step| first.wrapping_add(step)).find(|third| !is_taken(*third)).unwrap_or(first)
}

fn role(asked: &RemoteOptions, wan: &InterfaceName, owned: &[IpAddr]) -> (Role, Vec<String>) {
    let mut list = options("--wan", [wan]);
    if asked.manner == Manner::Nat {
        return (Role::RemoteNat, list);
    }
    list.extend(options("--port", [format!("udp/{}", asked.port)]));
    list.extend(options("--ssh", [asked.ssh]));
    list.extend(options("--address", owned));
    (Role::RemotePortal, list)
}

fn config(place: &Place, pairing: &Pairing, role: Role, role_options: &[String]) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "# Made by `netcombiner setup remote {interface}`; `netcombiner setup undo {interface}` takes it back.\n\
         [Host]\n\
         Key = {key}\n\
         Address = {addresses}\n\
         {hooks}\n\
         [Peer]\n\
         LocalPort = {port}\n",
        interface = place.interface,
        key = *pairing.key.to_base64(),
        addresses = addresses(&pairing.remote),
        hooks = place.hooks(role.name(), role_options),
        port = pairing.port,
    ))
}

/// The addresses of the interface, as the configuration has them.
pub(super) fn addresses(cidrs: &[Cidr]) -> String {
    let usable = cidrs.iter().filter(|cidr| cidr.address().is_ipv4() || system::has_ipv6());
    usable.map(Cidr::to_string).collect::<Vec<_>>().join(", ")
}

fn must_be_free(port: u16) -> Result<(), SetupError> {
    let bound = UdpSocket::bind(("0.0.0.0", port));
    bound
        .map(drop)
        .map_err(|error| SetupError::new(format!("UDP port {port}: {error}; choose another with --port")))
}

fn firewalls(port: u16) -> Vec<String> {
    let hooks = [("input", format!("let UDP port {port} in")), ("forward", "let it forward".to_owned())];
    let told = |(hook, what): (&str, String)| {
        let tables = system::strict_firewalls(hook);
        (!tables.is_empty()).then(|| {
            format!("a firewall here (table {}) drops what it does not know: {what}", tables.join(", "))
        })
    };
    hooks.into_iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::place;
    use super::*;
    use crate::config::Config;

    fn asked(manner: Manner) -> RemoteOptions {
        RemoteOptions { manner, port: 7000, addresses: Vec::new(), wan: None, ssh: 22 }
    }

    #[test]
    fn the_configuration_is_valid_in_every_manner() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path());
        let wan = "eth0".parse().expect("a name");
        let owned: Vec<IpAddr> = vec!["198.51.100.2".parse().expect("an address")];
        for manner in [Manner::Nat, Manner::LocalNat, Manner::Address] {
            let pairing = fresh(&place, &asked(manner), owned.clone(), owned.clone()).expect("made");
            let (role, list) = role(&asked(manner), &wan, &owned);
            let text = config(&place, &pairing, role, &list);
            let (config, warnings) = Config::parse("nc0", &text, dir.path()).expect(&text);
            assert_eq!(warnings, []);
            assert_eq!(config.host.protection.key(), Some(&pairing.key));
            assert!(config.host.hooks.post_up[0].contains(role.name()), "{:?}", config.host.hooks);
            assert_eq!(config.peers[0].local_port, 7000);
        }
    }

    #[test]
    fn networks_in_use_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path());
        let taken: Vec<IpAddr> =
            ["10.77.0.9", "10.77.1.1"].map(|text| text.parse().expect("an address")).into();
        assert_eq!(free_network(&place, &[]), 0);
        assert_eq!(free_network(&place, &taken), 2);
    }

    #[test]
    fn a_private_address_alone_is_no_end_point() {
        let wan = "eth0".parse().expect("a name");
        let addresses = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<IpAddr>>()
        };
        let mut notes = Vec::new();
        let error =
            endpoints(&asked(Manner::Nat), &wan, &addresses(&["10.0.0.5"]), &mut notes).expect_err("private");
        assert!(error.to_string().contains("--address"), "{error}");
        let both = endpoints(&asked(Manner::Nat), &wan, &addresses(&["10.0.0.5", "2001:db8::5"]), &mut notes);
        assert_eq!((both.expect("one").len(), notes.len()), (1, 1));
    }
}
