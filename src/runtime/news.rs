//! The portal's events in words.

use crate::core::outbound::{Event, State};
use crate::core::units::LinkId;
use crate::journal::{Kind, Level, Notice};

/// What an operator is told of `event`.
pub(super) fn notice(event: &Event) -> Notice {
    let of_link = |level, kind, link: &LinkId, name: &str, text: &str| {
        Notice::of_link(level, kind, name, format!("link {} {name}: {text}", link.0 + 1))
    };
    let portal = |level, kind, text: &str| Notice::new(level, kind, text);
    match event {
        Event::Link { link, name, to, reason, handed_over, .. } => {
            let level = match to {
                State::Suspect | State::Down => Level::Warning,
                _ => Level::Info,
            };
            let why = reason.as_ref().map(|reason| format!(", {reason}")).unwrap_or_default();
            let text = format!("{}{why}{}", to.name(), again(*handed_over));
            of_link(level, Kind::Link, link, name, &text)
        }
        Event::Judged { link, name, reason: Some(reason) } => {
            of_link(Level::Warning, Kind::Quality, link, name, reason)
        }
        Event::Judged { link, name, reason: None } => {
            of_link(Level::Info, Kind::Quality, link, name, "loses little again, carries data")
        }
        Event::RunsGivenUp { link, name, reason } => {
            of_link(Level::Warning, Kind::Offload, link, name, &format!("GSO off: {reason}"))
        }
        Event::Moved { link, name, remote } => {
            let text = format!("the other portal is at {remote} now");
            of_link(Level::Info, Kind::Address, link, name, &text)
        }
        Event::PathMtu { link, name, from, to } => {
            of_link(Level::Info, Kind::PathMtu, link, name, &format!("path MTU {from} -> {to}"))
        }
        Event::Mtu { from, to } => {
            portal(Level::Info, Kind::Mtu, &format!("MTU {from} -> {to}: what the links carry"))
        }
        Event::LoadTest { ours, begun } => {
            let who = if *ours { "this" } else { "the other" };
            let what = if *begun { "begins" } else { "ended" };
            portal(
                Level::Info,
                Kind::LoadTest,
                &format!("a load test of the links that {who} portal makes {what}"),
            )
        }
        Event::Joined => portal(Level::Info, Kind::Session, "session with the other portal established"),
        Event::PeerClosed => portal(Level::Warning, Kind::Session, "session lost: the other portal stopped"),
        Event::Trouble(trouble) => portal(Level::Warning, Kind::Session, &format!("no session: {trouble}")),
    }
}

/// What became of the packets that a link had in flight.
fn again(packets: usize) -> String {
    match packets {
        0 => String::new(),
        1 => "; 1 packet sent again elsewhere".to_owned(),
        packets => format!("; {packets} packets sent again elsewhere"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_link_is_told_with_reason_and_what_became_of_its_packets() {
        let event = |to, reason: Option<&'static str>, handed_over| Event::Link {
            link: LinkId(1),
            name: "lte".into(),
            from: State::Up,
            to,
            reason: reason.map(Into::into),
            handed_over,
        };
        let lost = notice(&event(State::Down, Some("carrier lost on wwan0"), 312));
        let text = "link 2 lte: down, carrier lost on wwan0; 312 packets sent again elsewhere";
        assert_eq!(lost, Notice::of_link(Level::Warning, Kind::Link, "lte", text));
        let back = notice(&event(State::Up, None, 0));
        assert_eq!(back, Notice::of_link(Level::Info, Kind::Link, "lte", "link 2 lte: up"));
    }
}
