//! Whether this process may do what a portal must do.

use std::fs;

use nix::unistd::geteuid;

/// Number of `CAP_NET_ADMIN` (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// Whether the process may make network interfaces: on Linux by the capability, which a service
/// manager may give to another user than root, elsewhere by being root.
pub fn may_administer_network() -> bool {
    match fs::read_to_string("/proc/self/status").ok().as_deref().and_then(effective) {
        Some(capabilities) => capabilities >> CAP_NET_ADMIN & 1 == 1,
        None => geteuid().is_root(),
    }
}

/// The effective capabilities in `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        let status = "CapPrm:\t0000000000000000\nCapEff:\t0000000000001000\n";
        assert_eq!(effective(status), Some(1 << CAP_NET_ADMIN));
        assert_eq!(effective("Name:\tsh\n"), None);
    }
}
