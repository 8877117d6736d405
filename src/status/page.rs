//! The page for browsers, whole in one answer. What it shows is made here; its script draws graphs of the counters.

use std::fmt::{self, Display};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::calendar;
use crate::control::units::{duration, milliseconds, rate, volume};
use crate::control::{headline, quota, reason};
use crate::core::snapshot::{Link, Snapshot};
use crate::journal::Event;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What is not known.
const UNKNOWN: &str = "–";

/// The page. `events` come with the newest first.
pub(super) fn whole(snapshot: &Snapshot, events: &[Event]) -> String {
    PAGE.replace("{{interface}}", &Escaped(&snapshot.interface).to_string())
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{live}}", &live(snapshot, events))
}

/// The part of it that changes.
pub(super) fn live(snapshot: &Snapshot, events: &[Event]) -> String {
    let links: String = snapshot.links.iter().map(link).collect();
    let events: String = events.iter().map(event).collect();
    let name = Escaped(&snapshot.interface);
    format!(
        "<main id=\"live\" data-uptime=\"{uptime}\">\n\
         <header><h1>{name}</h1><p>{summary}</p></header>\n\
         <section class=\"total\" data-key=\"total\" data-sent=\"{sent}\" data-received=\"{received}\">{totals}<div class=\"graph\" data-key=\"total\"></div></section>\n\
         <section><table>\n<thead><tr><th scope=\"col\">Link</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Sending</th><th scope=\"col\">Receiving</th><th scope=\"col\">Capacity up</th>\
         <th scope=\"col\">Round trip</th><th scope=\"col\">Lost</th><th scope=\"col\">Share</th>\
         <th scope=\"col\">Repairs</th></tr></thead>\n{links}</table></section>\n\
         <section><h2>Events</h2><ol tabindex=\"0\" aria-label=\"Events\">{events}</ol></section>\n\
         <footer>Netcombiner {version}, running for {running}</footer>\n</main>\n",
        uptime = snapshot.uptime_seconds,
        summary = Escaped(&unbroken(&summary(snapshot))),
        sent = snapshot.traffic.sent_bytes,
        received = snapshot.traffic.received_bytes,
        totals = totals(snapshot),
        version = Escaped(&snapshot.version),
        running = duration(snapshot.uptime_seconds),
    )
}

/// What a browser may do with the page: run its script, use its style, ask this portal; nothing else.
pub(super) fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
        format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        )
    });
    &POLICY
}

fn totals(snapshot: &Snapshot) -> String {
    let session = &snapshot.session;
    let state = if session.state == "established" { "up" } else { session.state.as_str() };
    let held = snapshot.resequencer.hold_p95_ms;
    format!(
        "<dl><div><dt>Receiving</dt><dd class=\"rate received\">{received}</dd></div>\
         <div><dt>Sending</dt><dd class=\"rate sent\">{sent}</dd></div>\
         <div><dt>Session</dt><dd class=\"{state}\">{session_state}</dd></div>\
         <div><dt>Wait in the queue</dt><dd>{queued}</dd></div>\
         <div><dt>Wait for the turn</dt><dd>{held}</dd></div>\
         <div><dt>MTU</dt><dd>{mtu}</dd></div></dl>",
        received = rate(snapshot.traffic.receive_rate_bps),
        sent = rate(snapshot.traffic.send_rate_bps),
        state = Escaped(state),
        session_state = Escaped(&session.state),
        queued = or_unknown(snapshot.queue.sojourn_p95_ms, milliseconds),
        held = or_unknown(held, milliseconds),
        mtu = snapshot.mtu,
    )
}

fn link(link: &Link) -> String {
    let carrier = match &link.interface {
        Some(interface) => format!("{interface}, {}", link.method.to_uppercase()),
        None => link.method.to_uppercase(),
    };
    let percent =
        |share: Option<f64>| or_unknown(share.map(|share| 1e2 * share), |share| format!("{share:.0} %"));
    let key = format!("{} {}", link.number, link.name);
    let name = Escaped(&link.name);
    let cells = [
        ("Sending", "rate sent", rate(link.send_rate_bps)),
        ("Receiving", "rate received", rate(link.receive_rate_bps)),
        ("Capacity up", "", or_unknown(link.bandwidth_bps, rate)),
        ("Round trip", "", round_trip(link)),
        ("Lost", "", or_unknown(link.loss_share, |lost| format!("{:.1} %", 1e2 * lost))),
        ("Share", "", format!("{} / {}", percent(link.sent_share), percent(link.received_share))),
        ("Repairs", "", (link.repairs_sent_packets + link.repairs_caused_packets).to_string()),
    ];
    let cell = |(label, class, value): (&str, &str, String)| {
        format!("<td data-label=\"{label}\" class=\"{class}\">{}</td>", unbroken(&value))
    };
    let cells: String = cells.into_iter().map(cell).collect();
    format!(
        "<tbody data-key=\"{key}\" data-sent=\"{sent}\" data-received=\"{received}\">\
         <tr><th scope=\"row\">{name}<small>{carrier}</small></th>\
         <td class=\"state {state}\">{state}</td>{cells}</tr>\n\
         <tr class=\"more\"><td colspan=\"9\"><div class=\"graph\" data-key=\"{key}\"></div>\
         <p class=\"why\">{why}</p></td></tr></tbody>\n",
        key = Escaped(&key),
        sent = link.wire_sent_bytes,
        received = link.wire_received_bytes,
        carrier = Escaped(&carrier),
        state = Escaped(&link.state),
        why = Escaped(&unbroken(&why(link))),
    )
}

