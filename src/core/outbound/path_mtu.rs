//! How long a datagram one link carries: path MTU discovery by probes (DPLPMTUD, RFC 8899).
//!
//! A length counts as carried when a padded probe of it was answered; ICMP is not asked. The longest that both
//! interfaces carry is assumed to pass, since it mostly does, and probed at once. If it does not, [`BASE`] holds
//! while the range is halved over the lengths that paths usually have. A length is given up after [`MAX_PROBES`]
//! probes without an answer, while other datagrams came through.
//!
//! A path may come to carry less without a word. Long datagrams that are lost one after another raise a
//! [`Suspicion`]; then the present length is probed, and if it does not pass, the search begins anew.

use std::time::Duration;

use crate::core::units::Instant;

/// Carried without proof, bytes of UDP payload (BASE_PLPMTU, RFC 8899 §5.1.2): QUIC asks that much of any path
/// (RFC 9000 §14).
pub(super) const BASE: u16 = 1200;
/// Probes without an answer after which a length is given up (RFC 8899 §5.1.2).
const MAX_PROBES: u8 = 3;
/// A longer length is tried again after this, if the link carries data (PMTU_RAISE_TIMER, RFC 8899 §5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Long datagrams lost in a row that raise a suspicion. It costs one probe if it is wrong.
const SUSPICIOUS: u32 = 3;
/// IP packets that paths carry: IPv6's least, tunnels within tunnels, IPsec, mobile networks, WireGuard, VXLAN,
/// clouds, 6in4, PPPoE, Ethernet. In between, the few bytes that are missed would not be worth the probes.
const USUAL: [u16; 10] = [1280, 1340, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500];

/// The search for one link's longest datagram, in the direction away from this portal.
///
/// The owner sends what [`PathMtu::take_probe`] gives while [`PathMtu::wants_probe`], tells the answers and calls
/// [`PathMtu::on_timeout`] no earlier than [`PathMtu::next_timeout`].
pub(super) struct PathMtu {
    /// Ascending, the first is [`BASE`], the last the longest that both interfaces carry. Empty: a stream.
    lengths: Vec<Length>,
    /// Index of the longest that is known, or at first assumed, to pass.
    carried: usize,
    phase: Phase,
    probe: Probe,
    /// An answer was overdue, so that a short datagram must show whether the link works.
    overdue: bool,
    /// Only [`BASE`] was certain since the last search ended.
    fell: bool,
    raise_at: Instant,
    /// What the owner was told last.
    told: u16,
    /// IP and UDP headers around each datagram.
    headers: u16,
}

#[derive(Clone, Copy)]
struct Length {
    bytes: u16,
    /// Probes of it without an answer.
    tries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known but the interfaces.
    Assumed,
    Searching,
    Complete,
    /// What was found may not pass any more.
    Confirming,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Probe {
    None,
    /// The length with this index is to be probed.
    Due(usize),
    /// It was; an answer is overdue at the end.
    Sent(usize, Instant, Instant),
}

impl PathMtu {
    /// Of a path whose interfaces carry datagrams of `longest` bytes, with so many bytes of IP and UDP `headers`.
    pub(super) fn new(longest: u16, headers: u16) -> Self {
        let lengths = lengths(longest, headers);
        Self {
            carried: lengths.len() - 1,
            lengths,
            phase: Phase::Assumed,
            probe: Probe::None,
            overdue: false,
            fell: false,
            raise_at: Instant::ZERO,
            told: longest,
            headers,
        }
    }

    /// Of a stream, which carries any length.
    pub(super) fn stream() -> Self {
        Self { lengths: Vec::new(), carried: 0, ..Self::new(u16::MAX, 0) }
    }

    /// True for a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Longest datagram that may be sent, bytes.
    pub(super) fn limit(&self) -> u16 {
        self.lengths.get(self.carried).map_or(u16::MAX, |length| length.bytes)
    }

    /// Nothing longer is to be expected for now.
    pub(super) fn is_settled(&self) -> bool {
        self.is_stream() || matches!(self.phase, Phase::Complete | Phase::Confirming)
    }

    /// The loss of what is longer than [`BASE`] may be the path's length and not its quality.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.is_stream() && self.phase != Phase::Complete
    }

