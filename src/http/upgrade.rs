//! The upgrade: a 101, and a socket taken back from hyper, to be seated or to be refused by a close.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::FutureExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rollcall_protocol::{Problem, ProblemCode, SUBPROTOCOL};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

use super::App;
use crate::{
    admission::Admitted,
    connection::{self, websocket_config},
    doors::Hold,
};

/// From the 101 to the raw socket, and from a refusal's close frame to the peer's.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(5);

/// Answers 101 and gives the connection a small task of its own on the raw socket and on the runtime of connections; what
/// hyper keeps for the handshake ends here.
pub(super) fn seat(
    app: &App,
    admitted: Admitted,
    hold: Hold,
    key: &HeaderValue,
    request: &mut Request,
) -> Response {
    let upgraded = hyper::upgrade::on(&mut *request);
    let app = app.clone();
    app.tracker.clone().spawn(async move {
        // Dropping `admitted` here is the departure of somebody whose upgrade failed (rule R3).
        match transport(upgraded).await {
            Some(Transport::Plain(stream, read)) => match moved(stream, &app.connection_runtime) {
                Ok(stream) => serve(&app, stream, &read, admitted, hold).await,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be handed over");
                }
            },
            Some(Transport::Tls(stream, read)) => serve(&app, stream, &read, admitted, hold).await,
            None => {}
        }
    });
    switching(key, request.headers())
}

async fn serve<S>(app: &App, stream: S, read: &Bytes, admitted: Admitted, hold: Hold)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = websocket(app, stream, read).await;
    let connection = connection::run(socket, admitted, Arc::clone(&app.deps));
    app.tracker
        .spawn_on(holding(hold, connection), &app.connection_runtime);
}

/// A future that keeps something until it has ended or is dropped.
///
/// An `async` block would keep the future twice, as given and as awaited: a kilobyte for each connection.
fn holding<G, F: Future<Output = ()>>(guard: G, future: F) -> impl Future<Output = ()> {
    future.map(move |()| drop(guard))
}

/// Upgrades only to close with the problem's code, for pages that cannot ask twice. Never takes a seat.
pub(super) fn refuse(
    app: &App,
    problem: &Problem,
    hold: Hold,
    key: &HeaderValue,
    request: &mut Request,
) -> Response {
    let upgraded = hyper::upgrade::on(&mut *request);
    let frame = CloseFrame {
        code: problem.code.close_code().into(),
        reason: problem.code.as_str().into(),
    };
    let (app, tracker) = (app.clone(), app.tracker.clone());
    tracker.spawn(async move {
        let _hold = hold;
        match transport(upgraded).await {
            Some(Transport::Plain(stream, read)) => {
                part(websocket(&app, stream, &read).await, frame).await;
            }
            Some(Transport::Tls(stream, read)) => {
                part(websocket(&app, stream, &read).await, frame).await;
            }
            None => {}
        }
    });
    let mut response = switching(key, request.headers());
    if let Some(offer) = first_plain_offer(request.headers())
        .filter(|_| problem.code == ProblemCode::UnsupportedProtocol)
    {
        // Browsers drop a socket whose offers all went unanswered, and the page would never see the code.
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, offer);
    }
    response
}

async fn part<S>(mut socket: WebSocketStream<S>, frame: CloseFrame)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let parting = async {
        socket.close(Some(frame)).await?;
        while let Some(Ok(_)) = futures::StreamExt::next(&mut socket).await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    // A peer that does not answer the close gets no more than this.
    let _ = timeout(UPGRADE_DEADLINE, parting).await;
}

/// The first offer that carries no credential.
fn first_plain_offer(headers: &HeaderMap) -> Option<HeaderValue> {
    let offers = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let plain = offers
        .split(',')
        .map(str::trim)
        .find(|offer| !offer.starts_with("rollcall."))?;
    HeaderValue::from_str(plain).ok()
}

/// What the peer is reached by, with what hyper has read beyond the request.
enum Transport {
    Plain(TcpStream, Bytes),
    /// Belongs to the runtime of connections from its first byte on.
    Tls(Box<TlsStream<TcpStream>>, Bytes),
}

/// Takes the transport back from hyper, so that no buffer of its own stays.
async fn transport(upgraded: OnUpgrade) -> Option<Transport> {
    let upgraded = timeout(UPGRADE_DEADLINE, upgraded).await.ok()?.ok()?;
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Some(Transport::Plain(parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => tls(upgraded),
    }
}

fn tls(upgraded: Upgraded) -> Option<Transport> {
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    Some(Transport::Tls(
        Box::new(parts.io.into_inner()),
        parts.read_buf,
    ))
}

async fn websocket<S>(app: &App, stream: S, read: &Bytes) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Some(websocket_config(&app.config));
    WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, config).await
}

/// A socket wakes its task through the runtime it was registered with.
pub(crate) fn moved(stream: TcpStream, runtime: &Handle) -> std::io::Result<TcpStream> {
    let stream = stream.into_std()?;
    let _entered = runtime.enter();
    TcpStream::from_std(stream)
}

fn switching(key: &HeaderValue, headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offers = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if offers
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL)
    {
        answer.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use std::mem::size_of_val;

    use super::*;

    #[tokio::test]
    async fn what_is_held_costs_its_own_size_and_goes_with_the_future() {
        let guard = Arc::new(());
        let mine = Arc::clone(&guard);
        let connection = async {
            let state = [1u8; 700];
            tokio::task::yield_now().await;
            assert_eq!(std::hint::black_box(state).len(), 700);
        };
        let own = size_of_val(&connection);
        let held = holding(guard, connection);
        assert!(
            size_of_val(&held) <= own + 2 * size_of::<Arc<()>>(),
            "{} bytes of {own}",
            size_of_val(&held)
        );
        held.await;
        assert_eq!(Arc::strong_count(&mine), 1, "ended");
        drop(holding(Arc::clone(&mine), std::future::pending()));
        assert_eq!(Arc::strong_count(&mine), 1, "dropped");
    }
}
