//! How the program says that something went wrong, and prints what went right.

use std::io::{self, Write};

use crate::config::InterfaceName;
use crate::control::ClientError;

/// Why the program ends with 1; one reason a line.
#[derive(Debug)]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn new(reasons: impl Into<String>) -> Failure {
        Failure(reasons.into())
    }

    /// Why `interface` did not answer, or what it answered.
    pub(super) fn asking(interface: &InterfaceName, error: &ClientError) -> Failure {
        match error {
            ClientError::Refused(reasons) => Failure::new(reasons),
            error => Failure(format!("{interface} {error}")),
        }
    }

    pub(super) fn print(&self) {
        self.0.lines().for_each(say);
    }
}

/// One line on standard error.
pub(super) fn say(line: &str) {
    // Nothing is left to be done if standard error is closed.
    let _ = writeln!(io::stderr(), "netcombiner: {line}");
}

/// Prints `text`; a reader that has seen enough, such as `head`, is no failure.
pub(super) fn print_out(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(|_| ())
}

/// Prints `text`. False if the reader has seen enough.
pub(super) fn print_to_reader(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure(format!("cannot write to standard output: {error}"))),
    }
}
