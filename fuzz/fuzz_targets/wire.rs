//! Every parser of datagrams takes any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netcombiner::core::wire::{Ack, HandshakeHead, Header, Kind, Probe};

fuzz_target!(|data: &[u8]| {
    let _ = Kind::of(data);
    if let Some(header) = Header::read(data) {
        let mut bytes = [0; 20];
        header.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Some(header));
    }
    if let Some(ack) = Ack::read(data) {
        let mut bytes = vec![0; ack.wire_len()];
        ack.write(&mut bytes);
        assert_eq!(Ack::read(&bytes), Some(ack));
    }
    let _ = (HandshakeHead::read(data), Probe::read(data));
});
