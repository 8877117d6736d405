//! What the sections must keep among each other.

use std::net::IpAddr;

use super::InterfaceName;
use super::diagnostic::Report;
use super::peer::Draft;

/// Reports every clash between the links, and each link that would run through the portal's own
/// interface, if that is known.
pub(super) fn links(drafts: &[Draft], own: Option<&InterfaceName>, report: &mut Report) {
    for (index, draft) in drafts.iter().enumerate() {
        let earlier = &drafts[..index];
        names(draft, earlier, report);
        endpoints(draft, earlier, report);
        own_interface(draft, own, report);
    }
}

fn own_interface(draft: &Draft, own: Option<&InterfaceName>, report: &mut Report) {
    let (Some(line), Some(own)) = (draft.interface_line, own) else {
        return;
    };
    if draft.peer.interface.as_ref() == Some(own) {
        let fault = format!(
            "Peer[{}].Interface invalid: {own} is the interface of this portal itself, its links \
             must run over others",
            draft.peer.section
        );
        report.error(line, fault);
    }
}

fn names(draft: &Draft, earlier: &[Draft], report: &mut Report) {
    let Some(other) = earlier.iter().find(|o| o.peer.name == draft.peer.name) else {
        return;
    };
    let (section, name) = (draft.peer.section, &draft.peer.name);
    let taken = format!(
        "{name} is the name of Peer[{}] on line {}",
        other.peer.section,
        other.name_line.unwrap_or(other.line)
    );
    match draft.name_line {
        Some(line) => report.error(line, format!("Peer[{section}].Name repeated: {taken}")),
        None => report.error(draft.line, format!("Peer[{section}].Name missing: by default {taken}")),
    }
}

fn endpoints(draft: &Draft, earlier: &[Draft], report: &mut Report) {
    let clashes = |other: &&Draft| {
        if draft.peer.initiates() { is_same_path(draft, other) } else { is_same_listener(draft, other) }
    };
    let comparable = |other: &&Draft| other.has_endpoints && draft.has_endpoints;
    let Some(other) = earlier.iter().filter(comparable).find(clashes) else {
        return;
    };
    let why = if draft.peer.initiates() {
        "has the same local and remote end points; two links need two paths"
    } else {
        "listens there already; one listening section accepts all links of the other portal"
    };
    report.error(
        draft.line,
        format!(
            "Peer[{}] repeated: Peer[{}] on line {} {why}",
            draft.peer.section, other.peer.section, other.line
        ),
    );
}

fn is_same_path(a: &Draft, b: &Draft) -> bool {
    let ends = |draft: &Draft| {
        let peer = &draft.peer;
        (peer.method, peer.local_address, peer.local_port)
    };
    ends(a) == ends(b) && a.peer.interface == b.peer.interface && a.peer.remote == b.peer.remote
}

/// The kernel's rule for two sockets that want one port: they clash unless they are bound to
/// different interfaces or to different addresses, where "any" is the same as each.
fn is_same_listener(a: &Draft, b: &Draft) -> bool {
    let (a, b) = (&a.peer, &b.peer);
    !a.initiates()
        && !b.initiates()
        && a.method == b.method
        && a.local_port == b.local_port
        && (a.interface.is_none() || b.interface.is_none() || a.interface == b.interface)
        && may_be_same(a.local_address, b.local_address)
}

fn may_be_same(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return true;
    };
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}
