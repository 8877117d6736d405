//! What the kernel gives is cut, and what the tunnel gives is merged and cut again, whatever the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netcombiner::core::offload::{Coalescer, Merged, Segments, VirtioHeader, completed};
use netcombiner::core::packet::Inner;

fuzz_target!(|data: &[u8]| {
    let mut out = [0; 2_048];
    if let Some((header, packet)) = data.split_first_chunk()
        && let Some(header) = VirtioHeader::read(header)
    {
        assert_eq!(VirtioHeader::read(&header.to_bytes()), Some(header));
        if let Ok(mut segments) = Segments::new(&header, packet) {
            while segments.next(packet, &mut out).is_some() {}
        }
    }
    // A byte says how long the packet after it is.
    let mut coalescer = Coalescer::new(true, true);
    let (mut rest, mut count) = (data, 0);
    let mut cut = |merged: Merged<'_>| {
        let mut segments = Segments::new(&merged.header, merged.packet.head).expect("what was merged can be cut");
        while segments.next(merged.packet.head, &mut out).is_some() {
            count -= 1;
        }
    };
    let mut pushed = 0;
    while let Some((len, packets)) = rest.split_first() {
        let (packet, after) = packets.split_at(packets.len().min((*len).into()));
        // Every second one says that its checksum is not summed, which may be wrong.
        let packet = Inner { unsummed: pushed % 2 == 1, ..packet.into() };
        coalescer.push(packet, &mut cut);
        completed(packet);
        (rest, pushed) = (after, pushed + 1);
    }
    coalescer.flush(&mut cut);
    assert_eq!(count + pushed, 0);
});
