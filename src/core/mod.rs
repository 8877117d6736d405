//! The protocol, without IO: no clock, no socket, no thread, no randomness of its own.

pub mod snapshot;
