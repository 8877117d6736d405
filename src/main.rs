//! The `netcombiner` program.

use std::process::ExitCode;

use netcombiner::{cli, daemon};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), daemon::run)
}
