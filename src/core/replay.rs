//! The anti-replay window of RFC 6479, shared by all links.

/// Width of the window in data sequence numbers. 1 Gbit/s across a delay difference of 500 ms is 44,000
/// packets; twice that and more must still be told apart from a replay.
pub const WIDTH: u64 = 131_072;

const BLOCK_BITS: u64 = 64;
/// One block more than the width, so that clearing the newest never touches numbers still inside.
const BLOCKS: u64 = WIDTH / BLOCK_BITS * 2;

/// Accepts every number at most once, and none that is [`WIDTH`] or more behind the largest accepted.
pub struct ReplayWindow {
    /// Largest number accepted plus one; 0 when nothing was.
    next: u64,
    blocks: Box<[u64]>,
}

/// Why a number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was accepted before.
    Duplicate,
    /// It lies behind the window.
    TooOld,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, blocks: vec![0; BLOCKS as usize].into_boxed_slice() }
    }
}

impl ReplayWindow {
    /// Largest number accepted plus one; 0 when nothing was.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes `number` as seen, or says why it must not be used.
    pub fn accept(&mut self, number: u64) -> Result<(), Refused> {
        if number + WIDTH < self.next {
            return Err(Refused::TooOld);
        }
        if number >= self.next {
            self.advance(number);
        }
        let bit = 1 << (number % BLOCK_BITS);
        let block = &mut self.blocks[(number / BLOCK_BITS % BLOCKS) as usize];
        if *block & bit != 0 {
            return Err(Refused::Duplicate);
        }
        *block |= bit;
        Ok(())
    }

    /// Clears the blocks between the old largest number and `number` (RFC 6479 §2).
    fn advance(&mut self, number: u64) {
        let newest = number / BLOCK_BITS;
        let first = self.next.div_ceil(BLOCK_BITS);
        for block in first..=newest.min(first.saturating_add(BLOCKS - 1)) {
            self.blocks[(block % BLOCKS) as usize] = 0;
        }
        self.next = number + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn numbered_cases() {
        let mut window = ReplayWindow::default();
        let cases: &[(u64, Result<(), Refused>)] = &[
            (0, Ok(())),
            (0, Err(Refused::Duplicate)),
            (1, Ok(())),
            (63, Ok(())),
            (64, Ok(())),
            (63, Err(Refused::Duplicate)),
            (2, Ok(())),
            (WIDTH, Ok(())),
            (3, Ok(())),
            (WIDTH + 3, Ok(())),
            (2, Err(Refused::TooOld)),
            (3, Err(Refused::TooOld)),
            (4, Ok(())),
            (WIDTH * 10, Ok(())),
            (WIDTH * 9 + 1, Ok(())),
            (WIDTH * 9, Err(Refused::TooOld)),
            (WIDTH * 10, Err(Refused::Duplicate)),
            (WIDTH * 9 + 1, Err(Refused::Duplicate)),
        ];
        for (i, &(number, want)) in cases.iter().enumerate() {
            assert_eq!(window.accept(number), want, "case {i}: {number}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_accepted_twice_and_nothing_inside_is_refused(
            steps in proptest::collection::vec((0u64..200_000, 0u64..150_000), 1..400)
        ) {
            let mut window = ReplayWindow::default();
            let mut seen = HashSet::new();
            let mut top = 0u64;
            for (forward, back) in steps {
                let number = (top + forward).saturating_sub(back);
                let inside = number + WIDTH >= top;
                match window.accept(number) {
                    Ok(()) => prop_assert!(inside && seen.insert(number)),
                    Err(Refused::Duplicate) => prop_assert!(seen.contains(&number)),
                    Err(Refused::TooOld) => prop_assert!(!inside),
                }
                top = top.max(number + 1);
            }
        }
    }
}
