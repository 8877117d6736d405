//! `netcombiner top`: the portal live, on a terminal or as lines of JSON.

use super::args::RunArgs;
use super::ask::run_dir;
use super::failure::{Failure, print_to_reader};
use crate::config::InterfaceName;
use crate::top::{self, TopError};

pub(super) fn run(run: &RunArgs, interface: &InterfaceName, json: bool) -> Result<(), Failure> {
    let socket = run_dir(run)?.socket(interface);
    if !json {
        return top::run(&socket, interface.as_str()).map_err(|error| explain(interface, error));
    }
    let mut failed = Ok(());
    let print = |line: &str| {
        print_to_reader(line).unwrap_or_else(|error| {
            failed = Err(error);
            false
        })
    };
    top::print_json(&socket, print).map_err(|error| explain(interface, error))?;
    failed
}

fn explain(interface: &InterfaceName, error: TopError) -> Failure {
    match error {
        TopError::Portal(error) => Failure::asking(interface, &error),
        TopError::Terminal(error) => Failure::new(format!("top {error}")),
    }
}
