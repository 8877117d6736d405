//! Whatever bytes come, no key opens what it has not sealed, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netcombiner::core::session::protection::{Protector, Sealed, Suite};

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    for suite in [Suite::None, Suite::Blake2s, Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
        let protector = Protector::new(suite, &[7; 32]);
        let mut datagrams = datagrams.clone();
        let sealed = datagrams.iter_mut().filter_map(|datagram| Sealed::parse(datagram).ok());
        protector.open_all(sealed, |opened| assert!(opened.is_err() || suite == Suite::None));
    }
});
