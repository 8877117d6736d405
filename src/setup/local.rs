//! The side at home.

use std::net::IpAddr;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::pairing::{Manner, Pairing};
use super::plan::Plan;
use super::remote::addresses;
use super::{Place, SetupError, check, options, system};
use crate::config::{InterfaceName, MAX_PEERS, Network};
use crate::control;
use crate::process::routes::Role;

/// How long the links may take before it is told which of them are not up.
const LINKS_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks at them.
const LINKS_POLL: Duration = Duration::from_millis(100);

/// What the command line says.
#[derive(Debug)]
pub struct LocalOptions {
    /// What the other side printed.
    pub pairing: Pairing,
    /// Interfaces to the LAN.
    pub lans: Vec<InterfaceName>,
    /// The links; if empty, the interfaces with a default route.
    pub links: Vec<LinkRoute>,
    /// Whether all that this system sends goes into the tunnel.
    pub route_all: bool,
    /// What of this system and of the LAN goes into the tunnel, if not all.
    pub routes: Vec<Network>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
}

/// An interface of a link; with gateways, it gets a routing table of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRoute {
    /// The interface.
    pub interface: InterfaceName,
    /// One for each family at most.
    pub gateways: Vec<IpAddr>,
}

impl FromStr for LinkRoute {
    type Err = String;

    /// Reads `INTERFACE[,GATEWAY]...`.
    fn from_str(text: &str) -> Result<LinkRoute, String> {
        let mut words = text.split(',');
        let interface = words.next().unwrap_or("").parse()?;
        let gateways =
            words.map(|word| word.parse().map_err(|_| format!("{word} is not an address of a gateway")));
        Ok(LinkRoute { interface, gateways: gateways.collect::<Result<_, _>>()? })
    }
}

/// One link of the portal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// Its name in the configuration.
    pub name: String,
    /// The interface that it is bound to.
    pub interface: String,
    /// The address that it calls.
    pub remote: IpAddr,
    /// `up`, or what it is instead; `None` if the portal was not asked.
    pub state: Option<String>,
}

/// What was made.
#[derive(Debug)]
pub struct LocalOutcome {
    /// The links.
    pub links: Vec<Link>,
    /// What would be done, if it was only asked for that.
    pub shown: Option<String>,
    /// Whether anything had to be done.
    pub changed: bool,
    /// What the operator should know, a line each.
    pub notes: Vec<String>,
}

/// Makes this system the local portal, or with `dry_run` tells how.
///
/// # Errors
///
/// What the system lacks or refuses; a first set-up that fails leaves nothing.
pub fn local(place: &Place, asked: &LocalOptions, dry_run: bool) -> Result<LocalOutcome, SetupError> {
    check(place)?;
    consistent(asked)?;
    for name in asked.lans.iter().chain(asked.links.iter().map(|link| &link.interface)) {
        if !system::has_interface(name)? {
            return Err(SetupError::new(format!("there is no interface {name}")));
        }
    }
    let mut notes = Vec::new();
    let mut links = links(place, asked, &system::default_routes()?, &mut notes)?;
    let roles = roles(asked, &links);
    let plan = Plan {
        place,
        side: "local",
        config: config(place, asked, &links, &roles),
        roles: shown_roles(asked, &links, roles),
    };
    if dry_run {
        return Ok(LocalOutcome { shown: Some(plan.show()?), links, changed: false, notes });
    }
    let applied = plan.apply(plan.journal()?)?;
    notes.extend(applied.notes);
    ask_links(place, &mut links);
    if links.iter().all(|link| link.state.as_deref() != Some("up")) {
        let port = asked.pairing.port;
        notes.push(format!(
            "nobody answers yet: does the remote portal run, and does its provider let UDP port {port} in?"
        ));
    }
    if asked.lans.is_empty() && !asked.route_all && asked.routes.is_empty() {
        notes.push(
            "nothing is led into the tunnel; --lan, --route-all or --route choose what should be".to_owned(),
        );
    }
    Ok(LocalOutcome { links, shown: None, changed: applied.changed, notes })
}

fn consistent(asked: &LocalOptions) -> Result<(), SetupError> {
    let leads = asked.route_all || !asked.routes.is_empty();
    match asked.pairing.manner {
        Manner::Address if asked.lans.len() != 1 => Err(SetupError::new(
            "a host of the LAN owns the remote portal's address: name that LAN with --lan",
        )),
        Manner::Address if leads => Err(SetupError::new(
            "a host of the LAN owns the remote portal's address, so nothing else can use the tunnel: leave --route-all \
             and --route out",
        )),
        Manner::LocalNat if asked.lans.is_empty() => {
            Err(SetupError::new("this portal translates for the LAN: name that with --lan"))
        }
        _ => Ok(()),
    }
}

