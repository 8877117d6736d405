//! Just enough of HTTP to read the portals' status pages, and to steer a browser, from within a namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Namespace;

/// How long an answer may take: a browser that starts on a busy machine needs the longest.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of what `address` answers to `GET path`; an error unless that is 200.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str) -> Result<String> {
    ask(namespace, address, "GET", path, "")
}

/// As [`get`], with another method and a body of JSON.
pub fn ask(
    namespace: &Namespace,
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let what = || format!("{method} http://{address}{path} in {}", namespace.name());
    let answer = namespace.enter(|| exchange(address, method, path, body))?.with_context(what)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{}: no answer: {answer:?}", what())
    };
    ensure!(head.split(' ').nth(1) == Some("200"), "{}: {head}\n{body}", what());
    Ok(body.to_owned())
}

/// By HTTP/1.0, so that nobody answers in chunks. The length tells the end to servers that keep connections anyway.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
