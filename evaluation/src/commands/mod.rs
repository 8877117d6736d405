//! The commands, one file each: its arguments and `run`.

mod charts;
mod criteria;
mod demo;
mod diagnose;
mod emulator_check;
mod failover;
mod figures;
mod matrix;
mod measure;
mod output;
mod progress;
mod race;
mod readme;
mod screenshots;
mod shell;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure what the README promises, and print its table.
    Criteria(criteria::Arguments),
    /// Show in a minute what Netcombiner is for.
    Demo(demo::Arguments),
    /// Let `netcombiner test` find what is wrong with bonds that are made so.
    Diagnose(diagnose::Arguments),
    /// Measure whether the emulator is true: rates, delays, queues, losses, cuts.
    EmulatorCheck(emulator_check::Arguments),
    /// Measure what a connection notices when links fail, return, flap and change their rate.
    Failover(failover::Arguments),
    /// Draw the dissertation's figures anew: sums, changes, scaling.
    Figures(figures::Arguments),
    /// Measure link conditions × routes × loads × directions, with a ping and a call under load.
    Matrix(matrix::Arguments),
    /// Measure one condition: share of the links, retransmissions, ping under load.
    Measure(measure::Arguments),
    /// Measure how fast portals and the other tunnels found here are over a path that holds nothing up.
    Race(race::Arguments),
    /// Take pictures of the status page on a phone and a desktop; needs chromium and chromedriver.
    Screenshots(screenshots::Arguments),
    /// Build a lab, say how to enter it, and keep it until Ctrl-C.
    Shell(shell::Arguments),
}

impl Command {
    /// Carries the command out.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Criteria(arguments) => criteria::run(&arguments),
            Self::Demo(arguments) => demo::run(&arguments),
            Self::Diagnose(arguments) => diagnose::run(&arguments),
            Self::EmulatorCheck(arguments) => emulator_check::run(&arguments),
            Self::Failover(arguments) => failover::run(&arguments),
            Self::Figures(arguments) => figures::run(&arguments),
            Self::Matrix(arguments) => matrix::run(&arguments),
            Self::Measure(arguments) => measure::run(&arguments),
            Self::Race(arguments) => race::run(&arguments),
            Self::Screenshots(arguments) => screenshots::run(&arguments),
            Self::Shell(arguments) => shell::run(&arguments),
        }
    }
}
