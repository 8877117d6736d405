//! `netcombiner routes`: the set-ups that the program carries with it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use super::failure::Failure;
use crate::process::routes::{Role, command};

/// Becomes the script of `role`, which prints its own errors.
pub(super) fn run(role: Role, arguments: &[OsString]) -> Result<(), Failure> {
    let help = [OsString::from("--help")];
    // It returns only if that failed.
    let error = command(role, if arguments.is_empty() { &help } else { arguments }).exec();
    Err(Failure::new(format!("cannot run /bin/sh: {error}")))
}
