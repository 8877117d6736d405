//! Address translation on links, and its sudden changes.

use std::sync::PoisonError;

use anyhow::Result;

use super::address::{REMOTE_NETWORK, link_network};
use super::{Family, Lab};

impl Lab {
    /// Puts a link behind NAT, as mobile carriers do: the remote portal sees an address and a
    /// port of the Internet router in place of the local portal's. Called again, it forgets all
    /// mappings and gives new ones with another address and other ports; what still comes for an
    /// old one is silently dropped.
    pub fn rebind_nat(&self, link: usize) -> Result<()> {
        let times = {
            let mut nat = self.nat.lock().unwrap_or_else(PoisonError::into_inner);
            nat[link] += 1;
            nat[link]
        };
        // Two addresses for each link, from 10 on, by turns; ports that move with every change.
        let host = 10 + 2 * link as u8 + (times % 2) as u8;
        let ports = 20_000 + 1_000 * (times % 40);
        let last_port = ports + 999;
        let table = format!("nat{link}");
        let mut rules = String::new();
        for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            let address = REMOTE_NETWORK.host_with_length(family, host);
            let flags: &[&str] = if family == Family::V6 {
                &["nodad"]
            } else {
                &[]
            };
            let add = [
                &["addr", "replace", address.as_str(), "dev", "remote"],
                flags,
            ]
            .concat();
            self.internet.run("ip", &add)?;

            let from = link_network(link).prefix(family);
            let to = REMOTE_NETWORK.host(family, host);
            let to = if family == Family::V6 {
                format!("[{to}]")
            } else {
                to.to_string()
            };
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
}
