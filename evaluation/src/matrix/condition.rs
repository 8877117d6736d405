//! The conditions of the matrix: which links, and what is asked of their bond.

use std::time::Duration;

use anyhow::Result;
use serde::{Serialize, Serializer};

use crate::link::LinkSpec;
use crate::load::Load;
use crate::wan::{Direction, Queue};

/// The queue before each link unless another one is asked for, in ms.
pub const USUAL_QUEUE_MS: f64 = 100.0;

/// Some links and what is asked of them.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    /// A short name.
    pub name: &'static str,
    /// The links.
    #[serde(serialize_with = "in_short")]
    pub links: Vec<LinkSpec>,
    /// The queue before each link, in ms.
    pub queue_ms: f64,
    /// How many of the links, from the first, count for the sum: one that is too bad to be used may
    /// follow.
    pub counted: usize,
    /// What is asked, by load; loads and directions without an entry are only told.
    #[serde(skip)]
    pub asked: &'static [Asked],
    /// How much longer than the fastest idle link's a round trip may take under load, in ms.
    pub ping_ms: f64,
}

/// What is asked of a load.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The load.
    pub load: Load,
    /// The direction; both if not given.
    pub direction: Option<Direction>,
    /// How much.
    pub target: Target,
}

/// How much a bond is to carry at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// This share of the links' summed rate of IP packets, as goodput.
    Share(f64),
    /// So many times what the best link alone carries through the tunnel.
    OfBestLink(f64),
}

/// A condition in the words of [`LinkSpec`].
struct Entry {
    name: &'static str,
    links: &'static [&'static str],
    /// Further links, too bad to be used.
    bad: &'static [&'static str],
    asked: &'static [Asked],
    ping_ms: f64,
}

/// What is asked of one cubic flow, both ways.
const fn one(target: Target) -> Asked {
    Asked { load: Load::One, direction: None, target }
}

const ALL: [Entry; 14] = [
    Entry {
        name: "equal",
        links: &["rate=50,delay=20", "rate=50,delay=20"],
        bad: &[],
        asked: &[one(Target::Share(0.91))],
        ping_ms: 15.0,
    },
    Entry {
        name: "delay-40",
        links: &["rate=50,delay=20", "rate=50,delay=40"],
        bad: &[],
        asked: &[one(Target::Share(0.89))],
        ping_ms: 15.0,
    },
    Entry {
        name: "delay-70",
        links: &["rate=50,delay=20", "rate=50,delay=70"],
        bad: &[],
        asked: &[one(Target::Share(0.89))],
        ping_ms: 15.0,
    },
    Entry {
        name: "rates-50-12",
        links: &["rate=50,delay=20", "rate=12,delay=20"],
        bad: &[],
        asked: &[one(Target::Share(0.90))],
        ping_ms: 15.0,
    },
    Entry {
        name: "rates-100-10",
        links: &["rate=100,delay=20", "rate=10,delay=20"],
        bad: &[],
        asked: &[one(Target::Share(0.90))],
        ping_ms: 15.0,
    },
    Entry {
        name: "loss-0.5",
        links: &["rate=50,delay=20,loss=0.5", "rate=50,delay=20,loss=0.5"],
        bad: &[],
        asked: &[one(Target::Share(0.89))],
        ping_ms: 20.0,
    },
    Entry {
        name: "loss-2",
        links: &["rate=50,delay=20,loss=2", "rate=50,delay=20,loss=2"],
        bad: &[],
        asked: &[one(Target::Share(0.84))],
        ping_ms: 25.0,
    },
    Entry {
        name: "reordering",
        links: &["rate=50,delay=20,jitter=5,reorder", "rate=50,delay=20,jitter=5,reorder"],
        bad: &[],
        asked: &[one(Target::Share(0.86))],
        ping_ms: 25.0,
    },
    Entry {
        name: "mobile",
        links: &["rate=40,delay=30,jitter=5,loss=0.5", "rate=25,delay=45,jitter=8,loss=0.5"],
        bad: &[],
        asked: &[one(Target::Share(0.84))],
        ping_ms: 30.0,
    },
    Entry {
        name: "fibre-mobile",
        links: &["rate=300,delay=8", "rate=30,delay=40,jitter=8,loss=0.5"],
        bad: &[],
        asked: &[one(Target::Share(0.89))],
        ping_ms: 15.0,
    },
    Entry {
        name: "satellite",
        links: &["rate=40,delay=35", "rate=20,delay=320,jitter=20,loss=0.5"],
        bad: &[],
        asked: &[
            one(Target::OfBestLink(0.98)),
            Asked { load: Load::Eight, direction: None, target: Target::Share(0.82) },
        ],
        ping_ms: 25.0,
    },
    Entry {
        name: "four",
        links: &["rate=25,delay=15", "rate=25,delay=15", "rate=25,delay=15", "rate=25,delay=15"],
        bad: &[],
        asked: &[one(Target::Share(0.90))],
        ping_ms: 15.0,
    },
    Entry {
        name: "asymmetric",
        links: &["rate=100,up=2,delay=20", "rate=100,up=2,delay=20"],
        bad: &[],
        asked: &[Asked { load: Load::One, direction: Some(Direction::Down), target: Target::Share(0.88) }],
        ping_ms: 30.0,
    },
    Entry {
        name: "bad-third",
        links: &["rate=50,delay=20", "rate=50,delay=20"],
        bad: &["rate=3,delay=400,jitter=100,loss=15"],
        asked: &[one(Target::Share(0.91))],
        ping_ms: 15.0,
    },
];

