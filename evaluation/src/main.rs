//! `evaluation`: the lab's commands.
#![deny(unsafe_code)]

mod commands;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// The lab of Netcombiner: portals in network namespaces over an emulated WAN. Needs root; leaves
/// nothing behind.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("evaluation: network namespaces need root");
        return ExitCode::FAILURE;
    }
    match arguments.command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evaluation: {error:#}");
            ExitCode::FAILURE
        }
    }
}
