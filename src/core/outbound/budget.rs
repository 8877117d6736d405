//! What may be sent beyond the packets themselves: a share of their bytes.

/// Bytes that may be spent, earned by what is sent for the first time.
pub(super) struct Budget {
    left: u64,
    share: f64,
    most: u64,
}

impl Budget {
    /// For so large a share, and for at most so many bytes at once, which are there from the beginning.
    pub fn new(share: f64, most: u64) -> Self {
        Self { left: most, share, most }
    }

    /// So many bytes were sent for the first time.
    pub fn earn(&mut self, bytes: usize) {
        self.left = (self.left + (bytes as f64 * self.share) as u64).min(self.most);
    }

    /// Whether so many may be spent.
    pub fn allows(&self, bytes: usize) -> bool {
        bytes as u64 <= self.left
    }

    /// Spends them, if they are there.
    pub fn spend(&mut self, bytes: usize) -> bool {
        let allows = self.allows(bytes);
        if allows {
            self.charge(bytes);
        }
        allows
    }

    /// Spends them, or what is left if they are not there.
    pub fn charge(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_what_is_sent_and_a_burst() {
        let mut budget = Budget::new(0.1, 1_000);
        assert!(budget.spend(1_000) && !budget.spend(1));
        (0..5).for_each(|_| budget.earn(1_000));
        assert!(budget.allows(500) && !budget.spend(501) && budget.spend(500));
        (0..50).for_each(|_| budget.earn(1_000));
        assert!(budget.spend(1_000) && !budget.allows(1));
    }
}