/// Every condition, with queues of [`USUAL_QUEUE_MS`].
pub fn all() -> Result<Vec<Condition>> {
    ALL.iter().map(Entry::read).collect()
}

fn in_short<S: Serializer>(links: &[LinkSpec], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(links.iter().map(LinkSpec::to_string))
}

impl Entry {
    fn read(&self) -> Result<Condition> {
        let links = self.links.iter().chain(self.bad).map(|text| text.parse());
        Ok(Condition {
            name: self.name,
            links: links.collect::<Result<_>>()?,
            queue_ms: USUAL_QUEUE_MS,
            counted: self.links.len(),
            asked: self.asked,
            ping_ms: self.ping_ms,
        })
    }
}

impl Condition {
    /// The same with another queue before each link.
    pub fn with_queue(mut self, queue_ms: f64) -> Self {
        let queue = Queue::Time(Duration::from_secs_f64(queue_ms / 1e3));
        self.links =
            self.links.into_iter().map(|l| l.up(|c| c.queue = queue).down(|c| c.queue = queue)).collect();
        self.queue_ms = queue_ms;
        self
    }

    /// The links in short, and the queue where it is not the usual one.
    pub fn label(&self) -> String {
        let links: Vec<String> = self.links.iter().map(LinkSpec::to_string).collect();
        let queue = match self.queue_ms {
            USUAL_QUEUE_MS => String::new(),
            queue => format!(", queues of {queue} ms"),
        };
        links.join(" + ") + &queue
    }

    /// The rate of a link in bit/s of IP packets.
    pub fn rate_bps(&self, link: usize, direction: Direction) -> f64 {
        let link = &self.links[link];
        let conditions = if direction == Direction::Up { &link.up } else { &link.down };
        conditions.rate_bps as f64
    }

    /// The summed rate of the links that count.
    pub fn sum_bps(&self, direction: Direction) -> f64 {
        (0..self.counted).map(|link| self.rate_bps(link, direction)).sum()
    }

    /// What is asked of this load in this direction.
    pub fn target(&self, load: Load, direction: Direction) -> Option<Target> {
        let fits =
            |asked: &&Asked| asked.load == load && asked.direction.is_none_or(|only| only == direction);
        Some(self.asked.iter().find(fits)?.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_can_be_read_and_has_a_name_of_its_own() {
        let all = all().unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|condition| condition.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(all.iter().all(|condition| condition.links.len() >= 2 && condition.counted >= 2));
    }

    #[test]
    fn bad_links_do_not_count_and_queues_are_told() {
        let all = all().unwrap();
        let named = |name| all.iter().find(|condition| condition.name == name).unwrap().clone();
        assert_eq!(named("bad-third").sum_bps(Direction::Up), 100e6);
        let asymmetric = named("asymmetric");
        assert_eq!(asymmetric.sum_bps(Direction::Up), 4e6);
        assert_eq!(asymmetric.target(Load::One, Direction::Up), None);
        assert_eq!(asymmetric.target(Load::One, Direction::Down), Some(Target::Share(0.88)));
        let long = named("equal").with_queue(1_000.0);
        assert_eq!(long.label(), "50/20 + 50/20, queues of 1000 ms");
        assert_eq!(long.links[0].up.queue, Queue::Time(Duration::from_secs(1)));
    }
}
