//! `netcombiner genkey`.

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use zeroize::{Zeroize, Zeroizing};

use super::failure::{Failure, print_out, say};
use crate::config::Key;

/// Prints a new key, with a warning where others can read it.
pub(super) fn run() -> Result<(), Failure> {
    if fstat(io::stdout().as_fd()).is_ok_and(|stat| is_open_file(&stat)) {
        say("warning: others can read the file that the key goes to; set umask 077 before");
    }
    let mut bytes = [0; Key::LEN];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("no random bytes from the system: {error}")))?;
    let key = Key::new(bytes);
    bytes.zeroize();
    let line = Zeroizing::new(format!("{}\n", *key.to_base64()));
    print_out(&line)
}

fn is_open_file(stat: &FileStat) -> bool {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    kind == SFlag::S_IFREG && mode.intersects(Mode::S_IRWXG | Mode::S_IRWXO)
}