/// The interfaces with a default route, or those that are asked for, and what each of them calls.
fn links(
    place: &Place,
    asked: &LocalOptions,
    routes: &[system::DefaultRoute],
    notes: &mut Vec<String>,
) -> Result<Vec<Link>, SetupError> {
    let families = |name: &InterfaceName| -> Vec<bool> {
        let given = asked.links.iter().find(|link| link.interface == *name);
        let gateways = given.into_iter().flat_map(|link| link.gateways.iter().map(IpAddr::is_ipv4));
        let found = routes.iter().filter(|route| route.interface == *name).map(|route| route.is_ipv4);
        gateways.chain(found).collect()
    };
    let mut names: Vec<InterfaceName> = Vec::new();
    if asked.links.is_empty() {
        for route in routes {
            let own = route.interface == place.interface || asked.lans.contains(&route.interface);
            if !own && !names.contains(&route.interface) {
                names.push(route.interface.clone());
            }
        }
    } else {
        names.extend(asked.links.iter().map(|link| link.interface.clone()));
    }
    let mut links = Vec::new();
    for name in names {
        let families = families(&name);
        match asked.pairing.endpoints.iter().find(|endpoint| families.contains(&endpoint.is_ipv4())) {
            Some(remote) => links.push(Link {
                name: name.as_str().replace(['=', '+'], "_"),
                interface: name.to_string(),
                remote: *remote,
                state: None,
            }),
            None => {
                notes.push(format!("{name} has no way to the remote portal's address, so it is left out"))
            }
        }
    }
    if links.is_empty() {
        return Err(SetupError::new(
            "no interface has a default route to the remote portal's address; name each link with --link \
             INTERFACE,GATEWAY",
        ));
    }
    if links.len() > MAX_PEERS {
        return Err(SetupError::new(format!("max {MAX_PEERS} links; choose with --link")));
    }
    if links.len() == 1 {
        notes.push(format!(
            "only {} has a default route: one link is no bond; see --link",
            links[0].interface
        ));
    }
    Ok(links)
}

/// The role that the hooks call, if there is one.
fn roles(asked: &LocalOptions, links: &[Link]) -> Option<(Role, Vec<String>)> {
    let (role, mut list) = match asked.pairing.manner {
        Manner::Address => {
            let mut list = options("--lan", &asked.lans);
            list.extend(options("--address", &asked.pairing.owned));
            (Role::LocalPortal, list)
        }
        manner => {
            let mut list = options("--lan", &asked.lans);
            if manner == Manner::LocalNat {
                list.extend(options("--snat", first_of_each_family(&asked.pairing.owned)));
            }
            if !asked.routes.is_empty() || asked.lans.is_empty() {
                list.push("--no-lead".to_owned());
            }
            (Role::LocalNat, list)
        }
    };
    let tables = asked.links.iter().filter(|link| !link.gateways.is_empty());
    list.extend(tables.clone().map(|link| {
        let gateways: String = link.gateways.iter().map(|gateway| format!(",{gateway}")).collect();
        format!("--link {}{gateways}", link.interface)
    }));
    if asked.lans.is_empty() && tables.clone().next().is_none() {
        return None;
    }
    let follows = |link: &&Link| tables.clone().all(|table| table.interface.as_str() != link.interface);
    list.extend(options("--wan", links.iter().filter(follows).map(|link| &link.interface)));
    Some((role, list))
}

fn first_of_each_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = |is_ipv4| addresses.iter().copied().find(|address| address.is_ipv4() == is_ipv4);
    [first(true), first(false)].into_iter().flatten().collect()
}

/// What the portal calls by itself for `Table` and `DNS`, and what its hooks call.
fn shown_roles(
    asked: &LocalOptions,
    links: &[Link],
    hooks: Option<(Role, Vec<String>)>,
) -> Vec<(Role, Vec<String>)> {
    let mut table = options("--route", &asked.routes);
    table.extend(options("--dns", &asked.dns));
    if asked.route_all || !asked.routes.is_empty() {
        table.extend(options("--wan", links.iter().map(|link| &link.interface)));
    } else if !table.is_empty() {
        table.push("--no-lead".to_owned());
    } else {
        return hooks.into_iter().collect();
    }
    std::iter::once((Role::Table, table)).chain(hooks).collect()
}

fn config(
    place: &Place,
    asked: &LocalOptions,
    links: &[Link],
    role: &Option<(Role, Vec<String>)>,
) -> Zeroizing<String> {
    let pairing = &asked.pairing;
    let interface = &place.interface;
    let mut text = Zeroizing::new(format!(
        "# Made by `netcombiner setup local {interface}`; `netcombiner setup undo {interface}` takes it back.\n\
         [Host]\n\
         Key = {}\n\
         Address = {}\n",
        *pairing.key.to_base64(),
        addresses(&pairing.local),
    ));
    if asked.route_all || !asked.routes.is_empty() {
        text.push_str("Table = auto\n");
    }
    let lines = asked.routes.iter().map(|network| format!("Route = {network}\n"));
    let servers = asked.dns.iter().map(|server| format!("DNS = {server}\n"));
    lines.chain(servers).for_each(|line| text.push_str(&line));
    if let Some((role, options)) = role {
        text.push_str(&place.hooks(role.name(), options));
    }
    for link in links {
        text.push_str(&format!(
            "\n[Peer]\nName = {}\nInterface = {}\nRemoteHost = {}\nRemotePort = {}\n",
            link.name, link.interface, link.remote, pairing.port
        ));
    }
    text
}

