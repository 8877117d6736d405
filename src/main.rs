//! The `netcombiner` program.

fn main() {}
