//! A node with its HTTP: listens, serves until a signal, and stops in order.
//!
//! It listens once the node has taken the database over, or waits for it; from a signal on it goes on answering that the
//! server is going away, until the last connection has ended.

mod accept;

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub(crate) use self::accept::Peer;
use self::accept::Reception;
use crate::{
    clock::Clock,
    config::Config,
    doors::Doors,
    flusher::Flusher,
    http,
    hub::Hub,
    node::{Node, Unclean},
    store::{self, Store, StoreError},
    telemetry::chain,
    tls::{Tls, TlsError},
};

/// Why the server did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store could not be opened or asked.
    #[error("the database could not be opened")]
    Store(#[from] StoreError),
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// TLS cannot be spoken with the files given.
    #[error("no TLS")]
    Tls(#[from] TlsError),
    /// The operating system's signals could not be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// Something was not written, or did not end in time; the log says what.
    #[error("the server did not stop cleanly")]
    Unclean,
    /// A background task died, or another node has taken over; the log says which.
    #[error("the server could not go on serving")]
    TaskDied,
}

impl From<Unclean> for ServeError {
    fn from(_: Unclean) -> Self {
        Self::Unclean
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    node: Node,
    /// Where it listens.
    addr: SocketAddr,
    /// Ends the listener and idle HTTP connections.
    stop_http: CancellationToken,
    tls: Option<Tls>,
}

/// Serves until a signal or the death of a task, then stops.
///
/// `connection_runtime` is to be another runtime than the caller's: when thousands of connections want their turn at once, what
/// accepts and admits others does not queue behind them (15,000 dropped in one instant: TARGETS.md, "Connections").
///
/// # Errors
/// What kept it from starting, or from stopping cleanly.
pub async fn run(config: Config, connection_runtime: Handle) -> Result<(), ServeError> {
    let clock = Clock::system();
    let store = store::open(&config.database, clock.clone()).await?;
    let signals = Signals::new()?;
    raise_file_limit();
    let dev_mode = config.dev_mode();
    let is_clear_text = !config.listen.ip().to_canonical().is_loopback()
        && config.tls.is_none()
        && config.trusted_proxies.is_empty();
    let server = Server::start(config, store, clock, connection_runtime).await?;
    info!(address = %server.addr, tls = server.tls.is_some(), "listening");
    if is_clear_text {
        warn!(
            "credentials travel in clear text: set --tls-cert and --tls-key, or end TLS in a proxy and name it with --trusted-proxy"
        );
    }
    if dev_mode {
        warn!(
            "dev mode: no API key is set, anybody on this machine may manage rooms. Open {}://{}/",
            if server.tls.is_some() {
                "https"
            } else {
                "http"
            },
            server.addr
        );
    }
    server.serve_until(signals).await
}

impl Server {
    /// Starts a node on this store, and listens. Connections are tasks of the runtime given for them, which has to
    /// outlive the server.
    ///
    /// # Errors
    /// The store cannot be asked, or the address cannot be listened on.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
        connection_runtime: Handle,
    ) -> Result<Self, ServeError> {
        let config = Arc::new(config);
        let tls = config.tls.clone().map(Tls::new).transpose()?;
        let node = Node::start(Arc::clone(&config), store, clock).await?;
        let (listener, addr) = accept::listen(config.listen)?;
        let stop_http = CancellationToken::new();
        let doors = Doors::new(&config, sockets(), Arc::clone(&node.metrics));
        let reception = Reception {
            router: http::router(&node, doors.clone(), addr, connection_runtime.clone()),
            doors: doors.clone(),
            tls: tls.clone(),
            handshake_timeout: config.limits.handshake_timeout,
            connection_runtime: connection_runtime.clone(),
            stop: stop_http.clone(),
        };
        node.services.spawn(
            node.history
                .clone()
                .run(connection_runtime, stop_http.clone()),
        );
        node.services.spawn(doors.tidy(stop_http.clone()));
        let accept = accept::run(listener, reception, node.services.clone());
        node.services.spawn(accept);
        Ok(Self {
            node,
            addr,
            stop_http,
            tls,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The live rooms.
    pub fn hub(&self) -> &Hub {
        &self.node.hub
    }

    /// The flusher.
    pub fn flusher(&self) -> &Flusher {
        &self.node.flusher
    }

    async fn serve_until(self, mut signals: Signals) -> Result<(), ServeError> {
        let died = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break false,
                    Asked::Reload => self.reload().await,
                },
                () = self.node.stop.cancelled() => break true,
            }
        };
        info!("stopping");
        tokio::select! {
            stopped = self.shut_down() => stopped?,
            () = signals.stop() => {
                error!("second signal: ending at once");
                return Err(ServeError::Unclean);
            }
        }
        if died {
            Err(ServeError::TaskDied)
        } else {
            Ok(())
        }
    }

    /// Takes in renewed files, for connections to come. What is no good is logged, and what was there before stays.
    pub async fn reload(&self) {
        let Some(tls) = self.tls.clone() else {
            info!("SIGHUP: there is no certificate to read again");
            return;
        };
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok(())) => info!("SIGHUP: took in the certificate and its key"),
            Ok(Err(error)) => {
                error!(error = %chain(&error), "SIGHUP: keeping the certificate there was");
            }
            Err(error) => error!(%error, "SIGHUP: the certificate could not be read"),
        }
    }

    /// Drains, flushes and closes within the drain timeout.
    ///
    /// # Errors
    /// [`ServeError::Unclean`] if something was not written or did not end in time.
    pub async fn shut_down(self) -> Result<(), ServeError> {
        Ok(self.node.shut_down(&self.stop_http).await?)
    }
}

/// A socket is a file, and most systems allow 1,024 until asked for more.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "the limit of open files could not be raised");
    }
}

/// How many sockets this process may have: as many as files, but for the database's and the logs'.
fn sockets() -> Option<NonZeroUsize> {
    const OTHER_FILES: u64 = 256;
    let (files, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    let sockets = usize::try_from(files.saturating_sub(OTHER_FILES)).ok()?;
    NonZeroUsize::new(sockets)
}

/// SIGTERM and Ctrl-C; SIGHUP, which would end the process if nobody waited for it.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(ServeError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(ServeError::Signals)?,
            hangup: signal(SignalKind::hangup()).map_err(ServeError::Signals)?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}
