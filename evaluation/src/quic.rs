//! A QUIC stream whose progress is watched as a TCP one's is: what browsers do more and more, and what takes
//! a packet for lost as soon as three later ones have arrived (RFC 9002 §6.1.1), however long that took.
//!
//! It is `quinn` with cubic. Each end is a thread with a socket that was opened in its namespace.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce, sockopt::SndBufForce};
use quinn::congestion::CubicConfig;
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivatePkcs8KeyDer;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::netns::Namespace;
use crate::stream::Progress;
use crate::wan::Direction;

/// The longest that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How many later packets must have arrived for one to count as lost.
const PACKET_THRESHOLD: u32 = 3;

/// Flow control shall never be the limit: 400 Mbit/s across half a second, as TCP's buffers in the lab.
const WINDOW: u32 = 32 << 20;

/// The sockets' buffers: a stall of 100 ms at 300 Mbit/s.
const SOCKET_BUFFER: usize = 4 << 20;

/// The name in the certificate.
const NAME: &str = "netcombiner-lab";

/// Bytes handed over in one write.
const BLOCK: usize = 64 << 10;

/// A stream that sends as fast as QUIC lets it until [`stop`](Self::stop).
#[derive(Debug)]
pub struct QuicStream {
    phase: watch::Sender<Phase>,
    sender: Option<JoinHandle<QuicCounters>>,
    receiver: Option<JoinHandle<Progress>>,
}

/// What the sender counted from the handshake to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QuicCounters {
    /// Packets sent.
    pub sent: u64,
    /// Packets taken for lost, many perhaps only late.
    pub lost: u64,
    /// Times at which cubic made its window smaller.
    pub congestion_events: u64,
}

/// What both ends wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Connecting,
    Running { start: Instant },
    Stopped,
}

/// What an end is before it is connected.
struct End {
    socket: UdpSocket,
    role: Role,
}

enum Role {
    Client { config: ClientConfig, server: SocketAddr },
    Server { config: ServerConfig },
}

impl QuicStream {
    /// Connects from one namespace to an address of another one and starts to send, up if from the one that
    /// connects. Times of the progress count from `start`'s return.
    pub fn start(
        client: &Namespace,
        server: &Namespace,
        address: IpAddr,
        direction: Direction,
    ) -> Result<Self> {
        let listening = socket(server, address)?;
        let target = listening.local_addr()?;
        let (client_config, server_config) = configurations()?;
        let client = End {
            socket: socket(client, if address.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() })?,
            role: Role::Client { config: client_config, server: target },
        };
        let server = End { socket: listening, role: Role::Server { config: server_config } };
        let (sending, receiving) = match direction {
            Direction::Up => (client, server),
            Direction::Down => (server, client),
        };
        let (phase, phases) = watch::channel(Phase::Connecting);
        let (connected, connections) = mpsc::channel();
        let mut stream = Self { phase, sender: None, receiver: None };
        stream.sender = Some(spawn("quic-out", sending, phases.clone(), connected.clone(), send)?);
        stream.receiver = Some(spawn("quic-in", receiving, phases, connected, receive)?);
        for _ in 0..2 {
            match connections.recv_timeout(CONNECT_LIMIT) {
                Ok(connection) => connection.with_context(|| format!("QUIC to {target}"))?,
                Err(RecvTimeoutError::Timeout) => bail!("QUIC to {target}: not within {CONNECT_LIMIT:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("QUIC to {target}: an end has gone"),
            }
        }
        stream.phase.send_replace(Phase::Running { start: Instant::now() });
        Ok(stream)
    }

    /// Ends the stream and returns its progress, and what its sender counted.
    pub fn stop(mut self) -> (Progress, QuicCounters) {
        self.phase.send_replace(Phase::Stopped);
        // Neither thread has a way to panic.
        let counters = self.sender.take().and_then(|sender| sender.join().ok()).unwrap_or_default();
        let progress = self.receiver.take().and_then(|receiver| receiver.join().ok()).unwrap_or_default();
        (progress, counters)
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        // The threads end by themselves.
        self.phase.send_replace(Phase::Stopped);
    }
}

fn socket(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let socket = namespace
        .enter(|| UdpSocket::bind((address, 0)))?
        .with_context(|| format!("{}: a socket at {address}", namespace.name()))?;
    setsockopt(&socket, RcvBufForce, &SOCKET_BUFFER)?;
    setsockopt(&socket, SndBufForce, &SOCKET_BUFFER)?;
    Ok(socket)
}