    /// Longest IP packet on the path, bytes, for people; `None` for a stream.
    pub(super) fn ip_packet(&self) -> Option<u16> {
        (!self.is_stream()).then(|| self.limit() + self.headers)
    }

    /// The state, for people.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            _ if self.is_stream() => "stream",
            Phase::Assumed => "assumed",
            Phase::Searching => "searching",
            Phase::Complete => "complete",
            Phase::Confirming => "confirming",
        }
    }

    /// What was found, if that is not what was told last: IP packets before and now, bytes.
    pub(super) fn news(&mut self) -> Option<(u16, u16)> {
        if self.phase != Phase::Complete || self.told == self.limit() {
            return None;
        }
        let now = self.limit();
        let before = std::mem::replace(&mut self.told, now);
        Some((before + self.headers, now + self.headers))
    }

    /// Both interfaces carry datagrams of so many bytes, as it turned out. What was shown to pass still does.
    pub(super) fn set_longest(&mut self, longest: u16) {
        let Some(last) = self.lengths.last().map(|length| length.bytes) else { return };
        let next = lengths(longest, self.headers);
        if next.last().is_none_or(|length| length.bytes == last) {
            return;
        }
        self.told = if self.told == last { longest } else { self.told.min(longest) };
        if self.phase == Phase::Assumed {
            self.carried = next.len() - 1;
            self.lengths = next;
            if self.probe != Probe::None {
                self.probe = Probe::Due(self.carried);
            }
            return;
        }
        let passes = self.limit();
        self.carried = next.iter().rposition(|length| length.bytes <= passes).unwrap_or(0);
        self.lengths = next;
        self.search();
    }

    /// The link came up, or there is reason to doubt what was found: find out.
    pub(super) fn doubt(&mut self) {
        match self.phase {
            Phase::Complete if self.carried > 0 => {
                self.phase = Phase::Confirming;
                self.lengths[self.carried].tries = 0;
                self.probe = Probe::Due(self.carried);
            }
            Phase::Complete => self.search(),
            Phase::Assumed if self.carried == 0 => self.complete(),
            Phase::Assumed if self.probe == Probe::None => self.probe = Probe::Due(self.carried),
            Phase::Assumed | Phase::Searching | Phase::Confirming => {}
        }
    }

    /// The doubt was dispelled by what arrived.
    pub(super) fn reassure(&mut self) {
        if self.phase == Phase::Confirming {
            self.complete();
        }
    }

    /// The link carries data: an idle one is not probed.
    pub(super) fn on_data(&mut self, now: Instant) {
        if self.phase == Phase::Complete && self.carried + 1 < self.lengths.len() && now >= self.raise_at {
            self.search();
        }
    }

    /// A probe is to be sent.
    pub(super) fn wants_probe(&self) -> bool {
        matches!(self.probe, Probe::Due(_))
    }

    /// Length of the probe that is to be sent now, bytes; its answer should be there after `patience`.
    pub(super) fn take_probe(&mut self, now: Instant, patience: Duration) -> Option<u16> {
        let Probe::Due(index) = self.probe else { return None };
        self.probe = Probe::Sent(index, now, now + patience);
        Some(self.lengths[index].bytes)
    }

    /// A short datagram that is answered is to follow the probe.
    pub(super) fn wants_company(&self) -> bool {
        self.overdue
    }

    /// True once after a search during which only [`BASE`] was certain at first.
    pub(super) fn take_regained(&mut self) -> bool {
        self.phase == Phase::Complete && std::mem::take(&mut self.fell)
    }

    /// A probe of so many bytes arrived, be it late.
    pub(super) fn on_answer(&mut self, now: Instant, bytes: u16) {
        let Some(index) = self.lengths.iter().position(|length| length.bytes == bytes) else { return };
        if index == self.carried && matches!(self.phase, Phase::Assumed | Phase::Confirming) {
            return self.complete();
        }
        if index <= self.carried {
            return;
        }
        self.carried = index;
        self.lengths[index].tries = 0;
        if self.phase != Phase::Searching {
            self.search();
        } else if !matches!(self.probe, Probe::Sent(longer, ..) if longer > index) {
            self.go_on(now);
        }
    }

    /// When [`PathMtu::on_timeout`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if let Probe::Sent(_, _, until) = self.probe { Some(until) } else { None }
    }

    /// Handles an answer that is overdue. That says nothing of the length unless something `heard` since, at that
    /// time, shows that the link works.
    pub(super) fn on_timeout(&mut self, now: Instant, heard: Instant) {
        let Probe::Sent(index, sent, until) = self.probe else { return };
        if now < until {
            return;
        }
        (self.probe, self.overdue) = (Probe::Due(index), true);
        if heard <= sent {
            return;
        }
        self.lengths[index].tries += 1;
        let tries = self.lengths[index].tries;
        match self.phase {
            Phase::Assumed | Phase::Confirming if tries < MAX_PROBES => return,
            Phase::Assumed | Phase::Confirming => {
                // Nor does anything longer pass. What is shorter is to be found out anew.
                (self.carried, self.fell) = (0, true);
                self.search();
                self.lengths[index..].iter_mut().for_each(|length| length.tries = tries);
            }
            Phase::Searching | Phase::Complete => {}
        }
        self.go_on(now);
    }

    fn search(&mut self) {
        self.lengths.iter_mut().for_each(|length| length.tries = 0);
        self.phase = Phase::Searching;
        self.probe = self.next().map_or(Probe::None, Probe::Due);
        if self.probe == Probe::None {
            self.complete();
        }
    }

    fn go_on(&mut self, now: Instant) {
        match self.next() {
            Some(index) => self.probe = Probe::Due(index),
            None => {
                self.raise_at = now + RAISE_AFTER;
                self.complete();
            }
        }
    }

    fn complete(&mut self) {
        (self.phase, self.probe, self.overdue) = (Phase::Complete, Probe::None, false);
    }

    /// What to probe: the longest, then the middle between what passes and what seems not to, in the end the next
    /// that seems not to, until it is given up.
    fn next(&self) -> Option<usize> {
        let above = self.carried + 1;
        let silent = (above..self.lengths.len()).find(|&index| self.lengths[index].tries > 0);
        match silent {
            None => (above < self.lengths.len()).then(|| self.lengths.len() - 1),
            Some(silent) if silent == above => (self.lengths[silent].tries < MAX_PROBES).then_some(silent),
            Some(silent) => Some((above + silent) / 2),
        }
    }
}

