//! What is shown, and what the keys change in it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::{History, Point};
use super::rates::{LinkRates, Rates};
use super::sample::Sample;
use crate::control::ClientError;
use crate::core::snapshot::{Link, Snapshot};
use crate::journal::Event;

/// Events that are kept for tall terminals.
const MAX_EVENTS: usize = 100;

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Go on.
    Stay,
    /// End.
    Quit,
}

/// How rates are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Units {
    #[default]
    Bits,
    Bytes,
}

impl Units {
    pub(super) fn name(self) -> &'static str {
        match self {
            Units::Bits => "bit/s",
            Units::Bytes => "B/s",
        }
    }

    /// A rate of bits per second in these units.
    pub(super) fn of(self, bps: f64) -> f64 {
        match self {
            Units::Bits => bps,
            Units::Bytes => bps / 8.0,
        }
    }
}

/// The order of the links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Number,
    Name,
    Rate,
    RoundTrip,
    Loss,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Order::Number => "number",
            Order::Name => "name",
            Order::Rate => "rate",
            Order::RoundTrip => "RTT",
            Order::Loss => "loss",
        }
    }

    fn next(self) -> Order {
        match self {
            Order::Number => Order::Name,
            Order::Name => Order::Rate,
            Order::Rate => Order::RoundTrip,
            Order::RoundTrip => Order::Loss,
            Order::Loss => Order::Number,
        }
    }
}

/// A link's name in the histories: what makes two looks at it the same.
type LinkKey = (u8, String);

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct App {
    pub(super) interface: String,
    pub(super) snapshot: Snapshot,
    pub(super) rates: Option<Rates>,
    /// When the snapshot came, since the program began.
    pub(super) now: Duration,
    pub(super) total: History,
    links: BTreeMap<LinkKey, History>,
    /// The newest first.
    pub(super) events: VecDeque<Event>,
    /// Why the portal does not answer.
    pub(super) trouble: Option<String>,
    pub(super) paused: bool,
    pub(super) help: bool,
    pub(super) units: Units,
    pub(super) order: Order,
    /// Links above the first one that is shown.
    pub(super) scrolled: usize,
}

impl App {
    pub(super) fn new(interface: &str) -> App {
        App {
            interface: interface.to_owned(),
            snapshot: Snapshot::default(),
            rates: None,
            now: Duration::ZERO,
            total: History::default(),
            links: BTreeMap::new(),
            events: VecDeque::new(),
            trouble: None,
            paused: false,
            help: false,
            units: Units::default(),
            order: Order::default(),
            scrolled: 0,
        }
    }

    /// Takes what the portal said `now`. While paused only whether it answers, and what happened, is taken: the rates
    /// afterwards are those of the whole pause.
    pub(super) fn on_sample(&mut self, now: Duration, sample: Result<Sample, ClientError>) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => {
                self.trouble = Some(error.to_string());
                return;
            }
        };
        self.trouble = None;
        for event in sample.events {
            self.events.push_front(event);
        }
        self.events.truncate(MAX_EVENTS);
        if self.paused {
            return;
        }
        self.now = now;
        self.rates =
            Rates::between(&self.snapshot, &sample.snapshot).filter(|_| !self.snapshot.interface.is_empty());
        self.snapshot = sample.snapshot;
        if let Some(rates) = &self.rates {
            let total = Point { at: now, sent: rates.sent_bps, received: rates.received_bps };
            self.total.push(total);
            for link in &rates.links {
                self.links.entry((link.number, link.name.clone())).or_default().push(point(now, link));
            }
        }
        // Links that are gone leave their graph for as long as it shows something.
        self.links.retain(|_, history| !history.forget(now));
        self.scrolled = self.scrolled.min(self.snapshot.links.len().saturating_sub(1));
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Wish::Quit,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Char('u') => {
                self.units = if self.units == Units::Bits { Units::Bytes } else { Units::Bits };
            }
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => {
                self.scrolled = (self.scrolled + 1).min(self.snapshot.links.len().saturating_sub(1));
            }
            _ => {}
        }
        Wish::Stay
    }

    /// The links in the order that was chosen.
    pub(super) fn sorted_links(&self) -> Vec<&Link> {
        let mut links: Vec<&Link> = self.snapshot.links.iter().collect();
        // What is not known comes last.
        let falling = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => b.total_cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let rising = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let rate = |link| self.link_rates(link).map(|rates| rates.sent_bps + rates.received_bps);
        links.sort_by(|a, b| match self.order {
            Order::Number => Ordering::Equal,
            Order::Name => a.name.cmp(&b.name),
            Order::Rate => falling(rate(a), rate(b)),
            Order::RoundTrip => rising(a.srtt_ms, b.srtt_ms),
            Order::Loss => falling(a.loss_share, b.loss_share),
        });
        links
    }

    pub(super) fn link_rates(&self, link: &Link) -> Option<&LinkRates> {
        self.rates.as_ref()?.of(link)
    }

    pub(super) fn history(&self, link: &Link) -> Option<&History> {
        self.links.get(&(link.number, link.name.clone()))
    }
}

