//! The server's management API and metrics, over one connection that is kept.

mod metrics;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1::SendRequest, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

pub use self::metrics::Metrics;
use crate::{
    message::Person,
    roster::{Id, Roster},
};

/// People on a page; the most that may be asked for.
const PAGE: usize = 1000;

/// The server ends a connection that is idle for 10 s; sooner than that we take a new one.
const FRESH: Duration = Duration::from_secs(5);

/// A connection to the API, renewed as needed.
#[derive(Debug)]
pub struct Api {
    addr: SocketAddr,
    key: Option<String>,
    sender: SendRequest<Full<Bytes>>,
    used_at: Instant,
    _connection: JoinSet<()>,
}

/// Everybody who ever joined a room, as far as a check needs it.
#[derive(Debug, Deserialize)]
pub struct Participant {
    /// The participant.
    pub id: String,
    /// Has a seat, grace included.
    pub online: bool,
    /// When it was last seen.
    pub last_seen_at: String,
    /// When it left; none while it is active.
    pub left_at: Option<String>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Participant>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Page<'a> {
    seq: u64,
    occupancy: u64,
    #[serde(borrow)]
    items: Vec<Person<'a>>,
    next_cursor: Option<String>,
}

/// Who is in a room, as the server has it, and as of which frame.
#[derive(Debug)]
pub struct Present {
    /// Of the last presence frame.
    pub seq: u64,
    /// How many.
    pub occupancy: u64,
    /// Who.
    pub roster: Roster,
}

/// An invite, shown once.
#[derive(Debug, Deserialize)]
pub struct Invite {
    /// What it is revoked by.
    pub id: String,
    /// What lets people in.
    pub token: String,
}

