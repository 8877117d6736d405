//! Any bytes are sent as they are or as what differs from others, and come out as they were; and any bytes may
//! be taken for what differs.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netcombiner::core::headers::{Compressor, Decompressor, Encoding, Head};
use netcombiner::core::units::Instant;
use netcombiner::core::wire::ContextId;

fuzz_target!(|packets: Vec<(u8, Vec<u8>)>| {
    let (mut compressor, mut decompressor) = (Compressor::new(true), Decompressor::default());
    let (mut now, mut head) = (Instant::ZERO, Head::default());
    for (number, (act, packet)) in packets.iter().enumerate() {
        let (number, bucket) = (number as u64, 1 + u16::from(act % 2));
        now = now + Duration::from_millis(u64::from(act / 4) * 20);
        let encoding = compressor.encode(now, number, bucket, packet);
        let mut body = vec![0; encoding.len(packet.len())];
        encoding.write(packet, &mut body);
        match encoding {
            Encoding::Full => assert_eq!(body, *packet),
            Encoding::Defining(definition) => {
                assert_eq!(body, *packet);
                // Some are lost.
                if act & 2 != 0 {
                    decompressor.define(definition.context, number, &body);
                    compressor.confirm(definition);
                }
            }
            Encoding::Compressed { context, .. } => {
                let arrived = decompressor.restore(context, number, &body, &mut head).expect("it is confirmed");
                assert_eq!(*arrived.whole(), *packet);
            }
        }
        if let Ok(arrived) = decompressor.restore(ContextId { bucket, slot: act & 3 }, number, packet, &mut head) {
            arrived.whole();
        }
    }
});
