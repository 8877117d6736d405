//! The system's log, for a portal in the background.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Makes a writer for each event, with the event's priority.
pub(super) struct Syslog(());

impl Syslog {
    pub(super) fn open() -> Syslog {
        // SAFETY: the name is a literal and so outlives every later call to `syslog`, which keeps
        // the pointer.
        unsafe { libc::openlog(c"netcombiner".as_ptr(), libc::LOG_PID, libc::LOG_DAEMON) };
        Syslog(())
    }
}

impl MakeWriter<'_> for Syslog {
    type Writer = Message;

    fn make_writer(&self) -> Message {
        Message { priority: libc::LOG_INFO }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Message {
        Message { priority: priority(*metadata.level()) }
    }
}

/// One event; what is written at once is one message.
pub(super) struct Message {
    priority: libc::c_int,
}

impl io::Write for Message {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
        let message = CString::new(line)?;
        // SAFETY: both strings end in a zero and live until the call returns, and the format takes
        // the one string that is passed.
        unsafe { libc::syslog(self.priority, c"%s".as_ptr(), message.as_ptr()) };
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The syslog priority (RFC 5424 §6.2.1) of a level.
pub(super) fn priority(level: Level) -> libc::c_int {
    match level {
        Level::ERROR => libc::LOG_ERR,
        Level::WARN => libc::LOG_WARNING,
        Level::INFO => libc::LOG_INFO,
        Level::DEBUG | Level::TRACE => libc::LOG_DEBUG,
    }
}