fn point(at: Duration, rates: &LinkRates) -> Point {
    Point { at, sent: rates.sent_bps, received: rates.received_bps }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::snapshot::{Session, Traffic};

    /// A portal with three links, which has been watched for five minutes.
    pub(in super::super) fn watched() -> App {
        let mut app = App::new("nc0");
        for second in 0..=300 {
            app.on_sample(Duration::from_secs(second), Ok(sample(second)));
        }
        app
    }

    /// What it says at `second`: dsl sends 8 and lte 4 Mbit/s, sat is down.
    pub(in super::super) fn sample(second: u64) -> Sample {
        let link = |number, name: &str, mbit: u64, srtt_ms| Link {
            number,
            name: name.into(),
            state: if mbit > 0 { "up" } else { "down" }.into(),
            reason: (mbit == 0).then(|| "carrier lost on wwan0".into()),
            srtt_ms,
            min_rtt_ms: srtt_ms.map(|srtt| srtt - 3.0),
            bandwidth_bps: (mbit > 0).then_some(1e6 * mbit as f64),
            carries: mbit > 0,
            limit: (mbit == 0).then(|| "down".into()),
            wire_sent_bytes: second * mbit * 125_000,
            wire_received_bytes: second * 12_500,
            loss_share: (mbit > 0).then_some(if number == 2 { 0.0025 } else { 0.0 }),
            ..Link::default()
        };
        let snapshot = Snapshot {
            interface: "nc0".into(),
            uptime_seconds: 10.0 + second as f64,
            session: Session { state: "established".into(), ..Session::default() },
            traffic: Traffic {
                sent_bytes: second * 1_500_000,
                received_bytes: second * 37_500,
                ..Traffic::default()
            },
            links: vec![
                link(1, "dsl", 8, Some(23.1)),
                link(2, "lte", 4, Some(55.0)),
                link(3, "sat", 0, None),
            ],
            ..Snapshot::default()
        };
        let text = "link 3 sat: down, carrier lost on wwan0; 312 packets sent again elsewhere".to_owned();
        // In the future, which is shown as now.
        let event = Event { number: 1, unix_ms: u64::MAX, text, ..Event::default() };
        Sample { snapshot, events: if second == 1 { vec![event] } else { Vec::new() } }
    }

    fn press(app: &mut App, code: KeyCode) -> Wish {
        app.on_key(KeyEvent::from(code))
    }

    fn names(app: &App) -> Vec<&str> {
        app.sorted_links().iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn rates_follow_the_samples() {
        let app = watched();
        let rates = app.rates.as_ref().expect("rates");
        assert_eq!((rates.sent_bps, rates.received_bps), (12e6, 300e3));
        let of = |index: usize| app.link_rates(&app.snapshot.links[index]).map(|rates| rates.sent_bps);
        assert_eq!([of(0), of(1), of(2)], [Some(8e6), Some(4e6), Some(0.0)]);
        assert_eq!(app.events.len(), 1);
    }

    #[test]
    fn links_are_sorted_as_chosen_and_what_is_unknown_comes_last() {
        let mut app = watched();
        assert_eq!(names(&app), ["dsl", "lte", "sat"]);
        let mut orders = Vec::new();
        for _ in 0..5 {
            press(&mut app, KeyCode::Char('s'));
            orders.push((app.order.name(), names(&app).join(" ")));
        }
        let expected = [
            ("name", "dsl lte sat"),
            ("rate", "dsl lte sat"),
            ("RTT", "dsl lte sat"),
            ("loss", "lte dsl sat"),
            ("number", "dsl lte sat"),
        ];
        assert_eq!(orders, expected.map(|(name, links)| (name, links.to_owned())));
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut app = watched();
        press(&mut app, KeyCode::Char(' '));
        app.on_sample(Duration::from_secs(310), Ok(sample(310)));
        assert_eq!(app.snapshot.uptime_seconds, 310.0);
        press(&mut app, KeyCode::Char(' '));
        app.on_sample(Duration::from_secs(311), Ok(sample(311)));
        let rates = app.rates.as_ref().expect("rates");
        assert_eq!((rates.interval_seconds, rates.sent_bps), (11.0, 12e6));
    }

    #[test]
    fn a_portal_that_went_is_said_and_its_next_run_shown() {
        let mut app = watched();
        app.on_sample(Duration::from_secs(301), Err(ClientError::NotRunning));
        assert_eq!(app.trouble.as_deref(), Some("is not running"));
        app.on_sample(Duration::from_secs(302), Ok(sample(0)));
        assert_eq!((app.trouble.as_ref(), app.rates.as_ref()), (None, None));
        app.on_sample(Duration::from_secs(303), Ok(sample(1)));
        assert_eq!(app.rates.as_ref().map(|rates| rates.sent_bps), Some(12e6));
    }

    #[test]
    fn keys_end_it() {
        let mut app = watched();
        assert_eq!(press(&mut app, KeyCode::Char('x')), Wish::Stay);
        assert_eq!(press(&mut app, KeyCode::Char('?')), Wish::Stay);
        assert_eq!(press(&mut app, KeyCode::Esc), Wish::Stay, "closes the help");
        assert_eq!(press(&mut app, KeyCode::Esc), Wish::Quit);
        assert_eq!(app.on_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
    }

    #[test]
    fn scrolling_ends_at_the_last_link() {
        let mut app = watched();
        (0..9).for_each(|_| assert_eq!(press(&mut app, KeyCode::Down), Wish::Stay));
        assert_eq!(app.scrolled, 2);
        (0..9).for_each(|_| assert_eq!(press(&mut app, KeyCode::Up), Wish::Stay));
        assert_eq!(app.scrolled, 0);
    }
}
