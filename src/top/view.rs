//! Draws an [`App`] on whatever room there is. 80 columns and 24 lines hold everything of three links.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Clear, Dataset, GraphType, Padding, Paragraph, Sparkline, Wrap};

use super::app::App;
use super::history::{History, Point, SPAN};
use crate::control::units::{duration, milliseconds, prefixed};
use crate::control::{bond, folded, quota, reason, session};
use crate::core::snapshot::Link;

const SENT: Color = Color::Yellow;
const RECEIVED: Color = Color::Cyan;
const QUIET: Style = Style::new().fg(Color::DarkGray);

/// What is not known.
const UNKNOWN: &str = "-";

/// Lines below which the graph of all links gives its room to the links.
const MIN_GRAPH_TERMINAL: u16 = 16;
/// Lines below which the events do.
const MIN_EVENTS_TERMINAL: u16 = 13;
/// Columns of an event's age, and two behind it: `59 min ago`.
const AGE: u16 = 12;

/// `time` is that of the system's clock: events are shown by their age.
pub(super) fn draw(frame: &mut Frame, app: &App, time: SystemTime) {
    let height = frame.area().height;
    let graph = if height < MIN_GRAPH_TERMINAL { 0 } else { (height / 3).clamp(6, 16) };
    let events = if height < MIN_EVENTS_TERMINAL { 0 } else { (height / 4).clamp(3, 14) };
    let heights = [1, graph].map(Constraint::Length).into_iter();
    let heights = heights.chain([Constraint::Min(0)]).chain([events, 1].map(Constraint::Length));
    let [head_area, graph_area, link_area, event_area, foot_area] =
        Layout::vertical(heights).areas::<5>(frame.area());
    frame.render_widget(head(app), head_area);
    total(frame, app, graph_area);
    links(frame, app, link_area);
    happened(frame, app, time, event_area);
    frame.render_widget(foot(app), foot_area);
    if app.help {
        help(frame);
    }
}

fn head(app: &App) -> Line<'_> {
    let name = Span::from(app.interface.as_str()).bold();
    if let Some(trouble) = &app.trouble {
        let told = format!(" {trouble}: trying again every second; these figures are old");
        return Line::from(vec![name, Span::from(told).fg(Color::Red).bold()]);
    }
    let words: Vec<String> = [bond(&app.snapshot)].into_iter().chain(session(&app.snapshot)).collect();
    let mut line = vec![name, Span::from(": ".to_owned() + &words.join(", "))];
    if app.paused {
        line.insert(0, Span::from("PAUSED ").fg(Color::Yellow).bold());
    }
    Line::from(line)
}

fn foot(app: &App) -> Line<'_> {
    let keys = format!(
        "q quit  space pause  u units ({})  s sort ({})  ↑↓ scroll  ? help",
        app.units.name(),
        app.order.name()
    );
    Line::from(keys).style(QUIET)
}

/// A rate in the chosen units, without their name: `94.1M`.
fn short_rate(app: &App, bps: f64) -> String {
    prefixed(app.units.of(bps))
}

fn long_rate(app: &App, bps: f64) -> String {
    let rate = short_rate(app, bps);
    let at = rate.trim_end_matches(char::is_alphabetic).len();
    let (number, prefix) = rate.split_at(at);
    format!("{number} {prefix}{}", app.units.name())
}

/// The graph of all links.
fn total(frame: &mut Frame, app: &App, area: Rect) {
    if area.is_empty() {
        return;
    }
    let (sent, received) =
        app.rates.as_ref().map_or((0.0, 0.0), |rates| (rates.sent_bps, rates.received_bps));
    let title = Line::from(vec![
        Span::from(format!(" ▲ up {} ", long_rate(app, sent))).fg(SENT),
        Span::from(format!(" ▼ down {} ", long_rate(app, received))).fg(RECEIVED),
    ]);
    let line = |rate: fn(&Point) -> f64| app.total.line(app.now, rate);
    let (sent, received) = (line(|point| point.sent), line(|point| point.received));
    let dataset = |points, color| {
        let dataset = Dataset::default().data(points).marker(Marker::Braille);
        dataset.graph_type(GraphType::Line).style(Style::new().fg(color))
    };
    let most = scale(&app.total);
    let labels = [String::new(), short_rate(app, most / 2.0), short_rate(app, most)]
        .map(|label| format!("{label:>6}"));
    let chart = Chart::new(vec![dataset(&received, RECEIVED), dataset(&sent, SENT)])
        .block(Block::new().title(title).title(Line::from(waits(app)).right_aligned().style(QUIET)))
        .x_axis(Axis::default().bounds([-SPAN.as_secs_f64(), 0.0]))
        .y_axis(
            Axis::default()
                .bounds([0.0, most])
                .labels(labels)
                .labels_alignment(Alignment::Right)
                .style(QUIET),
        );
    frame.render_widget(chart, area);
}

