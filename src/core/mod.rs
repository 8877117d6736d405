//! The protocol, without IO: no clock, no socket, no thread, no randomness of its own.

mod checksum;
pub mod discard;
mod ecn;
pub mod headers;
mod icmp;
pub mod inbound;
pub mod load_test;
pub mod load_wire;
pub mod offload;
mod one_way;
pub mod outbound;
pub mod packet;
mod places;
pub mod portal;
pub mod recent;
pub mod replay;
pub mod rtt;
pub mod session;
pub mod snapshot;
pub mod units;
pub mod wire;
