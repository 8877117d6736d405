//! The portal's side of the control socket.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    CLIENT_TIMEOUT, DOWN, ERROR, EVENTS, FOLLOW_TIME, LINK, MAX_REQUEST_LEN, OK, RELOAD, SHOW, TEST, WAIT,
    load_test,
};
use crate::core::load_test::{Options, Progress};
use crate::core::snapshot::Snapshot;
use crate::journal::Journal;

/// Most clients served at once; further ones wait to be accepted. None stays longer than the
/// timeouts, so none waits for ever.
const MAX_CLIENTS: usize = 16;

/// Most of them that wait for events; further ones are refused, so that the others find room.
const MAX_FOLLOWERS: usize = 8;

/// Pause after a failed accept, which for want of file descriptors would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the portal does for its clients.
pub trait Handler: Send + Sync + 'static {
    /// The state of the portal now. Must not block for longer than a lock is held.
    fn snapshot(&self) -> Snapshot;

    /// Reads the configuration anew and changes what differs. The errors, one a line, if the old
    /// one stays in force.
    fn reload(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Changes a link until the configuration is read again. The reason, if it cannot.
    fn change_link(&self, name: &str, change: &str) -> Result<(), String>;

    /// What happened so far.
    fn journal(&self) -> &Journal;

    /// Begins a load test; why not, if it does not.
    fn start_load_test(&self, options: &Options) -> Result<(), String>;

    /// How far it is, or what the last one brought; `None` if there was none.
    fn load_test(&self) -> Option<Progress>;

    /// Ends the one that is under way, if one is.
    fn stop_load_test(&self);

    /// Asks the portal to stop; returns at once.
    fn stop(&self);
}

/// A bound control socket; its file is removed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    path: PathBuf,
}

impl Listener {
    /// Binds the socket `path`, mode 0600. A socket that is there already is replaced: the caller
    /// holds the interface's lock, so its portal is dead.
    ///
    /// # Errors
    ///
    /// If something else than a socket is in the way, or what the system says.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = StdListener::bind(path)?;
        let listener = Listener { socket, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.socket.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A socket that stays is replaced by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves clients until `shutdown` is ready. Must be called within a tokio runtime.
///
/// # Errors
///
/// If the runtime cannot watch the socket. What goes wrong with one client is its own affair.
pub async fn serve<H: Handler>(
    listener: Listener,
    handler: Arc<H>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let socket = UnixListener::from_std(listener.socket.try_clone()?)?;
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    let followers = Arc::new(Semaphore::new(MAX_FOLLOWERS));
    let mut clients = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, socket.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let handler = Arc::clone(&handler);
                let followers = Arc::clone(&followers);
                clients.spawn(async move {
                    let _slot = slot;
                    if let Err(error) = serve_one(stream, &*handler, &followers).await {
                        tracing::debug!("control client: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a control client: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

async fn serve_one<H: Handler>(mut stream: UnixStream, handler: &H, followers: &Semaphore) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    // Read even if it will be refused: closing with unread bytes would cut the answer off.
    let request = timeout(CLIENT_TIMEOUT, request(&mut stream)).await??;
    if user != 0 && user != geteuid().as_raw() {
        return answer(&mut stream, &format!("{ERROR}only root may ask\n")).await;
    }
    let request = request.unwrap_or_default();
    let words: Vec<&str> = request.split(' ').collect();
    match words[..] {
        [SHOW] => answer_json(&mut stream, &handler.snapshot()).await,
        [EVENTS, since] if let Ok(since) = since.parse() => {
            answer_json(&mut stream, &handler.journal().since(since)).await
        }
        [EVENTS, since, WAIT] if let Ok(since) = since.parse() => {
            let Ok(_follower) = followers.try_acquire() else {
                let text = format!("{ERROR}{MAX_FOLLOWERS} others wait for events already\n");
                return answer(&mut stream, &text).await;
            };
            wait(&mut stream, handler.journal(), since).await;
            answer_json(&mut stream, &handler.journal().since(since)).await
        }
        [RELOAD] => {
            let outcome = handler.reload().await;
            answer_outcome(&mut stream, outcome).await
        }
        [LINK, name, ..] => {
            let change = words[2..].join(" ");
            answer_outcome(&mut stream, handler.change_link(name, &change)).await
        }
        [DOWN] => {
            // Answered first: the end of the portal ends this task too.
            let answered = answer(&mut stream, &format!("{OK}\n")).await;
            handler.stop();
            answered
        }
        [TEST, _, ..] => load_test::serve(&mut stream, handler, &words[1..].join(" ")).await,
        _ => {
            let text =
                format!("{ERROR}the requests are {SHOW}, {EVENTS}, {LINK}, {RELOAD}, {TEST} and {DOWN}\n");
            answer(&mut stream, &text).await
        }
    }
}

/// Waits for an event from number `since` on, for the end of [`FOLLOW_TIME`], or for the client to go away.
async fn wait(stream: &mut UnixStream, journal: &Journal, since: u64) {
    let mut more = [0; 1];
    tokio::select! {
        () = journal.wait(since) => {}
        () = tokio::time::sleep(FOLLOW_TIME) => {}
        // The end of the stream, or something that nobody asked for.
        _ = stream.read(&mut more) => {}
    }
}

async fn answer_outcome(stream: &mut UnixStream, outcome: Result<(), String>) -> io::Result<()> {
    let text = match outcome {
        Ok(()) => format!("{OK}\n"),
        Err(errors) => errors.lines().map(|line| format!("{ERROR}{line}\n")).collect(),
    };
    answer(stream, &text).await
}

async fn answer_json(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut json = serde_json::to_string(value)?;
    json.push('\n');
    answer(stream, &json).await
}

/// The client's line without its end; `None` if it is too long, unfinished or no text.
async fn request(stream: &mut UnixStream) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let limited = stream.take(MAX_REQUEST_LEN as u64);
    BufReader::new(limited).read_until(b'\n', &mut line).await?;
    let line = line.strip_suffix(b"\n");
    Ok(line.and_then(|line| String::from_utf8(line.to_vec()).ok()))
}

async fn answer(stream: &mut UnixStream, text: &str) -> io::Result<()> {
    timeout(CLIENT_TIMEOUT, async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    })
    .await?
}
