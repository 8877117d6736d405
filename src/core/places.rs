//! The memory of queues that fill and empty by the thousand.

use std::collections::VecDeque;

/// What is kept: so many at most, for so many entries each.
const MAX_FREE: usize = 64;
const MAX_ENTRIES: usize = 256;

/// Memory that empty queues leave to others: each for itself would keep what it once needed, for good.
pub struct Places<T> {
    free: Vec<VecDeque<T>>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { free: Vec::with_capacity(MAX_FREE) }
    }
}

impl<T> Places<T> {
    /// Gives a queue that has no memory some, if there is.
    pub fn lend(&mut self, queue: &mut VecDeque<T>) {
        if queue.capacity() == 0
            && let Some(place) = self.free.pop()
        {
            *queue = place;
        }
    }

    /// Takes that of an empty queue.
    pub fn take_back(&mut self, queue: &mut VecDeque<T>) {
        debug_assert!(queue.is_empty());
        let place = std::mem::take(queue);
        if (1..=MAX_ENTRIES).contains(&place.capacity()) && self.free.len() < MAX_FREE {
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_used_again() {
        let mut places = Places::default();
        for len in 1..1_000 {
            let mut queue: VecDeque<u64> = (0..len).collect();
            queue.clear();
            places.take_back(&mut queue);
            assert_eq!(queue.capacity(), 0);
        }
        assert_eq!(places.free.len(), MAX_FREE);
        assert!(places.free.iter().all(|place| place.capacity() <= MAX_ENTRIES));
        let mut queue = VecDeque::new();
        places.lend(&mut queue);
        assert!(queue.capacity() > 0 && places.free.len() == MAX_FREE - 1);
        places.lend(&mut queue);
        assert_eq!(places.free.len(), MAX_FREE - 1, "it has some");
        places.take_back(&mut VecDeque::new());
        assert_eq!(places.free.len(), MAX_FREE - 1, "there is nothing to keep");
    }
}
