//! `netcombiner top`: the portal and its links on a terminal, live, with graphs of the last minutes.
//!
//! A thread asks the portal once a second, as `show` does; what it is told goes into the [`App`](app::App), which
//! `view` draws. Nothing is asked of the portal while nobody looks, and a portal that is away is asked again until it
//! is back.

mod app;
#[cfg(test)]
mod example;
mod history;
mod rates;
mod sample;
mod view;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::app::{App, Wish};
use self::rates::Rates;
use self::sample::{Sample, Sampler};
use crate::control::ClientError;
use crate::core::snapshot::Snapshot;
use crate::journal;

/// Time between two looks at the portal.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest time until a sample that has come is drawn.
const LATENCY: Duration = Duration::from_millis(100);

/// Why it could not begin, or ended.
#[derive(Debug)]
pub enum TopError {
    /// The portal did not answer at the start.
    Portal(ClientError),
    /// There is no terminal, or it does not work.
    Terminal(String),
}

/// What the threads tell the one that draws.
enum Message {
    Sample(Box<Result<Sample, ClientError>>),
    /// A signal asks to end.
    Quit,
}

/// Shows the portal behind the control socket `socket` until the user has seen enough.
///
/// # Errors
///
/// If the portal does not answer at the start, or the terminal does not work. The terminal is as before in any case.
pub fn run(socket: &Path, interface: &str) -> Result<(), TopError> {
    if !io::stdout().is_terminal() {
        return Err(TopError::Terminal("needs a terminal; --json prints a line a second".to_owned()));
    }
    let mut sampler = Sampler::new(socket);
    let first = sampler.take().map_err(TopError::Portal)?;
    let (sender, messages) = mpsc::channel();
    let started = Instant::now();
    let mut app = App::new(interface);
    app.on_sample(started.elapsed(), Ok(first));
    watch_signals(sender.clone())?;
    thread::spawn(move || sample(&mut sampler, &sender));
    // Also gives the terminal back when the program panics.
    let mut terminal = ratatui::try_init().map_err(broken)?;
    let ended = look(&mut terminal, &mut app, &messages, started);
    ratatui::restore();
    ended.map_err(broken)
}

/// Prints the portal as lines of JSON, one a second, until nobody reads them.
///
/// # Errors
///
/// If the portal does not answer at the start, or the lines cannot be printed; `print` says `false` if nobody reads.
pub fn print_json(socket: &Path, mut print: impl FnMut(&str) -> bool) -> Result<(), TopError> {
    let mut sampler = Sampler::new(socket);
    let mut before = sampler.take().map_err(TopError::Portal)?.snapshot;
    loop {
        thread::sleep(INTERVAL);
        let line = match sampler.take() {
            Ok(Sample { snapshot, events }) => {
                let line = Line { rates: Rates::between(&before, &snapshot), snapshot: &snapshot, events };
                let line = serde_json::to_string(&line);
                before = snapshot;
                line
            }
            Err(error) => serde_json::to_string(&Away { error: error.to_string() }),
        };
        let line = line.map_err(|error| TopError::Terminal(format!("cannot print JSON: {error}")))?;
        if !print(&(line + "\n")) {
            return Ok(());
        }
    }
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    /// As `show --json` prints it.
    snapshot: &'a Snapshot,
    /// Since the line before; `null` after the portal began anew.
    rates: Option<Rates>,
    /// What happened since then.
    events: Vec<journal::Event>,
}

/// The line while the portal does not answer.
#[derive(Serialize)]
struct Away {
    error: String,
}

fn broken(error: impl std::fmt::Display) -> TopError {
    TopError::Terminal(format!("cannot use the terminal: {error}"))
}

/// Draws what comes, and does what the keys say.
fn look(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    messages: &Receiver<Message>,
    started: Instant,
) -> io::Result<()> {
    let mut changed = true;
    loop {
        if changed {
            terminal.draw(|frame| view::draw(frame, app, SystemTime::now()))?;
        }
        changed = false;
        if event::poll(LATENCY)? {
            changed = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && app.on_key(key) == Wish::Quit
            {
                return Ok(());
            }
        }
        loop {
            match messages.try_recv() {
                Ok(Message::Sample(sample)) => {
                    changed = true;
                    app.on_sample(started.elapsed(), *sample);
                }
                Ok(Message::Quit) | Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}

/// Asks the portal once a second until nobody listens.
fn sample(sampler: &mut Sampler, sender: &Sender<Message>) {
    loop {
        thread::sleep(INTERVAL);
        if sender.send(Message::Sample(Box::new(sampler.take()))).is_err() {
            return;
        }
    }
}

/// Ends the program in good order when it is asked to by a signal.
fn watch_signals(sender: Sender<Message>) -> Result<(), TopError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)] = kinds.map(signal) else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        // Nobody listens if the program ends anyway.
        let _ = sender.send(Message::Quit);
    });
    Ok(())
}
