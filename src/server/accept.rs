//! The listener: one task per TCP connection, until it is upgraded or closes.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    task::coop::unconstrained,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::ServeError;
use crate::{doors::Doors, http::upgrade::moved, tls::Tls};

/// The other end of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Connections the kernel may hold for us: a whole building comes back at once after a restart. Linux takes no more than
/// `net.core.somaxconn`.
const BACKLOG: u32 = 65_535;
/// What the kernel may hold unsent for one connection; Linux doubles it for its own needs. Left to itself it holds up to
/// 4 MB for a client that never reads, and it takes a minute to notice that none of it goes out.
const SEND_BUFFER: u32 = 32 * 1024;
/// Request line and headers together, as hyper buffers them; what it refuses gets a bare 431.
const MAX_HEAD: usize = 64 * 1024;
/// A connection that only speaks HTTP is asked to come anew after this, so that none is kept for ever by never quite ending.
const HTTP_LIFETIME: Duration = Duration::from_secs(300);
/// What an answer under way then has to be taken.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Out of file descriptors: wait for some to be closed, rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens; port 0 takes any.
pub(super) fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listener().map_err(|source| ServeError::Listen { address, source })
}

/// What a TCP connection is served with.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) router: Router,
    pub(super) doors: Doors,
    /// `None`: plain HTTP.
    pub(super) tls: Option<Tls>,
    pub(super) handshake_timeout: Duration,
    pub(super) connection_runtime: Handle,
    pub(super) stop: CancellationToken,
}

/// Accepts until stopped; each connection is a task of `tasks`.
pub(super) async fn run(listener: TcpListener, reception: Reception, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = reception.stop.cancelled() => return,
            // Everything that waits is taken before this task takes its turn with what it has spawned: the kernel drops
            // whom its queue has no room for, and they try again after a second.
            accepted = unconstrained(listener.accept()) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Who is beyond the limit is dropped: an answer would cost what is to be saved.
                let Ok(hold) = reception.doors.accept(peer.ip()) else {
                    continue;
                };
                let reception = reception.clone();
                tasks.spawn(async move {
                    reception.receive(stream, Peer(peer)).await;
                    drop(hold);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Reception {
    async fn receive(self, stream: TcpStream, peer: Peer) {
        // Frames are small and wanted at once.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no TCP_NODELAY");
        }
        match &self.tls {
            None => self.serve(stream, peer).await,
            Some(tls) => {
                if let Some(stream) = self.shake_hands(tls, stream).await {
                    self.serve(stream, peer).await;
                }
            }
        }
    }

    /// TLS cannot be taken apart again to move its socket to the runtime of connections, so it is of that one from the start.
    async fn shake_hands(&self, tls: &Tls, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let stream = moved(stream, &self.connection_runtime)
            .inspect_err(|error| warn!(%error, "a connection could not be handed over"))
            .ok()?;
        let patience = self.doors.patience(self.handshake_timeout);
        let shaken = timeout(patience, tls.acceptor().accept(stream)).await;
        shaken
            .inspect_err(|_| debug!("a TLS handshake took too long"))
            .ok()?
            .inspect_err(|error| debug!(%error, "a TLS handshake failed"))
            .ok()
    }

    async fn serve<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            self.router
                .clone()
                .oneshot(request.map(axum::body::Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.doors.patience(self.handshake_timeout))
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => Ok(served),
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                Ok(connection.await)
            }
            () = sleep(HTTP_LIFETIME) => {
                connection.as_mut().graceful_shutdown();
                timeout(LAST_ANSWER, connection).await
            }
        };
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "an HTTP connection broke"),
            Err(_) => debug!("an HTTP connection did not take its last answer"),
        }
    }
}
