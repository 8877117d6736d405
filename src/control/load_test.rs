//! The request `test`: a load test that lasts as long as its client listens.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as ClientStream;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::client::{ANSWER_TIMEOUT, ClientError};
use super::server::Handler;
use super::{CLIENT_TIMEOUT, ERROR, TEST};
use crate::core::load_test::{Options, Progress};

/// Time between two lines to the client.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Ends the test of a client that went away, or of a server that stops.
struct Lasting<'a, H: Handler>(&'a H);

impl<H: Handler> Drop for Lasting<'_, H> {
    fn drop(&mut self) {
        // One that is complete is left alone by this.
        self.0.stop_load_test();
    }
}

/// Makes the test that `options`, as JSON, asks for, and tells how far it is, a line each time.
pub(super) async fn serve<H: Handler>(stream: &mut UnixStream, handler: &H, options: &str) -> io::Result<()> {
    let refused = match serde_json::from_str::<Options>(options) {
        Ok(options) if is_sound(&options) => handler.start_load_test(&options).err(),
        Ok(_) => Some("the options of the test are out of their bounds".to_owned()),
        Err(error) => Some(format!("the options of the test make no sense: {error}")),
    };
    if let Some(reason) = refused {
        return send(stream, &format!("{ERROR}{reason}\n")).await;
    }
    let _lasting = Lasting(handler);
    loop {
        let progress = handler.load_test().unwrap_or_default();
        send(stream, &(serde_json::to_string(&progress)? + "\n")).await?;
        if !progress.running {
            return stream.shutdown().await;
        }
        let mut more = [0; 1];
        tokio::select! {
            () = sleep(TELL_EVERY) => {}
            // The end of the stream, or something that nobody asked for.
            _ = stream.read(&mut more) => return Ok(()),
        }
    }
}

fn is_sound(options: &Options) -> bool {
    Options::STEP_MS.contains(&options.step_ms) && Options::BYTES.contains(&options.bytes)
}

async fn send(stream: &mut UnixStream, line: &str) -> io::Result<()> {
    timeout(CLIENT_TIMEOUT, stream.write_all(line.as_bytes())).await?
}

/// Lets the portal behind the control socket `socket` make a load test; calls `tell` with how far it is, some times a
/// second, and gives what it brought. The test ends when this process does.
///
/// # Errors
///
/// If the portal does not answer, or with something else, or refuses.
pub fn load_test(
    socket: &Path,
    options: &Options,
    mut tell: impl FnMut(&Progress),
) -> Result<Progress, ClientError> {
    let mut stream = ClientStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let options = serde_json::to_string(options).map_err(io::Error::from)?;
    stream.write_all(format!("{TEST} {options}\n").as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(reason) = line.strip_prefix(ERROR) {
            return Err(ClientError::Refused(reason.to_owned()));
        }
        let progress: Progress =
            serde_json::from_str(&line).map_err(|error| ClientError::Garbled(error.to_string()))?;
        tell(&progress);
        if !progress.running {
            return Ok(progress);
        }
    }
    Err(ClientError::NotRunning)
}