/// Lengths of datagrams that are worth a probe, ascending from [`BASE`] to `longest`.
fn lengths(longest: u16, headers: u16) -> Vec<Length> {
    let usual = USUAL.map(|packet| packet.saturating_sub(headers));
    let between = usual.into_iter().filter(|bytes| (BASE + 1..longest).contains(bytes));
    let ends = (longest > BASE).then_some(longest);
    let all = std::iter::once(BASE.min(longest)).chain(between).chain(ends);
    all.map(|bytes| Length { bytes, tries: 0 }).collect()
}

/// Whether long datagrams are lost one after another while nothing as long arrives (RFC 8899 §4.3).
#[derive(Default)]
pub(super) struct Suspicion {
    lost: u32,
    /// Bytes of the shortest of them.
    shortest: u64,
    raised: bool,
}

impl Suspicion {
    /// A datagram of so many bytes arrived.
    pub(super) fn on_acked(&mut self, bytes: u64) {
        if bytes >= self.shortest {
            (self.lost, self.shortest) = (0, 0);
        }
    }

    /// A datagram of so many bytes was lost.
    pub(super) fn on_lost(&mut self, bytes: u64) {
        if bytes > BASE.into() {
            self.shortest = if self.lost == 0 { bytes } else { self.shortest.min(bytes) };
            self.lost += 1;
        }
    }

