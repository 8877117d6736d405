//! From a request to its answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::sleep;

use super::access::{Access, Verdict, WRONG_PASSWORD_PAUSE};
use super::{metrics, page};
use crate::control::Handler;
use crate::core::snapshot::Snapshot;
use crate::journal::Event;

/// Readers within so short a time get the same snapshot: however many ask, the data path is asked ten times a second.
const SNAPSHOT_TIME: Duration = Duration::from_millis(100);

/// Events on the page.
const PAGE_EVENTS: usize = 50;

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// What all connections share.
pub(super) struct Answerer<H> {
    handler: Arc<H>,
    access: Access,
    latest: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

/// `/status.json`.
#[derive(Serialize)]
struct Status<'a> {
    snapshot: &'a Snapshot,
    events: Vec<Event>,
}

impl<H: Handler> Answerer<H> {
    pub(super) fn new(handler: Arc<H>, access: Access) -> Self {
        Self { handler, access, latest: Mutex::new(None) }
    }

    /// Answers a request; its body, which none needs, is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Answer {
        match self.access.judge(request) {
            Verdict::Welcome => self.read(request),
            Verdict::NoPassword => ask_password(),
            Verdict::WrongPassword => {
                sleep(WRONG_PASSWORD_PAUSE).await;
                ask_password()
            }
            Verdict::ForeignName => {
                let told = "This page is asked for by its address, or as localhost.\n";
                answer(StatusCode::MISDIRECTED_REQUEST, PLAIN, told)
            }
        }
    }

    fn read<B>(&self, request: &Request<B>) -> Answer {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let refused = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "This page is only read.\n");
            return with(refused, ALLOW, "GET, HEAD");
        }
        let ok = StatusCode::OK;
        match request.uri().path() {
            "/" => {
                let html = page::whole(&self.snapshot(), &self.last_events());
                with(answer(ok, HTML, html), CONTENT_SECURITY_POLICY, page::policy())
            }
            "/live" => answer(ok, HTML, page::live(&self.snapshot(), &self.last_events())),
            "/metrics" => answer(ok, metrics::CONTENT_TYPE, metrics::render(&self.snapshot())),
            "/status.json" => self.status(since(request.uri().query())),
            _ => answer(StatusCode::NOT_FOUND, PLAIN, "There are /, /metrics and /status.json.\n"),
        }
    }

    fn status(&self, since: u64) -> Answer {
        let snapshot = self.snapshot();
        let status = Status { snapshot: &snapshot, events: self.handler.journal().since(since) };
        match serde_json::to_string(&status) {
            Ok(json) => answer(StatusCode::OK, JSON, json + "\n"),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &*latest {
            Some((taken, snapshot)) if now.duration_since(*taken) < SNAPSHOT_TIME => Arc::clone(snapshot),
            _ => {
                let snapshot = Arc::new(self.handler.snapshot());
                *latest = Some((now, Arc::clone(&snapshot)));
                snapshot
            }
        }
    }

    /// The newest first.
    fn last_events(&self) -> Vec<Event> {
        let events = self.handler.journal().since(0);
        events.into_iter().rev().take(PAGE_EVENTS).collect()
    }
}

fn ask_password() -> Answer {
    let asked = answer(StatusCode::UNAUTHORIZED, PLAIN, "This page needs the StatusPassword.\n");
    let asked = with(asked, WWW_AUTHENTICATE, "Basic realm=\"netcombiner\", charset=\"UTF-8\"");
    // A guesser has to begin anew.
    with(asked, CONNECTION, "close")
}

fn answer(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    headers.into_iter().fold(answer, |answer, (name, value)| with(answer, name, value))
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

/// The number in `since=N`; all events without one.
fn since(query: Option<&str>) -> u64 {
    let pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let mut numbers =
        pairs.filter(|(name, _)| *name == "since").filter_map(|(_, number)| number.parse().ok());
    numbers.next_back().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_events_begin() {
        assert_eq!(since(None), 0);
        assert_eq!(since(Some("a=b&since=12&c")), 12);
        assert_eq!(since(Some("since=-1")), 0);
    }
}
