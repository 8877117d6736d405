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

/// Reads as much as the head promises, since some servers keep the connection whatever they are told.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<String> {
    // By 1.0 nobody answers in chunks; a browser's driver knows 1.1 alone, and sends none.
    let version = if address == crate::browser::DRIVER { "1.1" } else { "1.0" };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/{version}\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 65_536];
    while !is_whole(&answer) {
        match stream.read(&mut part)? {
            0 => break,
            count => answer.extend_from_slice(&part[..count]),
        }
    }
    Ok(String::from_utf8(answer)?)
}

/// Whether an answer has the length that it says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}
