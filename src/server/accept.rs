//! The listener: one task per TCP connection, until it is upgraded or closes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::coop::unconstrained,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::ServeError;

/// The other end of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Connections the kernel may hold for us: a whole building comes back at once after a restart. Linux takes no more than
/// `net.core.somaxconn`.
const BACKLOG: u32 = 65_535;
/// What the kernel may hold unsent for one connection; Linux doubles it for its own needs. Left to itself it holds up to
/// 4 MB for a client that never reads, and it takes a minute to notice that none of it goes out.
const SEND_BUFFER: u32 = 32 * 1024;
/// A request's head must arrive within this, on a fresh connection and on an idle one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Request line and headers together.
const MAX_HEAD: usize = 32 * 1024;
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

/// Accepts until stopped; each connection is a task of `tasks`.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    max: Option<usize>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(
        max.unwrap_or(Semaphore::MAX_PERMITS)
            .min(Semaphore::MAX_PERMITS),
    ));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            // Everything that waits is taken before this task takes its turn with what it has spawned: the kernel drops
            // whom its queue has no room for, and they try again after a second.
            accepted = unconstrained(listener.accept()) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Beyond the limit the connection is dropped: there is nothing left to answer with.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    continue;
                };
                let (router, stop) = (router.clone(), stop.clone());
                tasks.spawn(async move {
                    serve(stream, Peer(peer), router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: Peer, router: Router, stop: CancellationToken) {
    // Frames are small and wanted at once.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection broke");
    }
}