/// The state of the bond in words, without the interface's name and in one line.
fn summary(snapshot: &Snapshot) -> String {
    let words = headline(snapshot);
    let words: Vec<&str> = words.split_whitespace().skip(1).collect();
    words.join(" ")
}

/// The round-trip time, and how much of it is waiting.
fn round_trip(link: &Link) -> String {
    match (link.srtt_ms, link.min_rtt_ms) {
        (Some(srtt), Some(min)) => format!("{} (min\u{a0}{min:.0})", milliseconds(srtt)),
        _ => UNKNOWN.to_owned(),
    }
}

/// What keeps the link from carrying more, and what else is to be known of it.
fn why(link: &Link) -> String {
    let (sent, received) = (volume(link.wire_sent_bytes), volume(link.wire_received_bytes));
    let mut parts = vec![reason(link).unwrap_or("carries what it can".to_owned())];
    parts.extend(link.changed.iter().map(|change| format!("changed: {change}")));
    parts.extend(quota(link).map(|quota| format!("quota: {quota}")));
    parts.push(format!("{} for {}", link.state, duration(link.since_seconds)));
    parts.push(format!("sent {sent}, received {received}"));
    parts.join(" · ")
}

fn event(event: &Event) -> String {
    let when = calendar::time(event.unix_ms);
    let (text, machine) = (Escaped(&event.text), when.replace(' ', "T"));
    format!("<li><time datetime=\"{machine}Z\">{when} UTC</time><span>{text}</span></li>")
}

/// A number stays on one line with its unit.
fn unbroken(text: &str) -> String {
    let mut after_digit = false;
    let joined = text.chars().map(|character| {
        let space = character == ' ' && after_digit;
        after_digit = character.is_ascii_digit();
        if space { '\u{a0}' } else { character }
    });
    joined.collect()
}

fn or_unknown(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or(UNKNOWN.to_owned(), shown)
}

/// Text within HTML, in elements and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => fmt::Write::write_char(f, other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{event, snapshot};
    use super::*;

    fn page() -> String {
        whole(&snapshot(), &[event()])
    }

    #[test]
    fn what_show_tells_stands_in_a_table() {
        let page = page();
        for found in [
            "<h1>nc0</h1>",
            "<th scope=\"row\">dsl",
            ">23.1\u{a0}ms (min\u{a0}20)<",
            ">14.5\u{a0}Mbit/s<",
            ">1.0\u{a0}%<",
        ] {
            assert!(page.contains(found), "{found} is not in\n{page}");
        }
        assert!(page.contains("sent 1.20\u{a0}MB, received"), "{page}");
        assert!(page.contains("<time datetime=\"2026-11-21T11:47:19Z\">"), "{page}");
        assert!(page.contains("312 packets sent again elsewhere"), "{page}");
    }

    #[test]
    fn it_needs_nothing_from_elsewhere() {
        let page = page().replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "@import", "url(", "{{"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_policy_allows_what_is_in_the_page() {
        let inside = |page: &str, tag: &str| {
            let (_, rest) = page.split_once(&format!("<{tag}>")).expect(tag);
            let (text, _) = rest.split_once(&format!("</{tag}>")).expect(tag);
            format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
        };
        let page = page();
        assert!(policy().contains(&format!("script-src {}", inside(&page, "script"))), "{}", policy());
        assert!(policy().contains(&format!("style-src {}", inside(&page, "style"))), "{}", policy());
        assert!(!page.contains("style=") && !page.contains("onclick"), "inline styles are refused");
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let mut snapshot = snapshot();
        snapshot.links[0].name = "<script>\"'&".into();
        snapshot.links[0].reason = Some("<img src=x>".into());
        snapshot.session.trouble = Some("<b>".into());
        let page = live(&snapshot, &[Event { text: "<i>".into(), ..event() }]);
        for tag in ["<script", "<img", "<b>", "<i>"] {
            assert!(!page.contains(tag), "{tag} in {page}");
        }
        assert!(page.contains("&lt;script&gt;&quot;&#39;&amp;"), "{page}");
    }
}
