//! Why a datagram was not used: a reason and a counter each, never an error that ends a batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// Why a datagram was not used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Discard {
            $($(#[$doc])* $variant,)+
        }

        impl Discard {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name that people and programs see.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Not a datagram of this version of the protocol, or too short for what it says it is.
    Malformed => "malformed",
    /// Longer than any datagram of the peer.
    Oversized => "oversized",
    /// Protected with a key that is not (or no longer) known here.
    UnknownKey => "unknown_key",
    /// The footer does not match.
    Forged => "forged",
    /// Its data sequence number was used before.
    Replayed => "replayed",
    /// A repair of what had arrived after all, or the other way round.
    Duplicate => "duplicate",
    /// Its data sequence number lies behind the anti-replay window.
    TooOld => "too_old",
    /// Authentic, but of a link that has not been joined here.
    UnknownLink => "unknown_link",
    /// A handshake that was seen before, or answers nothing that was asked.
    StaleHandshake => "stale_handshake",
    /// The other portal's `Protection` differs.
    OtherProtection => "other_protection",
    /// Its header context is not known here, or not any more.
    UnknownContext => "unknown_context",
    /// The inner bytes are no IPv4 or IPv6 packet.
    NotIp => "not_ip",
}

/// A counter for each reason.
#[derive(Debug, Default)]
pub struct Discards([AtomicU64; Discard::ALL.len()]);

impl Discards {
    /// Counts one datagram.
    pub fn count(&self, reason: Discard) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often `reason` was counted.
    pub fn get(&self, reason: Discard) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// The reasons that occurred, by name.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        Discard::ALL
            .iter()
            .map(|&reason| (reason.name().to_owned(), self.get(reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let discards = Discards::default();
        for (i, &reason) in Discard::ALL.iter().enumerate() {
            for _ in 0..=i {
                discards.count(reason);
            }
        }
        let counts: Vec<u64> = Discard::ALL.iter().map(|&reason| discards.get(reason)).collect();
        assert_eq!(counts, (1..=Discard::ALL.len() as u64).collect::<Vec<_>>());
        assert_eq!(discards.snapshot().len(), Discard::ALL.len());
    }
}
