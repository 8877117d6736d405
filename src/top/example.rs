//! The screen of the README: five minutes of a made-up bond, drawn as any other is.

use std::time::Duration;

use super::app::App;
use super::sample::Sample;
use super::view::tests::screen;
use crate::core::snapshot::{Link, Queue, Resequencer, Session, Snapshot, Traffic};
use crate::journal::Event;

/// Seconds that are watched.
const END: u64 = 300;
/// The second in which the satellite is lost.
const LOST: u64 = 187;

/// Bytes that have crossed at `second` over a path of `mbit` Mbit/s, of which a part is used that changes.
fn bytes(second: u64, mbit: u64, percent: [u64; 10]) -> u64 {
    let used = |second: u64| percent[(second / 30) as usize % 10] - second * second % 23 / 4;
    (0..second).map(|second| mbit * 1_250 * used(second)).sum()
}

/// What each link has sent and received at `second`: a camera's pictures up, a large file down.
fn crossed(second: u64) -> [[u64; 2]; 3] {
    const PICTURES: [u64; 10] = [40, 40, 45, 50, 95, 90, 60, 50, 45, 45];
    const FILE: [u64; 10] = [8, 8, 55, 95, 97, 97, 98, 99, 99, 99];
    const CELL: [u64; 10] = [8, 8, 50, 70, 80, 55, 70, 90, 80, 90];
    let satellite = second.min(LOST);
    [
        [bytes(second, 20, PICTURES), bytes(second, 60, FILE)],
        [bytes(second, 15, PICTURES), bytes(second, 34, CELL)],
        [bytes(satellite, 4, PICTURES), bytes(satellite, 10, CELL)],
    ]
}

/// A link that carries.
fn carrying(rtt_ms: f64, mbit: f64, [sent, received]: [f64; 2], repairs: u64) -> Link {
    Link {
        state: "up".into(),
        carries: true,
        bandwidth_bps: Some(1e6 * mbit),
        srtt_ms: Some(rtt_ms + 4.0),
        min_rtt_ms: Some(rtt_ms),
        loss_share: Some(0.001),
        sent_share: Some(sent),
        received_share: Some(received),
        repairs_sent_packets: repairs,
        ..Link::default()
    }
}

fn sample(second: u64) -> Sample {
    let lost = Link {
        state: "down".into(),
        limit: Some("down".into()),
        reason: Some("carrier lost on eth2".into()),
        ..Link::default()
    };
    let links = [
        ("dsl", carrying(19.0, 19.2, [0.57, 0.66], 412)),
        ("lte", carrying(34.0, 14.4, [0.43, 0.34], 97)),
        ("satellite", if second < LOST { carrying(41.0, 3.8, [0.1, 0.08], 36) } else { lost }),
    ];
    let links =
        links.into_iter().zip(crossed(second)).zip(1..).map(|(((name, link), [sent, received]), number)| {
            Link { number, name: name.into(), wire_sent_bytes: sent, wire_received_bytes: received, ..link }
        });
    let all = |second: u64| [0, 1].map(|way| crossed(second).iter().map(|bytes| bytes[way]).sum::<u64>());
    let [now, before] = [second, second.saturating_sub(2)].map(all);
    let snapshot = Snapshot {
        interface: "nc0".into(),
        uptime_seconds: 1.0 + second as f64,
        session: Session { state: "established".into(), since_seconds: 11_520.0, ..Session::default() },
        traffic: Traffic {
            sent_bytes: now[0],
            received_bytes: now[1],
            send_rate_bps: 4.0 * (now[0] - before[0]) as f64,
            receive_rate_bps: 4.0 * (now[1] - before[1]) as f64,
            ..Traffic::default()
        },
        queue: Queue { sojourn_p95_ms: Some(5.1), ..Queue::default() },
        resequencer: Resequencer { hold_p95_ms: Some(9.2), ..Resequencer::default() },
        links: links.collect(),
        ..Snapshot::default()
    };
    let text = match second {
        LOST => "link 3 satellite: down, carrier lost on eth2; 64 packets sent again elsewhere",
        60 => "link 2 lte: up",
        _ => return Sample { snapshot, events: Vec::new() },
    };
    let event = Event { number: second, unix_ms: 1_000 * second, text: text.into(), ..Event::default() };
    Sample { snapshot, events: vec![event] }
}

#[test]
fn the_readme_shows_what_is_drawn() {
    let mut app = App::new("nc0");
    (0..=END).for_each(|second| app.on_sample(Duration::from_secs(second), Ok(sample(second))));
    let screen = screen(&app, 80, 24);
    let screen: String = screen.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("```\n{screen}```\n")), "README.md shows something else than\n{screen}");
}