/// Waits for the links to come up, and says what became of them.
fn ask_links(place: &Place, links: &mut [Link]) {
    let asked = Instant::now();
    let socket = place.run_dir.socket(&place.interface);
    loop {
        if let Ok(snapshot) = control::show(&socket) {
            for link in links.iter_mut() {
                let shown = snapshot.links.iter().find(|shown| shown.name == link.name);
                link.state = shown.map(|shown| shown.state.clone());
            }
        }
        let all_up = links.iter().all(|link| link.state.as_deref() == Some("up"));
        if all_up || asked.elapsed() > LINKS_TIMEOUT {
            return;
        }
        thread::sleep(LINKS_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairing::tests::pairing;
    use super::super::tests::place;
    use super::*;
    use crate::config::{Config, Table};

    fn asked(manner: Manner, lans: &[&str]) -> LocalOptions {
        LocalOptions {
            pairing: pairing(manner),
            lans: lans.iter().map(|name| name.parse().expect("a name")).collect(),
            links: Vec::new(),
            route_all: false,
            routes: Vec::new(),
            dns: Vec::new(),
        }
    }

    fn routes(names: &[(&str, bool)]) -> Vec<system::DefaultRoute> {
        let route = |(name, is_ipv4): &(&str, bool)| system::DefaultRoute {
            interface: name.parse().expect("a name"),
            is_ipv4: *is_ipv4,
        };
        names.iter().map(route).collect()
    }

    #[test]
    fn each_interface_with_a_default_route_is_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (place, mut notes) = (place(dir.path()), Vec::new());
        let found =
            routes(&[("wan0", true), ("lan0", true), ("nc0", true), ("wan0", false), ("wwan0", false)]);
        let links = links(&place, &asked(Manner::Nat, &["lan0"]), &found, &mut notes).expect("two links");
        let told: Vec<String> =
            links.iter().map(|link| format!("{} {}", link.interface, link.remote)).collect();
        assert_eq!(told, ["wan0 198.51.100.2", "wwan0 2001:db8:51::2"]);
        assert_eq!(notes, [""; 0]);

        let mut only_v4 = asked(Manner::Nat, &[]);
        only_v4.pairing.endpoints.truncate(1);
        let one = super::links(&place, &only_v4, &found[3..], &mut notes).expect_err("no way");
        assert!(one.to_string().contains("--link"), "{one}");
    }

    #[test]
    fn the_configuration_is_valid_in_every_manner() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = place(dir.path());
        for (manner, lans, route, expected) in [
            (Manner::Nat, ["lan0"].as_slice(), "", "local-nat up %i --lan lan0 --wan wan0 --wan wan1"),
            (Manner::Nat, &["lan0"], "10.0.0.0/8", "local-nat up %i --lan lan0 --no-lead"),
            (Manner::LocalNat, &["lan0"], "", "local-nat up %i --lan lan0 --snat 198.51.100.2"),
            (Manner::Address, &["lan0"], "", "local-portal up %i --lan lan0 --address 198.51.100.2"),
            (Manner::Nat, &[], "0.0.0.0/0", ""),
        ] {
            let mut asked = asked(manner, lans);
            asked.routes.extend(route.parse::<Network>().ok());
            consistent(&asked).expect("consistent");
            let found = routes(&[("wan0", true), ("wan1", true)]);
            let links = links(&place, &asked, &found, &mut Vec::new()).expect("links");
            let text = config(&place, &asked, &links, &roles(&asked, &links));
            let (config, _) = Config::parse("nc0", &text, dir.path()).expect(&text);
            assert_eq!(config.peers.len(), 2);
            assert_eq!(config.host.routing.table, if route.is_empty() { Table::Off } else { Table::Auto });
            let hook = config.host.hooks.post_up.first().cloned().unwrap_or_default();
            assert!(hook.contains(expected) && hook.is_empty() == expected.is_empty(), "{hook}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(consistent(&asked(Manner::Address, &[])).is_err());
        assert!(consistent(&asked(Manner::LocalNat, &[])).is_err());
        let all = LocalOptions { route_all: true, ..asked(Manner::Address, &["lan0"]) };
        assert!(consistent(&all).is_err());
    }

    #[test]
    fn links_are_read() {
        let link: LinkRoute = "wan1,192.168.2.1,2001:db8::1".parse().expect("a link");
        assert_eq!((link.interface.as_str(), link.gateways.len()), ("wan1", 2));
        assert!("wan1,nobody".parse::<LinkRoute>().is_err());
    }
}
