//! What happens to links in the field: interfaces go down, addresses change, NAT forgets.

use std::sync::{MutexGuard, PoisonError};

use anyhow::Result;

use super::address::{REMOTE_NETWORK, link_mac, link_network};
use super::{Family, Lab};

/// How often a link was changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    /// Its NAT was set up; 0 is never.
    nat: u32,
    /// The local portal got another address.
    address: u32,
}

impl Lab {
    /// Takes a link's interface on the local portal down, as its administrator would. The kernel
    /// forgets its routes; [`interface_up`](Self::interface_up) brings them back.
    pub fn interface_down(&self, link: usize) -> Result<()> {
        self.local.ip(&format!("link set {} down", Self::wan_interface(link)))
    }

    /// Takes a link's interface up again, with addresses and routes.
    pub fn interface_up(&self, link: usize) -> Result<()> {
        self.local.ip(&format!("link set {} up", Self::wan_interface(link)))?;
        self.add_link_routes(link)
    }

    /// Gives the local portal other addresses on a link in place of the ones it has, as a new
    /// lease does. Sockets bound to an old one send no more.
    pub fn change_address(&self, link: usize) -> Result<()> {
        let old = self.host_on(link);
        self.changes()[link].address += 1;
        let new = self.host_on(link);
        let network = link_network(link);
        let (interface, table) = (Self::wan_interface(link), (100 + link).to_string());
        for family in Family::BOTH {
            let (from, to) = (network.host(family, old), network.host(family, new));
            self.internet.ip(&format!(
                "neigh replace {to} lladdr {} dev link{link} nud permanent\n",
                link_mac(link, 2)
            ))?;
            let nodad = if family == Family::V6 { " nodad" } else { "" };
            self.local.ip(&format!(
                "addr add {} dev {interface}{nodad}\naddr del {} dev {interface}\n",
                network.host_with_length(family, new),
                network.host_with_length(family, old)
            ))?;
            for (action, address) in [("del", from), ("add", to)] {
                let address = address.to_string();
                let flag = family.ip_flag();
                let rule = [flag, "rule", action, "from", &address, "lookup", &table];
                self.local.run("ip", &rule)?;
            }
        }
        // Routes may have gone with the old address.
        self.add_link_routes(link)
    }

    /// The local portal's host number on a link: 2, after the first change 3, and in turns.
    pub(super) fn host_on(&self, link: usize) -> u8 {
        2 + (self.changes()[link].address % 2) as u8
    }

    /// Puts a link behind NAT, as mobile carriers do: the remote portal sees an address and a
    /// port of the Internet router in place of the local portal's. Called again, it forgets all
    /// mappings and gives new ones with another address and other ports; what still comes for an
    /// old one is silently dropped.
    pub fn rebind_nat(&self, link: usize) -> Result<()> {
        let times = {
            let mut changes = self.changes();
            changes[link].nat += 1;
            changes[link].nat
        };
        // Two addresses for each link, from 10 on, by turns; ports that move with every change.
        let host = 10 + 2 * link as u8 + (times % 2) as u8;
        let ports = 20_000 + 1_000 * (times % 40);
        let last_port = ports + 999;
        let table = format!("nat{link}");
        let mut rules = String::new();
        for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            let address = REMOTE_NETWORK.host_with_length(family, host);
            let flags: &[&str] = if family == Family::V6 { &["nodad"] } else { &[] };
            let add = [&["addr", "replace", address.as_str(), "dev", "remote"], flags].concat();
            self.internet.run("ip", &add)?;

            let from = link_network(link).prefix(family);
            let to = REMOTE_NETWORK.host(family, host);
            let to = if family == Family::V6 { format!("[{to}]") } else { to.to_string() };
            rules += &format!(
                "{word} saddr {from} oifname remote meta l4proto {{ tcp, udp }} \
                 snat {word} to {to}:{ports}-{last_port}\n"
            );
        }
        let text = format!(
            "table inet {table} {{}}\n\
             delete table inet {table}\n\
             table inet {table} {{\n\
               chain postrouting {{\n\
                 type nat hook postrouting priority srcnat\n\
                 {rules}\
               }}\n\
               chain input {{\n\
                 type filter hook input priority filter\n\
                 iifname remote meta l4proto {{ tcp, udp }} drop\n\
               }}\n\
             }}\n"
        );
        self.internet.run_with_input("nft", &["-f", "-"], &text)?;
        for family in Family::BOTH {
            let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
            let address = self.local_address(link, family).to_string();
            let mut delete = self.internet.quiet_command("conntrack");
            // It fails when there was no mapping, which is as good.
            let _ = delete.args(["-D", "-f", name, "-s", &address]).output();
        }
        Ok(())
    }

    fn changes(&self) -> MutexGuard<'_, Vec<Changes>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
