//! The footers of many datagrams at once: keyed BLAKE2s (RFC 7693), in what SIMD lanes the CPU has.

use blake2s_simd::Params;
use blake2s_simd::many::{HashManyJob, hash_many};

use super::protection::Secret;
#[cfg(target_arch = "x86_64")]
use super::wide::{LANES, Wide};

/// Length of the MAC footer.
pub const MAC_LEN: usize = 16;
/// MACs that are computed together: unequal lengths share the lanes the better the more there are.
const AT_ONCE: usize = 32;

/// A key, ready for messages.
pub struct Macs {
    params: Params,
    #[cfg(target_arch = "x86_64")]
    wide: Option<Wide>,
}

impl Macs {
    pub(super) fn new(key: &Secret) -> Self {
        let mut params = Params::new();
        params.hash_length(MAC_LEN).key(&key.0);
        Self {
            params,
            #[cfg(target_arch = "x86_64")]
            wide: Wide::new(key),
        }
    }

    /// Gives `then` the MAC of each message, in order.
    pub(super) fn each<'a, T>(
        &self,
        mut messages: impl Iterator<Item = (&'a [u8], T)>,
        mut then: impl FnMut(T, &[u8; MAC_LEN]),
    ) {
        let mut macs = [[0; MAC_LEN]; AT_ONCE];
        loop {
            let mut batch = [&[][..]; AT_ONCE];
            let mut whose = [const { None }; AT_ONCE];
            let mut count = 0;
            for (message, of) in messages.by_ref().take(AT_ONCE) {
                (batch[count], whose[count]) = (message, Some(of));
                count += 1;
            }
            self.all(&batch[..count], &mut macs[..count]);
            for (of, mac) in whose.into_iter().flatten().zip(&macs) {
                then(of, mac);
            }
            if count < AT_ONCE {
                return;
            }
        }
    }

    fn all(&self, messages: &[&[u8]], macs: &mut [[u8; MAC_LEN]]) {
        // Half as many take the library's eight lanes as long.
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = self.wide.as_ref().filter(|_| messages.len() > LANES / 2) {
            return wide.macs(messages, macs);
        }
        let mut jobs = [const { None }; AT_ONCE];
        for (job, message) in jobs.iter_mut().zip(messages) {
            *job = Some(HashManyJob::new(&self.params, message));
        }
        hash_many(jobs.iter_mut().flatten());
        for (mac, job) in macs.iter_mut().zip(jobs.iter().flatten()) {
            mac.copy_from_slice(job.to_hash().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protection::{footer_of, keyed};
    use super::*;
    use proptest::prelude::*;

    /// Those of a train, and others.
    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        let blocks = (0usize..32).prop_map(|blocks| blocks * 64);
        let any = prop_oneof![4 => 0usize..2_000, 1 => blocks, 1 => Just(65_491)];
        prop_oneof![
            proptest::collection::vec(any, 0..100),
            (0usize..2_000, 0usize..100).prop_map(|(len, count)| vec![len; count]),
        ]
    }

    proptest! {
        #[test]
        fn many_macs_are_what_blake2_says_of_each(lengths in lengths(), key: [u8; 32]) {
            let messages: Vec<Vec<u8>> = (0u8..).zip(&lengths).map(|(i, len)| (0..*len).map(|at| i ^ at as u8).collect()).collect();
            let mut got = Vec::new();
            let numbered = messages.iter().enumerate().map(|(number, message)| (&message[..], number));
            Macs::new(&Secret(key)).each(numbered, |number, mac| got.push((number, *mac)));
            let reference = keyed(&Secret(key));
            let want: Vec<_> = messages.iter().map(|message| footer_of(&reference, message)).enumerate().collect();
            prop_assert_eq!(got, want);
        }
    }
}