    /// Whether there is a suspicion, if that has changed. That it was right is known once the link's `limit` is
    /// below what was lost.
    pub(super) fn verdict(&mut self, limit: u16) -> Option<bool> {
        if self.shortest > limit.into() {
            *self = Self::default();
        }
        let suspicious = self.lost >= SUSPICIOUS;
        (suspicious != std::mem::replace(&mut self.raised, suspicious)).then_some(suspicious)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADERS: u16 = 28;
    const PATIENCE: Duration = Duration::from_millis(100);

    /// A path that is probed as often as asked, and how long that took.
    struct Run {
        path_mtu: PathMtu,
        now: Instant,
        probes: u32,
    }

    impl Run {
        fn new(longest: u16) -> Self {
            let mut path_mtu = PathMtu::new(longest, HEADERS);
            path_mtu.doubt();
            Self { path_mtu, now: Instant::ZERO, probes: 0 }
        }

        /// Probes until nothing more is wanted; `passes` is asked for the length of each. Other traffic passes.
        fn go(&mut self, mut passes: impl FnMut(u16) -> bool) -> u16 {
            while let Some(bytes) = self.path_mtu.take_probe(self.now, PATIENCE) {
                self.probes += 1;
                assert!(self.probes < 200, "it does not end");
                if passes(bytes) {
                    self.path_mtu.on_answer(self.now, bytes);
                } else {
                    self.now += PATIENCE;
                    self.path_mtu.on_timeout(self.now, self.now);
                }
            }
            self.path_mtu.limit()
        }
    }

    #[test]
    fn the_usual_path_takes_one_probe() {
        let mut run = Run::new(1472);
        assert_eq!((run.path_mtu.limit(), run.path_mtu.is_settled()), (1472, false));
        assert_eq!(run.go(|_| true), 1472);
        assert_eq!((run.probes, run.path_mtu.is_settled(), run.path_mtu.news()), (1, true, None));
        assert!(!run.path_mtu.take_regained());
        assert_eq!((run.path_mtu.ip_packet(), run.path_mtu.state()), (Some(1500), "complete"));
    }

    #[test]
    fn a_smaller_path_is_found_and_told_once() {
        let mut run = Run::new(1472);
        assert_eq!(run.go(|bytes| bytes <= 1400 - HEADERS), 1400 - HEADERS);
        assert_eq!(run.path_mtu.news(), Some((1500, 1400)));
        assert_eq!(run.path_mtu.news(), None);
        assert_eq!((run.path_mtu.take_regained(), run.path_mtu.take_regained()), (true, false));
        assert!(run.probes <= 8, "{} probes", run.probes);
    }

    #[test]
    fn a_path_that_shrank_is_measured_anew() {
        let mut run = Run::new(1472);
        run.go(|_| true);
        run.path_mtu.doubt();
        assert_eq!((run.path_mtu.limit(), run.path_mtu.is_settled()), (1472, true));
        assert_eq!(run.go(|bytes| bytes <= 1350), 1340 - HEADERS);
        assert_eq!(run.path_mtu.news(), Some((1500, 1340)));
    }

    #[test]
    fn a_wrong_suspicion_changes_nothing() {
        let mut run = Run::new(1472);
        run.go(|_| true);
        run.path_mtu.doubt();
        let mut lost = 0;
        let passes = |_| {
            lost += 1;
            lost > 2
        };
        assert_eq!(run.go(passes), 1472);
        assert_eq!((run.probes, run.path_mtu.news()), (4, None));
    }

    #[test]
    fn silence_of_the_link_is_no_sign_of_its_length() {
        let mut run = Run::new(1472);
        run.go(|_| true);
        run.path_mtu.doubt();
        for _ in 0..10 {
            let heard = run.now;
            assert_eq!(run.path_mtu.take_probe(run.now, PATIENCE), Some(1472));
            assert_eq!(run.path_mtu.next_timeout(), Some(run.now + PATIENCE));
            run.now += PATIENCE;
            run.path_mtu.on_timeout(run.now, heard);
            assert!(run.path_mtu.wants_company());
        }
        assert_eq!(run.path_mtu.limit(), 1472);
    }

    #[test]
    fn a_longer_length_is_tried_again_only_with_data_and_after_a_while() {
        let mut run = Run::new(1472);
        run.go(|bytes| bytes <= 1372);
        assert_eq!(run.path_mtu.next_timeout(), None);
        run.path_mtu.on_data(run.now + RAISE_AFTER / 2);
        assert!(!run.path_mtu.wants_probe());
        run.now += RAISE_AFTER;
        run.path_mtu.on_data(run.now);
        assert_eq!((run.path_mtu.limit(), run.go(|_| true)), (1372, 1472));
        run.path_mtu.on_data(run.now + RAISE_AFTER * 2);
        assert!(!run.path_mtu.wants_probe(), "there is nothing longer");
    }

    #[test]
    fn a_doubt_that_is_dispelled_ends_the_probing() {
        let mut run = Run::new(1472);
        run.go(|_| true);
        run.path_mtu.doubt();
        assert_eq!(run.path_mtu.take_probe(run.now, PATIENCE), Some(1472));
        run.path_mtu.reassure();
        assert_eq!((run.path_mtu.next_timeout(), run.path_mtu.state()), (None, "complete"));
    }

    #[test]
    fn a_late_answer_counts() {
        let mut run = Run::new(1472);
        run.go(|bytes| bytes <= 1372);
        run.path_mtu.on_answer(run.now, 1464);
        assert_eq!(run.path_mtu.limit(), 1464);
        assert_eq!(run.go(|bytes| bytes <= 1464), 1464);
    }

    #[test]
    fn what_the_peers_interface_carries_is_the_most() {
        let mut run = Run::new(1472);
        run.go(|_| true);
        run.path_mtu.set_longest(1392);
        assert_eq!((run.go(|_| true), run.path_mtu.news()), (1392, None));
        run.path_mtu.set_longest(1472);
        assert_eq!((run.path_mtu.limit(), run.go(|_| true)), (1392, 1472));
    }

    #[test]
    fn an_interface_below_the_base_needs_no_probe() {
        let mut run = Run::new(1000);
        assert_eq!((run.go(|_| true), run.probes, run.path_mtu.is_settled()), (1000, 0, true));
    }

    #[test]
    fn a_stream_carries_everything() {
        let mut stream = PathMtu::stream();
        stream.doubt();
        stream.set_longest(1392);
        stream.on_data(Instant::ZERO + RAISE_AFTER * 2);
        assert_eq!((stream.limit(), stream.is_settled(), stream.wants_probe()), (u16::MAX, true, false));
        assert_eq!((stream.ip_packet(), stream.state()), (None, "stream"));
    }

    #[test]
    fn only_long_losses_in_a_row_are_suspicious() {
        let mut suspicion = Suspicion::default();
        let mut run = |events: &[(bool, u64)], limit| {
            for &(arrived, bytes) in events {
                if arrived { suspicion.on_acked(bytes) } else { suspicion.on_lost(bytes) }
            }
            suspicion.verdict(limit)
        };
        assert_eq!(run(&[(false, 200), (false, 200), (false, 200), (false, 200)], 1472), None, "short ones");
        assert_eq!(
            run(&[(false, 1472), (false, 1472), (true, 1472), (false, 1472), (true, 1472)], 1472),
            None
        );
        assert_eq!(
            run(&[(false, 1472), (true, 100), (false, 1472), (true, 1300), (false, 1460)], 1472),
            Some(true)
        );
        assert_eq!(run(&[(false, 1472)], 1472), None, "told once");
        assert_eq!(run(&[(true, 1460)], 1472), Some(false), "dispelled");
        assert_eq!(run(&[(false, 1472), (false, 1472), (false, 1472)], 1472), Some(true));
        assert_eq!(run(&[(true, 1372)], 1372), None, "it was right");
        assert_eq!(run(&[(false, 1372), (false, 1372), (false, 1372)], 1372), Some(true), "another one");
    }

    proptest! {
        #[test]
        fn the_search_finds_the_longest_usual_length_that_passes(path in 1200u16..1500, longest in 1280u16..1500) {
            let mut run = Run::new(longest);
            let found = run.go(|bytes| bytes <= path);
            let best = lengths(longest, HEADERS).into_iter().map(|length| length.bytes).rfind(|bytes| *bytes <= path);
            prop_assert_eq!(Some(found), best);
            prop_assert!(run.probes <= 9, "{} probes", run.probes);
        }

        #[test]
        fn losses_never_make_it_longer_nor_endless(path in 1200u16..1500, fates in proptest::collection::vec(any::<bool>(), 1..60)) {
            let mut run = Run::new(1472);
            let mut fates = fates.into_iter().cycle();
            prop_assert!(run.go(|bytes| bytes <= path && fates.next() == Some(true)) <= path);
            prop_assert!(run.path_mtu.is_settled());
        }
    }
}