impl Api {
    /// Connects to a server that asks for no key.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(addr: SocketAddr) -> anyhow::Result<Self> {
        Self::with_key(addr, None).await
    }

    /// Connects, with an API key if the server wants one.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn with_key(addr: SocketAddr, key: Option<String>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Whoever asks next is told.
            let _ = connection.await;
        });
        Ok(Self {
            addr,
            key,
            sender,
            used_at: Instant::now(),
            _connection: task,
        })
    }

    /// Whether the server is able to admit.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn is_ready(&mut self) -> anyhow::Result<bool> {
        let (status, _) = self.send(Method::GET, "/readyz", None).await?;
        Ok(status.is_success())
    }

    /// Makes a room and an invite into it, and answers the invite's token.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn make_room(&mut self, id: &str) -> anyhow::Result<String> {
        self.make_room_of(json!({ "id": id })).await
    }

    /// Makes a room with these settings, `id` among them, and an invite into it, and answers the invite's token.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn make_room_of(&mut self, settings: Value) -> anyhow::Result<String> {
        let path = format!(
            "/v1/rooms/{}/invites",
            settings["id"].as_str().context("a room without an id")?
        );
        self.ask(Method::POST, "/v1/rooms", Some(settings)).await?;
        self.made_token(&path, json!({})).await
    }

    /// Makes an invite with these settings into a room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn invite(&mut self, room: &str, settings: Value) -> anyhow::Result<Invite> {
        let path = format!("/v1/rooms/{room}/invites");
        let answer = self.ask(Method::POST, &path, Some(settings)).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Revokes an invite.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn revoke(&mut self, invite: &str) -> anyhow::Result<()> {
        let path = format!("/v1/invites/{invite}");
        self.ask(Method::DELETE, &path, None).await.map(drop)
    }

    /// Has the reaper sweep now, and answers how many rooms it deleted.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn reap(&mut self) -> anyhow::Result<usize> {
        let answer = self.ask(Method::POST, "/v1/admin/reap", None).await?;
        let swept: Value = serde_json::from_slice(&answer)?;
        Ok(swept["rooms"].as_array().map_or(0, Vec::len))
    }

    /// Mints an access token for a user of a room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn mint(&mut self, room: &str, user: &str, ttl: Duration) -> anyhow::Result<String> {
        let path = format!("/v1/rooms/{room}/tokens");
        let wish = json!({ "sub": user, "name": user, "ttl_seconds": ttl.as_secs() });
        self.made_token(&path, wish).await
    }

    /// Closes a room, with everybody in it.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn close_room(&mut self, id: &str) -> anyhow::Result<()> {
        let path = format!("/v1/rooms/{id}");
        self.ask(Method::DELETE, &path, None).await.map(drop)
    }

    /// How many rooms are in the store.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn stored_rooms(&mut self) -> anyhow::Result<u64> {
        let stats: Value = self.read("/v1/admin/stats").await?;
        stats["rooms"]["stored"]
            .as_u64()
            .context("no number of stored rooms")
    }

    async fn made_token(&mut self, path: &str, wish: Value) -> anyhow::Result<String> {
        let answer = self.ask(Method::POST, path, Some(wish)).await?;
        let made: Value = serde_json::from_slice(&answer)?;
        let token = made["token"].as_str();
        Ok(token.context("made without a token")?.to_owned())
    }

    /// Who is in a room now, as the server has it.
    ///
    /// # Errors
    /// The server refuses, or says what it must not.
    pub async fn present(&mut self, room: &str) -> anyhow::Result<Roster> {
        let present = self.present_now(room).await?;
        Ok(present.context("there is no such room")?.roster)
    }

    /// The same, with the frame it is as of; `None`: there is no such room.
    ///
    /// # Errors
    /// The server refuses, or says what it must not.
    pub async fn present_now(&mut self, room: &str) -> anyhow::Result<Option<Present>> {
        let (mut roster, mut after) = (Roster::default(), String::new());
        loop {
            let path = format!("/v1/rooms/{room}/presence?limit={PAGE}{after}");
            let Some(answer) = self.look(&path).await? else {
                return Ok(None);
            };
            let page: Page<'_> = serde_json::from_slice(&answer)?;
            for person in &page.items {
                let id = Id::read(person.id).context("somebody without an id")?;
                anyhow::ensure!(!roster.insert(id, person), "{person:?} is on two pages");
            }
            let Some(cursor) = page.next_cursor else {
                return Ok(Some(Present {
                    seq: page.seq,
                    occupancy: page.occupancy,
                    roster,
                }));
            };
            after = format!("&cursor={cursor}");
        }
    }

    /// Everybody who ever joined a room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn participants(&mut self, room: &str) -> anyhow::Result<Vec<Participant>> {
        let everybody = self.participants_ever(room).await?;
        everybody.context("there is no such room")
    }

    /// The same; `None`: there is no such room.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn participants_ever(
        &mut self,
        room: &str,
    ) -> anyhow::Result<Option<Vec<Participant>>> {
        let (mut everybody, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/rooms/{room}/participants?limit={PAGE}{after}");
            let Some(answer) = self.look(&path).await? else {
                return Ok(None);
            };
            let page: List = serde_json::from_slice(&answer)?;
            everybody.extend(page.items);
            match page.next_cursor {
                Some(cursor) => after = format!("&cursor={cursor}"),
                None => return Ok(Some(everybody)),
            }
        }
    }

    /// The metrics.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn metrics(&mut self) -> anyhow::Result<Metrics> {
        let text = self.ask(Method::GET, "/metrics", None).await?;
        Ok(Metrics::read(&String::from_utf8_lossy(&text)))
    }

    async fn read<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(
            &self.ask(Method::GET, path, None).await?,
        )?)
    }

    /// What is at a path; `None`: nothing.
    async fn look(&mut self, path: &str) -> anyhow::Result<Option<Bytes>> {
        let (status, body) = self.send(Method::GET, path, None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status => succeeded(path, status, body).map(Some),
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Bytes> {
        let (status, body) = self.send(method, path, body).await?;
        succeeded(path, status, body)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        if self.used_at.elapsed() > FRESH || self.sender.ready().await.is_err() {
            *self = Self::with_key(self.addr, self.key.clone()).await?;
        }
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.addr.to_string());
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = self
            .sender
            .send_request(request.body(Full::new(body.into()))?)
            .await;
        let (head, body) = response
            .with_context(|| format!("no answer to {path}"))?
            .into_parts();
        let body = body.collect().await?.to_bytes();
        self.used_at = Instant::now();
        Ok((head.status, body))
    }
}

fn succeeded(path: &str, status: StatusCode, body: Bytes) -> anyhow::Result<Bytes> {
    anyhow::ensure!(
        status.is_success(),
        "{path}: {status} {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}
