//! Writes what packages of Netcombiner hold beside the program. Everything comes from the definition of the
//! command line and from the README, so that nothing is described in two places.

mod completions;
mod man;
mod markdown;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Writes what packages of Netcombiner hold beside the program.
#[derive(Debug, Parser)]
#[command(after_help = "\
Example:
  cargo run -p packaging -- man target/man && man -l target/man/netcombiner.8")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the manual pages: one of the program, one of each subcommand, one of the configuration
    Man {
        /// Where to; it is made if it is not there
        directory: PathBuf,
    },
    /// Write completions for bash, zsh and fish
    Completions {
        /// Where to; it is made if it is not there
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let (directory, files) = match Args::parse().command {
        Command::Man { directory } => (directory, man::pages()?),
        Command::Completions { directory } => (directory, completions::scripts()?),
    };
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for file in files {
        let path = directory.join(file.name);
        fs::write(&path, file.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A file to be written.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
}
