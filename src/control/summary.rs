//! How the bond is, for people: a line for all of it, and one for each link.

use super::COLUMNS;
use super::units::{duration, milliseconds, rate, volume};
use crate::calendar;
use crate::core::snapshot::{Link, Snapshot};
use crate::journal::Event;

/// Widest name of a link that is not cut.
const NAME: usize = 18;

/// The bond in one line, then each link in a table with the reason why it carries no more. At most 80 columns, each
/// line with its newline; with `colours`, for a terminal.
pub fn summary(snapshot: &Snapshot, colours: bool) -> String {
    let paint = Paint(colours);
    let mut text = headline(snapshot);
    if snapshot.links.is_empty() {
        return text;
    }
    let head = row(&["", "LINK", "STATE", "UP", "DOWN", "RTT", "LOSS", "SHARE"].map(str::to_owned));
    text.extend(["\n", &paint.faint(&head), "\n"]);
    for link in &snapshot.links {
        text.extend([paint.state(link, &row(&cells(link))), "\n".to_owned()]);
        let notes =
            reason(link).into_iter().chain(link.changed.iter().map(|change| format!("changed: {change}")));
        for note in notes.chain(quota(link).map(|quota| format!("quota: {quota}"))) {
            text.push_str(&wrapped("     ", &note, |line| paint.faint(line)));
        }
    }
    text
}

/// The bond in words, such as `nc0: bonded, 2 of 3 links carry, 94.1 Mbit/s up, 3.20 Mbit/s down, session 3 h 12 min`;
/// with its newline.
pub fn headline(snapshot: &Snapshot) -> String {
    let mut parts = vec![bond(snapshot)];
    if let Some(since) = session(snapshot) {
        let traffic = &snapshot.traffic;
        parts.push(format!("{} up", rate(traffic.send_rate_bps)));
        parts.push(format!("{} down", rate(traffic.receive_rate_bps)));
        parts.push(since);
    }
    // What belongs together stays on a line.
    let words = parts.iter().map(|part| part.replace(' ', "\u{a0}")).collect::<Vec<_>>().join(", ");
    wrapped("", &format!("{}: {words}", snapshot.interface), |line| line.replace('\u{a0}', " "))
}

/// `bonded, 2 of 3 links carry`: how the bond is.
pub fn bond(snapshot: &Snapshot) -> String {
    let (all, carrying) = (snapshot.links.len(), snapshot.links.iter().filter(|link| link.carries).count());
    match (session(snapshot), carrying) {
        (None, _) => {
            let trouble = snapshot.session.trouble.as_deref();
            format!("not connected, {}", trouble.unwrap_or("waiting for the other portal"))
        }
        (_, 0) => "no link carries anything".to_owned(),
        (_, 1) => format!("connected, 1 of {all} {} carries", if all == 1 { "link" } else { "links" }),
        _ => format!("bonded, {carrying} of {all} links carry"),
    }
}

/// `session 3 h 12 min`, if there is one.
pub fn session(snapshot: &Snapshot) -> Option<String> {
    let session = &snapshot.session;
    (session.state == "established").then(|| format!("session {}", duration(session.since_seconds)))
}

/// An event as a line: when, by UTC, and what; with its newline.
pub fn event_line(event: &Event) -> String {
    format!("{} {}\n", calendar::time(event.unix_ms), event.text)
}

/// `standby: metric 10 behind metric 0`: what keeps it from carrying more.
pub fn reason(link: &Link) -> Option<String> {
    match (&link.limit, &link.reason) {
        (Some(limit), Some(reason)) => Some(format!("{limit}: {reason}")),
        (limit, reason) => limit.clone().or_else(|| reason.clone()),
    }
}

/// `12.0 GB of 50.0 GB used since 2026-11-01`.
pub fn quota(link: &Link) -> Option<String> {
    let quota = link.quota.as_ref()?;
    let since = quota.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    Some(format!("{} of {} used{since}", volume(quota.used_bytes), volume(quota.limit_bytes)))
}

fn cells(link: &Link) -> [String; 8] {
    let name = match link.name.char_indices().nth(NAME) {
        Some(_) => link.name.chars().take(NAME - 1).chain(['…']).collect(),
        None => link.name.clone(),
    };
    // A section that listens and has no link has no number.
    let number = if link.number == 0 { String::new() } else { link.number.to_string() };
    let percent = |share: Option<f64>, decimals: usize| {
        share.map_or("-".to_owned(), |share| format!("{:.decimals$} %", share * 100.0))
    };
    [
        number,
        name,
        link.state.clone(),
        rate(link.send_rate_bps),
        rate(link.receive_rate_bps),
        link.srtt_ms.map_or("-".to_owned(), milliseconds),
        percent(link.loss_share, 1),
        percent(link.sent_share, 0),
    ]
}

fn row([number, name, state, up, down, rtt, loss, share]: &[String; 8]) -> String {
    format!("{number:>3}  {name:<NAME$} {state:<7} {up:>11} {down:>11} {rtt:>7} {loss:>6} {share:>6}")
}

/// A line that is continued on further ones, each after `indent`, where it gets too long.
fn wrapped(indent: &str, words: &str, paint: impl Fn(&str) -> String) -> String {
    let lines = folded(words, COLUMNS - indent.len(), "  ");
    lines.iter().map(|line| paint(&format!("{indent}{line}")) + "\n").collect()
}

