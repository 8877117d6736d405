//! The status page: what `show` tells, over HTTP, for browsers and for Prometheus.
//!
//! | path           | answer                                                                          |
//! |----------------|---------------------------------------------------------------------------------|
//! | `/`            | the page, whole without scripts                                                 |
//! | `/live`        | the part of it that changes, for its script                                     |
//! | `/status.json` | `{"snapshot": …, "events": […]}`; `?since=N` gives events from that number on   |
//! | `/metrics`     | Prometheus' text format 0.0.4                                                   |
//!
//! Nothing can be changed over it, nothing is fetched from elsewhere, and nothing leaves the host but to who asks.
//! It lives on the control side's runtime and touches the data path as `show` does: a lock for some microseconds.

mod access;
mod answer;
mod metrics;
mod page;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::access::Access;
use self::answer::Answerer;
use crate::config::Status;
use crate::control::Handler;

/// Most connections at once; further ones wait to be accepted. A browser opens up to six, Prometheus one.
const MAX_CONNECTIONS: usize = 32;

/// Longest wait for a request's header, the idle time between two requests included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is asked to end after so long, so that slow ones cannot keep others out for good.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// How long the request that is being answered then may take.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// Longest header of a request, bytes; the least that the library allows.
const MAX_HEADER_LEN: usize = 8192;

/// Time until an address that could not be listened on is tried again: it may come with an interface.
const RETRY: Duration = Duration::from_secs(10);

/// Pause after a failed accept, which for want of file descriptors would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the page where `wanted` says, and follows its changes. Must be called within a tokio runtime. What goes
/// wrong is told in the log and tried again: a bond does not end for want of a status page.
pub async fn serve<H: Handler>(mut wanted: watch::Receiver<Option<Status>>, handler: Arc<H>) -> Infallible {
    loop {
        let status = wanted.borrow_and_update().clone();
        let changed = async {
            if wanted.changed().await.is_err() {
                // Nobody is left who could change it.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            never = serve_at(status, &handler) => match never {},
            () = changed => {}
        }
    }
}

async fn serve_at<H: Handler>(status: Option<Status>, handler: &Arc<H>) -> Infallible {
    let Some(status) = status else {
        return std::future::pending().await;
    };
    let listener = listen(&status).await;
    let access = Access::new(status.password.as_ref().map(|password| password.as_str()));
    let answerer = Arc::new(Answerer::new(Arc::clone(handler), access));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Connections end with this future.
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(stream, Arc::clone(&answerer));
                connections.spawn(async move {
                    let _slot = slot;
                    connection.await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a reader of the status page: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Listens as soon as that is possible; says once why it is not.
async fn listen(status: &Status) -> TcpListener {
    let mut told = None;
    loop {
        match TcpListener::bind(status.address).await {
            Ok(listener) => {
                tracing::info!("status page at http://{}/", status.address);
                return listener;
            }
            Err(error) if told != Some(error.kind()) => {
                tracing::warn!("no status page at {} yet: {error}", status.address);
                told = Some(error.kind());
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

/// One reader, from its first request to its last.
async fn connection<H: Handler>(stream: TcpStream, answerer: Arc<Answerer<H>>) {
    let service = service_fn(move |request| {
        let answerer = Arc::clone(&answerer);
        async move { Ok::<_, Infallible>(answerer.answer(&request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT).max_buf_size(MAX_HEADER_LEN);
    let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(CONNECTION_TIME, serving.as_mut()).await {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => {
            serving.as_mut().graceful_shutdown();
            match timeout(FAREWELL_TIME, serving).await {
                Ok(ended) => ended.map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("reader of the status page: {error}");
    }
}
