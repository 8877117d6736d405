//! Where a packet's time goes: each step of its way through a portal, beside what the kernel's own calls cost.
//!
//! `cargo bench --bench path` prints a table, in nanoseconds for each packet. Words after `--` choose steps by a part
//! of their name; `--instructions` adds how many instructions a packet takes, by valgrind, which are comparable
//! between machines: `cargo bench --bench path -- --instructions merge cut`. The kernel's calls need root.

mod kernel;
mod meter;
mod packets;
mod pair;
mod parts;
mod way;

use meter::Bench;

fn main() {
    let mut bench = Bench::from_args();
    bench.head();
    way::out(&mut bench);
    way::back(&mut bench);
    parts::all(&mut bench);
    kernel::all(&mut bench);
}