/// Words in lines of at most so many characters, longer words aside; each line but the first begins with `indent`.
pub fn folded(words: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.extend([" ", word]);
            }
            Some(_) => lines.push(format!("{indent}{word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Colours of a terminal (ECMA-48 SGR), or none.
struct Paint(bool);

impl Paint {
    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    /// Green for what carries, red for what is lost, yellow for what is neither.
    fn state(&self, link: &Link, text: &str) -> String {
        let code = match link.state.as_str() {
            "up" if link.carries => "32",
            "down" => "31",
            _ => "33",
        };
        self.with(code, text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::{Quota, Session, Traffic};

    fn snapshot() -> Snapshot {
        let link = |number, name: &str| Link {
            number,
            name: name.into(),
            state: "up".into(),
            carries: true,
            send_rate_bps: 62_300_000.0,
            receive_rate_bps: 2_110_000.0,
            srtt_ms: Some(23.14),
            loss_share: Some(0.0012),
            sent_share: Some(0.655),
            ..Link::default()
        };
        let lte = Link {
            changed: vec!["metric 0, the file says 10".into()],
            quota: Some(Quota {
                used_bytes: 12_000_000_000,
                limit_bytes: 50_000_000_000,
                since: Some("2026-11-01".into()),
                ..Quota::default()
            }),
            ..link(2, "lte")
        };
        let lost = Link {
            state: "down".into(),
            carries: false,
            limit: Some("down".into()),
            reason: Some(
                "carrier lost on a-very-long-interface; it flaps, so it must be good for 16 s to return"
                    .into(),
            ),
            srtt_ms: None,
            loss_share: None,
            sent_share: None,
            send_rate_bps: 0.0,
            receive_rate_bps: 0.0,
            ..link(3, "satellite-with-a-long-name")
        };
        Snapshot {
            interface: "nc0".into(),
            session: Session { state: "established".into(), since_seconds: 11_520.0, ..Session::default() },
            traffic: Traffic {
                send_rate_bps: 94_100_000.0,
                receive_rate_bps: 3_200_000.0,
                ..Traffic::default()
            },
            links: vec![link(1, "dsl"), lte, lost],
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_state_of_the_bond_comes_first_then_a_line_a_link() {
        let expected = "\
nc0: bonded, 2 of 3 links carry, 94.1 Mbit/s up, 3.20 Mbit/s down,
  session 3 h 12 min

     LINK               STATE            UP        DOWN     RTT   LOSS  SHARE
  1  dsl                up      62.3 Mbit/s 2.11 Mbit/s 23.1 ms  0.1 %   66 %
  2  lte                up      62.3 Mbit/s 2.11 Mbit/s 23.1 ms  0.1 %   66 %
     changed: metric 0, the file says 10
     quota: 12.0 GB of 50.0 GB used since 2026-11-01
  3  satellite-with-a-… down        0 bit/s     0 bit/s       -      -      -
     down: carrier lost on a-very-long-interface; it flaps, so it must be good
       for 16 s to return
";
        assert_eq!(summary(&snapshot(), false), expected);
    }

    #[test]
    fn the_readme_shows_what_is_printed() {
        let mut snapshot = snapshot();
        let [_, lte, lost] = &mut snapshot.links[..] else { panic!("three links") };
        lte.changed.clear();
        (lte.send_rate_bps, lte.receive_rate_bps) = (32_400_000.0, 1_200_000.0);
        (lte.srtt_ms, lte.loss_share, lte.sent_share) = (Some(38.0), Some(0.0), Some(0.341));
        lost.name = "satellite".into();
        lost.reason = Some("carrier lost on eth2".into());
        let screen = summary(&snapshot, false);
        let readme = include_str!("../../README.md");
        assert!(
            readme.contains(&format!("```\n{screen}```\n")),
            "README.md shows something else than\n{screen}"
        );
    }

    #[test]
    fn a_page_fits_a_terminal_with_colours_or_without() {
        let coloured = summary(&snapshot(), true);
        assert!(coloured.contains("\x1b[31m  3"), "{coloured}");
        let plain = coloured.split('\x1b').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
        let (plain, widest) =
            (plain.collect::<String>(), |text: &str| text.lines().map(|l| l.chars().count()).max());
        // The first part is cut at no escape, so only its length is compared.
        assert!(widest(&plain).is_some_and(|width| width <= COLUMNS), "{plain}");
        assert!(widest(&summary(&snapshot(), false)).is_some_and(|width| width <= COLUMNS));
    }

    #[test]
    fn without_a_session_the_trouble_is_the_first_thing_said() {
        let mut snapshot = Snapshot { interface: "nc0".into(), ..Snapshot::default() };
        assert_eq!(summary(&snapshot, false), "nc0: not connected, waiting for the other portal\n");
        snapshot.session.trouble = Some("the other portal has another key".into());
        assert_eq!(summary(&snapshot, false), "nc0: not connected, the other portal has another key\n");
        snapshot.session.state = "established".into();
        snapshot.links = vec![Link { carries: true, ..Link::default() }];
        assert!(headline(&snapshot).starts_with("nc0: connected, 1 of 1 link carries, 0 bit/s up"));
        snapshot.links[0].carries = false;
        assert!(headline(&snapshot).starts_with("nc0: no link carries anything, 0 bit/s up"));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = Event { unix_ms: 1_795_262_262_999, text: "link 2 lte: up".into(), ..Event::default() };
        assert_eq!(event_line(&event), "2026-11-21 11:57:42 link 2 lte: up\n");
    }
}