/// How long packets wait: before the links, and behind them for those before them.
fn waits(app: &App) -> String {
    let wait = |name: &str, wait: Option<f64>| wait.map(|wait| format!("{name} {}, ", milliseconds(wait)));
    let queue = wait("queue", app.snapshot.queue.sojourn_p95_ms);
    let turn = wait("turn", app.snapshot.resequencer.hold_p95_ms);
    [queue, turn].into_iter().flatten().collect::<String>() + "last 5 min "
}

/// The end of a graph's scale: 1, 2, 5, 10, … so that it stays where it is for a while.
fn scale(history: &History) -> f64 {
    let most = history.most().max(1e4);
    let power = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|end| *end >= most).unwrap_or(most)
}

/// A line of figures for each link and, where there is room, one or more of graphs with the reason.
fn links(frame: &mut Frame, app: &App, area: Rect) {
    let [head_area, list] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let sorted = app.sorted_links();
    let lines = list.height.checked_div(sorted.len() as u16).unwrap_or(0).clamp(1, 5);
    // Few lines for many links: better each with its graph, and scrolling.
    let lines = if lines == 1 && list.height >= 4 { 2 } else { lines };
    let room = usize::from(list.height / lines);
    let first = app.scrolled.min(sorted.len().saturating_sub(room));
    let more = if sorted.len() > room { format!("↑↓{first}") } else { String::new() };
    let header = columns([
        &format!("LINK {more}"),
        "STATE",
        "UP",
        "DOWN",
        "CAP",
        "RTT",
        "QUEUE",
        "LOSS",
        "SHARE",
        "REPAIRS",
    ]);
    frame.render_widget(Line::from(header).style(QUIET.add_modifier(Modifier::BOLD)), head_area);
    for (link, index) in sorted.iter().skip(first).take(room).zip(0..) {
        let area = Rect { y: list.y + index * lines, height: lines, ..list };
        let [figures, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(Line::from(row(app, link)).style(state_style(link)), figures);
        if !rest.is_empty() {
            graphs(frame, app, link, rest);
        }
    }
}

/// 79 columns.
fn columns([name, state, up, down, cap, rtt, queue, loss, share, repairs]: [&str; 10]) -> String {
    format!(
        "{name:<11.11} {state:<7.7} {up:>6} {down:>6} {cap:>6} {rtt:>6} {queue:>6} {loss:>6} {share:>7} {repairs:>7}"
    )
}

fn row(app: &App, link: &Link) -> String {
    let rates = app.link_rates(link);
    let unknown = || UNKNOWN.to_owned();
    let rate = |bps: Option<f64>| bps.map_or_else(unknown, |bps| short_rate(app, bps));
    let time = |ms: Option<f64>| ms.map_or_else(unknown, |ms| format!("{}ms", ms.round()));
    let percent = |share: Option<f64>| share.map_or_else(unknown, |share| format!("{:.0}", 1e2 * share));
    let waiting = link.srtt_ms.zip(link.min_rtt_ms).map(|(srtt, min)| (srtt - min).max(0.0));
    let loss = link.loss_share.map_or_else(unknown, |loss| format!("{:.1}%", 1e2 * loss));
    let share = match (link.sent_share, link.received_share) {
        (None, None) => unknown(),
        (sent, received) => format!("{}/{}%", percent(sent), percent(received)),
    };
    columns([
        &link.name,
        &link.state,
        &rate(rates.map(|rates| rates.sent_bps)),
        &rate(rates.map(|rates| rates.received_bps)),
        &rate(link.bandwidth_bps),
        &time(link.srtt_ms),
        &time(waiting),
        &loss,
        &share,
        &prefixed((link.repairs_sent_packets + link.repairs_caused_packets) as f64),
    ])
}

fn state_style(link: &Link) -> Style {
    match link.state.as_str() {
        "up" => Style::new().fg(Color::Green),
        "down" => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    }
}

/// Both directions of a link, on one scale, and what keeps it from carrying more.
fn graphs(frame: &mut Frame, app: &App, link: &Link, area: Rect) {
    let width = (area.width / 4).min(60);
    let widths = [2, width, 1, width, 1].map(Constraint::Length).into_iter().chain([Constraint::Min(0)]);
    let [_, sent, _, received, _, words] = Layout::horizontal(widths).areas::<6>(area);
    if let Some(history) = app.history(link) {
        let mut graph = |area: Rect, color, rate: fn(&Point) -> f64| {
            let columns = history.columns(app.now, area.width.into(), rate);
            let graph = Sparkline::default().data(columns).max(scale(history) as u64);
            frame.render_widget(graph.style(Style::new().fg(color)), area);
        };
        graph(sent, SENT, |point| point.sent);
        graph(received, RECEIVED, |point| point.received);
    }
    let why = reason(link).unwrap_or("carries what it can".to_owned());
    let changed = link.changed.iter().map(|change| format!("; changed: {change}"));
    let quota = quota(link).map(|quota| format!("; quota: {quota}"));
    let why = changed.chain(quota).fold(why, |why, more| why + &more);
    frame.render_widget(Paragraph::new(why).style(QUIET).wrap(Wrap { trim: true }), words);
}

/// The last events, the newest first.
fn happened(frame: &mut Frame, app: &App, time: SystemTime, area: Rect) {
    if area.is_empty() {
        return;
    }
    let now = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let event = |event: &crate::journal::Event| {
        let ago = duration(now.saturating_sub(Duration::from_millis(event.unix_ms)).as_secs_f64());
        // The largest unit will do: `3 h`.
        let ago = ago.split(' ').take(2).collect::<Vec<_>>().join(" ") + " ago";
        let texts = folded(&event.text, usize::from(area.width.saturating_sub(AGE)), "");
        let ages = std::iter::once(ago).chain(std::iter::repeat(String::new()));
        let line =
            |(age, text)| Line::from(vec![Span::from(format!("{age:>10}  ")).style(QUIET), Span::from(text)]);
        ages.zip(texts).map(line).collect::<Vec<_>>()
    };
    let lines: Vec<Line> = match app.events.is_empty() {
        true => vec![Line::from("  nothing happened yet").style(QUIET)],
        false => app.events.iter().take(area.height.into()).flat_map(event).collect(),
    };
    let block = Block::new().title(Line::from("EVENTS").style(QUIET.add_modifier(Modifier::BOLD)));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn help(frame: &mut Frame) {
    const TEXT: &str = "\
q, Esc    quit
space     pause, and go on
u         bits or bytes
s         sort the links
↑ ↓       scroll the links
?         this help

UP DOWN   sent, received on the wire
CAP       what the path is believed to carry
QUEUE     round-trip time above its minimum
LOSS      of the last few hundred datagrams
SHARE     of all data sent/received, 10 s
REPAIRS   packets sent again for or by it";
    let size = frame.area();
    let (width, height) = (size.width.min(52), size.height.min(16));
    let area = Rect { x: (size.width - width) / 2, y: (size.height - height) / 2, width, height };
    let block = Block::bordered().title(" help ").padding(Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(TEXT).block(block), area);
}

#[cfg(test)]
pub(super) mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::app::tests::{sample, watched};
    use super::*;
    use crate::control::ClientError;

    pub(in super::super) fn screen(app: &App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, app, UNIX_EPOCH + app.now)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(width.into());
        lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
    }

    #[test]
    fn everything_of_three_links_stands_on_80_by_24() {
        let screen = screen(&watched(), 80, 24);
        for found in [
            "nc0: bonded, 2 of 3 links carry, session 0 s",
            "▲ up 12.0 Mbit/s",
            "▼ down 300 kbit/s",
            "dsl         up       8.00M   100k  8.00M   23ms    3ms   0.0%       -       0",
            "lte         up       4.00M   100k  4.00M   55ms    3ms   0.2%       -       0",
            "sat         down         0   100k      -      -      -      -       -       0",
            "down: carrier lost on wwan0",
            "link 3 sat: down, carrier lost on wwan0; 312 packets sent again",
            "q quit  space pause  u units (bit/s)  s sort (number)",
        ] {
            assert!(screen.contains(found), "{found:?} is not on\n{screen}");
        }
        assert!(screen.contains('▄') || screen.contains('█'), "a graph of each link:\n{screen}");
        assert!(screen.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "a graph of all:\n{screen}");
    }

    #[test]
    fn every_size_is_drawn() {
        let mut app = watched();
        for help in [false, true] {
            app.help = help;
            for (width, height) in
                [(1, 1), (10, 3), (20, 5), (40, 10), (80, 12), (80, 24), (132, 43), (400, 120)]
            {
                screen(&app, width, height);
            }
        }
    }

    #[test]
    fn many_links_are_scrolled() {
        let mut app = watched();
        let sat = app.snapshot.links[2].clone();
        app.snapshot.links.extend((4..=16).map(|number| Link {
            number,
            name: format!("link{number}"),
            ..sat.clone()
        }));
        app.scrolled = 5;
        let screen = screen(&app, 80, 24);
        assert!(screen.contains("link6") && !screen.contains("dsl"), "{screen}");
    }

    #[test]
    fn what_is_old_says_so() {
        let mut app = watched();
        app.on_sample(Duration::from_secs(301), Err(ClientError::NotRunning));
        let away = screen(&app, 80, 24);
        assert!(away.contains("nc0 is not running: trying again every second"), "{away}");
        app.on_sample(Duration::from_secs(302), Ok(sample(302)));
        app.paused = true;
        assert!(screen(&app, 80, 24).contains("PAUSED"));
    }

    #[test]
    fn rates_have_the_chosen_units() {
        let mut app = watched();
        app.units = super::super::app::Units::Bytes;
        let screen = screen(&app, 80, 24);
        assert!(screen.contains("▲ up 1.50 MB/s") && screen.contains("1.00M  12.5k"), "{screen}");
    }
}
