//! What protection costs: trains of datagrams sealed and opened, time per datagram.
//!
//! `cargo bench --bench protection` prints the time of a whole train and datagrams a second.

use std::hint::black_box;

use blake2::Blake2sMac;
use blake2::digest::{KeyInit, Mac, consts::U16};
use divan::Bencher;
use divan::counter::ItemsCount;
use netcombiner::core::session::protection::{MAC_LEN, Protector, Sealed, Suite};
use netcombiner::core::wire::{HEADER_LEN, Header, Kind, Order};

/// Datagrams of a train, and bytes of each.
const TRAINS: [(usize, usize); 6] = [(1, 100), (8, 100), (64, 100), (1, 1_400), (8, 1_400), (44, 1_400)];
const SECRET: [u8; 32] = [7; 32];

fn main() {
    divan::main();
}

fn train((count, len): (usize, usize)) -> Vec<Vec<u8>> {
    let datagram = |sequence| {
        let header = Header {
            kind: Kind::Data,
            flags: 0,
            link: 1,
            epoch: 2,
            timestamp: 3,
            in_flight: 0,
            sequence,
            data_sequence: sequence,
            order: Order::default(),
        };
        let mut bytes = vec![5; len];
        header.write(&mut bytes[..HEADER_LEN]);
        bytes
    };
    (0..count as u32).map(datagram).collect()
}

fn seal(bencher: Bencher<'_, '_>, suite: Suite, size: (usize, usize)) {
    let (protector, mut train) = (Protector::new(suite, &SECRET), train(size));
    bencher
        .counter(ItemsCount::new(size.0))
        .bench_local(|| protector.seal_all(train.iter_mut().map(|datagram| &mut datagram[..])));
}

fn open(bencher: Bencher<'_, '_>, suite: Suite, size: (usize, usize)) {
    let (protector, mut sealed) = (Protector::new(suite, &SECRET), train(size));
    protector.seal_all(sealed.iter_mut().map(|datagram| &mut datagram[..]));
    bencher.counter(ItemsCount::new(size.0)).with_inputs(|| sealed.clone()).bench_local_refs(|train| {
        let parsed = train.iter_mut().filter_map(|datagram| Sealed::parse(datagram).ok());
        protector.open_all(parsed, |opened| _ = black_box(opened.expect("authentic")));
    });
}

/// The reference: the `blake2` crate, one at a time.
#[divan::bench(args = TRAINS)]
fn mac_scalar_seal(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    let mac = Blake2sMac::<U16>::new(&SECRET.into());
    let mut train = train(size);
    bencher.counter(ItemsCount::new(size.0)).bench_local(|| {
        for datagram in &mut train {
            let (message, footer) = datagram.split_at_mut(size.1 - MAC_LEN);
            let mut mac = mac.clone();
            mac.update(message);
            footer.copy_from_slice(&mac.finalize().into_bytes());
        }
    });
}

#[divan::bench(args = TRAINS)]
fn mac_seal(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    seal(bencher, Suite::Blake2s, size);
}

#[divan::bench(args = TRAINS)]
fn mac_open(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    open(bencher, Suite::Blake2s, size);
}

#[divan::bench(args = TRAINS)]
fn aes_gcm_seal(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    seal(bencher, Suite::Aes128Gcm, size);
}

#[divan::bench(args = TRAINS)]
fn aes_gcm_open(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    open(bencher, Suite::Aes128Gcm, size);
}

#[divan::bench(args = TRAINS)]
fn chacha_seal(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    seal(bencher, Suite::ChaCha20Poly1305, size);
}

#[divan::bench(args = TRAINS)]
fn chacha_open(bencher: Bencher<'_, '_>, size: (usize, usize)) {
    open(bencher, Suite::ChaCha20Poly1305, size);
}
