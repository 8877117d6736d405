//! Wakes a thread that waits in `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;

/// A pipe whose reading end a thread polls.
pub(super) struct Wake {
    read: OwnedFd,
    write: OwnedFd,
}

impl Wake {
    pub(super) fn new() -> nix::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { read, write })
    }

    /// Makes it readable. A full pipe is readable already.
    pub(super) fn wake(&self) {
        let _ = nix::unistd::write(&self.write, &[1]);
    }

    /// Makes it wait again.
    pub(super) fn acknowledge(&self) {
        let mut bytes = [0; 64];
        while nix::unistd::read(&self.read, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