/// Both ends' configurations with a certificate made for them.
fn configurations() -> Result<(ClientConfig, ServerConfig)> {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .packet_threshold(PACKET_THRESHOLD)
        .stream_receive_window(WINDOW.into())
        .send_window(WINDOW.into());
    let transport = Arc::new(transport);
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let certificate = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())?;
    server.transport_config(Arc::clone(&transport));
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = ClientConfig::with_root_certificates(Arc::new(roots))?;
    client.transport_config(transport);
    Ok((client, server))
}

/// Starts an end's thread: it connects, tells so, and does its work.
fn spawn<T: Default + Send + 'static>(
    name: &str,
    end: End,
    phases: watch::Receiver<Phase>,
    connected: mpsc::Sender<Result<()>>,
    work: impl AsyncFnOnce(&Connection, watch::Receiver<Phase>) -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let life = async move |mut phases: watch::Receiver<Phase>| {
        let connection = tokio::select! {
            connection = end.connect() => connection,
            // Given up.
            _ = phases.wait_for(|phase| *phase == Phase::Stopped) => return T::default(),
        };
        let (result, connection) = match connection {
            Ok(connection) => (Ok(()), Some(connection)),
            Err(error) => (Err(error), None),
        };
        // Nobody waits any more if the other end has failed.
        let _ = connected.send(result);
        let Some((_endpoint, connection)) = connection else { return T::default() };
        let outcome = work(&connection, phases).await;
        connection.close(0u32.into(), b"");
        outcome
    };
    let thread = std::thread::Builder::new().name(name.into());
    Ok(thread.spawn(move || runtime.block_on(life(phases)))?)
}

impl End {
    async fn connect(self) -> Result<(Endpoint, Connection)> {
        let open =
            |config| Endpoint::new(EndpointConfig::default(), config, self.socket, Arc::new(TokioRuntime));
        match self.role {
            Role::Client { config, server } => {
                let endpoint = open(None)?;
                let connection = endpoint.connect_with(config, server, NAME)?.await?;
                Ok((endpoint, connection))
            }
            Role::Server { config } => {
                let endpoint = open(Some(config))?;
                let incoming = endpoint.accept().await.context("the endpoint was closed")?;
                Ok((endpoint, incoming.await?))
            }
        }
    }
}

/// Waits for the start; `None` if the end comes first.
async fn started(phases: &mut watch::Receiver<Phase>) -> Option<Instant> {
    let phase = *phases.wait_for(|phase| *phase != Phase::Connecting).await.ok()?;
    if let Phase::Running { start } = phase { Some(start) } else { None }
}

async fn send(connection: &Connection, mut phases: watch::Receiver<Phase>) -> QuicCounters {
    if started(&mut phases).await.is_some() {
        let sending = async {
            let block = vec![0; BLOCK];
            let mut stream = connection.open_uni().await?;
            loop {
                stream.write_all(&block).await?;
            }
        };
        // The receiver tells what went wrong.
        let _: Option<Result<()>> = tokio::select! {
            failed = sending => Some(failed),
            _ = phases.wait_for(|phase| *phase == Phase::Stopped) => None,
        };
    }
    let path = connection.stats().path;
    QuicCounters {
        sent: path.sent_packets,
        lost: path.lost_packets,
        congestion_events: path.congestion_events,
    }
}

async fn receive(connection: &Connection, mut phases: watch::Receiver<Phase>) -> Progress {
    let mut progress = Progress::default();
    let Some(start) = started(&mut phases).await else { return progress };
    let receiving = async {
        let mut stream = connection.accept_uni().await?;
        while let Some(chunk) = stream.read_chunk(usize::MAX, true).await? {
            progress.count(start.elapsed(), chunk.bytes.len());
        }
        bail!("the stream was closed");
    };
    let failed: Option<Result<()>> = tokio::select! {
        failed = receiving => Some(failed),
        _ = phases.wait_for(|phase| *phase == Phase::Stopped) => None,
    };
    if let Some(Err(error)) = failed {
        progress.fault = Some(format!("QUIC: {error:#}"));
        // A stream that broke stands still until it is stopped.
        let _ = phases.wait_for(|phase| *phase == Phase::Stopped).await;
    }
    progress.watched = start.elapsed();
    progress
}
