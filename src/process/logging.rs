//! The log: one line an event, to where the operator looks for it.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::syslog::{self, Syslog};
use crate::config::InterfaceName;

/// Starts the log of this process, with `interface` at the head of each line: to syslog from the
/// background, where panics go too, else to standard error. Crates that we use log from warnings
/// up only.
///
/// # Errors
///
/// If the process has a log already.
pub fn init(interface: &InterfaceName, level: Level, background: bool) -> io::Result<()> {
    let head = match background {
        true => Head::Bare,
        false if stderr_is_journal() => Head::Priority,
        false => Head::Time,
    };
    let format = LineFormat { head, interface: interface.clone() };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(format);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if background {
        layer.with_writer(Syslog::open()).boxed()
    } else {
        layer.with_writer(io::stderr).boxed()
    };
    let levels =
        Targets::new().with_target(env!("CARGO_CRATE_NAME"), level).with_default(level.min(Level::WARN));
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init().map_err(io::Error::other)?;
    if background {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    Ok(())
}

/// What stands before the interface on a line.
enum Head {
    /// Time and level, for people.
    Time,
    /// `<N>`, the priority as sd-daemon(3) has it; the journal adds the time.
    Priority,
    /// Nothing; syslog has both.
    Bare,
}

struct LineFormat {
    head: Head,
    interface: InterfaceName,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        match self.head {
            Head::Time => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {level:<5} ")?;
            }
            Head::Priority => write!(writer, "<{}>", syslog::priority(level))?,
            Head::Bare => {}
        }
        write!(writer, "{}: ", self.interface)?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Whether standard error ends in the journal. `JOURNAL_STREAM` is inherited also by those whose
/// standard error was turned elsewhere, so it names device and inode (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr().as_fd())
        .is_ok_and(|stat| stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What `head` makes of one warning.
    fn line(head: Head) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let format = LineFormat { head, interface: "nc0".parse().expect("a name") };
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(format)
            .with_writer(move || Sink(Arc::clone(&sink)));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(link = 2, "down");
        });
        let bytes = written.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_as_their_reader_wants_them() {
        assert_eq!(line(Head::Bare), "nc0: down link=2\n");
        assert_eq!(line(Head::Priority), "<4>nc0: down link=2\n");
        let timed = line(Head::Time);
        assert!(timed.ends_with("Z WARN  nc0: down link=2\n"), "{timed}");
    }
}
