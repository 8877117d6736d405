//! Every parser of datagrams takes any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netcombiner::core::load_wire::{LoadReport, Request};
use netcombiner::core::wire::{Ack, HandshakeHead, Header, Kind, Probe, Report};

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
    if let Some(report) = Report::read(data) {
        let mut bytes = vec![0; report.wire_len()];
        report.write(&mut bytes);
        assert_eq!(Report::read(&bytes), Some(report));
    }
    if let Some(request) = Request::read(data) {
        assert_eq!(&request.to_bytes()[..], data);
    }
    if let Some(report) = LoadReport::read(data) {
        assert_eq!(LoadReport::read(&report.to_bytes()), Some(report));
    }
    let _ = (HandshakeHead::read(data), Probe::read(data));
});
