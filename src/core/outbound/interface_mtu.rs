//! The MTU of the interface: what the links carry, changed as seldom as possible.
//!
//! It falls at once, because what is too long is lost, and rises only when that has held for long: every change
//! costs the connections inside something, and a link that comes and goes must not make it flap.

use std::time::Duration;

use super::MIN_MTU;
use crate::core::units::Instant;

/// For so long the links must carry more before the MTU rises: as rarely as a path is asked whether it does.
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// The MTU of the interface.
pub(super) struct InterfaceMtu {
    current: u16,
    most: u16,
    /// It was shown by all links, not assumed.
    shown: bool,
    /// What it will rise to, and when.
    raise: Option<(u16, Instant)>,
}

impl InterfaceMtu {
    /// `assumed` until the links show what they carry; never above `most`.
    pub(super) fn new(assumed: u16, most: u16) -> Self {
        let most = most.max(MIN_MTU);
        Self { current: assumed.clamp(MIN_MTU, most), most, shown: false, raise: None }
    }

    /// Bytes of the longest packet.
    pub(super) fn get(&self) -> u16 {
        self.current
    }

    /// Longest it may ever be.
    pub(super) fn most(&self) -> u16 {
        self.most
    }

    /// The links that carry data carry packets of `carried` bytes now; `None` while that is not known. `all`: no
    /// other link is there of which it is not known.
    pub(super) fn follow(&mut self, now: Instant, carried: Option<u16>, all: bool) {
        let Some(carried) = carried.map(|carried| carried.clamp(MIN_MTU, self.most)) else {
            self.raise = None;
            return;
        };
        // What was assumed may be corrected once, at the start, when little can be disturbed.
        let first = all && !std::mem::replace(&mut self.shown, all);
        if carried <= self.current || first {
            (self.current, self.raise) = (carried, None);
            return;
        }
        let (least, at) = self.raise.unwrap_or((carried, now + RAISE_AFTER));
        self.raise = Some((least.min(carried), at));
    }

    /// When [`InterfaceMtu::on_timeout`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.raise.map(|(_, at)| at)
    }

    /// Rises if it is time to.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if let Some((carried, _)) = self.raise.take_if(|(_, at)| now >= *at) {
            self.current = carried;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_word_of_the_links_counts_at_once() {
        let mut mtu = InterfaceMtu::new(1416, 1500);
        mtu.follow(at(0), None, true);
        assert_eq!(mtu.get(), 1416);
        mtu.follow(at(1), Some(1436), true);
        assert_eq!((mtu.get(), mtu.next_timeout()), (1436, None));
    }

    #[test]
    fn a_first_word_that_says_more_waits_for_the_other_links() {
        let mut mtu = InterfaceMtu::new(1416, 1500);
        mtu.follow(at(0), Some(1436), false);
        assert_eq!(mtu.get(), 1416);
        mtu.follow(at(1), Some(1416), true);
        assert_eq!((mtu.get(), mtu.next_timeout()), (1416, None));
    }

    #[test]
    fn it_falls_at_once_and_rises_late() {
        let mut mtu = InterfaceMtu::new(1436, 1500);
        mtu.follow(at(0), Some(1436), true);
        mtu.follow(at(1), Some(1336), true);
        assert_eq!(mtu.get(), 1336);
        mtu.follow(at(10), Some(1436), true);
        mtu.follow(at(20), Some(1400), true);
        mtu.follow(at(30), Some(1436), true);
        assert_eq!((mtu.get(), mtu.next_timeout()), (1336, Some(at(610))));
        mtu.on_timeout(at(609));
        assert_eq!(mtu.get(), 1336);
        mtu.on_timeout(at(610));
        assert_eq!((mtu.get(), mtu.next_timeout()), (1400, None));
    }

    #[test]
    fn a_link_that_comes_and_goes_does_not_move_it() {
        let mut mtu = InterfaceMtu::new(1336, 1500);
        for minute in 0..100 {
            mtu.follow(at(minute * 60), Some(if minute % 9 == 0 { 1336 } else { 1436 }), true);
            mtu.on_timeout(at(minute * 60 + 59));
            assert_eq!(mtu.get(), 1336);
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut mtu = InterfaceMtu::new(9000, 1500);
        assert_eq!(mtu.get(), 1500);
        mtu.follow(at(0), Some(1100), true);
        assert_eq!(mtu.get(), MIN_MTU);
        mtu.follow(at(1), Some(u16::MAX), true);
        mtu.on_timeout(at(601));
        assert_eq!(mtu.get(), 1500);
    }
}
