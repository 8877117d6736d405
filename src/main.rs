//! The `netcombiner` program.

use std::process::ExitCode;

use netcombiner::cli::{self, Up, UpResult};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), up)
}

fn up(_: Up) -> UpResult {
    Err("running a portal is not built yet".into())
}
