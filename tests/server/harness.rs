//! One harness for all tests: a real server on port 0 with a real SQLite file, real sockets, and a client that replays what it
//! is told on its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use rollcall::{
    clock::Clock,
    config::{Config, Secret},
    server::Server,
    store::{Store, sqlite::SqliteStore},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, runtime::Handle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use crate::replay::Replay;

/// Nothing that is to happen takes longer, or the test fails.
pub const SOON: Duration = Duration::from_secs(10);

/// A secret for HS256.
pub const JWT_SECRET: &str = "a secret of more than thirty-two bytes for tests";

/// A running server of this process.
pub struct TestServer {
    pub addr: SocketAddr,
    pub server: Server,
    pub config: Config,
    pub clock: Clock,
    pub dir: Arc<TempDir>,
}

/// A configuration with short times, port 0 and a JWT secret.
pub fn config() -> Config {
    let mut config = Config::default_dev();
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.flush_interval = Duration::from_millis(100);
    config.jwt_secret = Some(Secret::new(JWT_SECRET));
    config
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::over(config, Arc::new(TempDir::new().unwrap()), Clock::system()).await
    }

    /// A server over an existing folder: what a restart finds.
    pub async fn over(config: Config, dir: Arc<TempDir>, clock: Clock) -> Self {
        let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
        let store = Arc::new(SqliteStore::open(&url, clock.clone()).await.unwrap());
        Self::on(config, store, dir, clock).await
    }

    pub async fn on(
        config: Config,
        store: Arc<dyn Store>,
        dir: Arc<TempDir>,
        clock: Clock,
    ) -> Self {
        let server = Server::start(config.clone(), store, clock.clone(), Handle::current())
            .await
            .unwrap();
        Self {
            addr: server.addr(),
            server,
            config,
            clock,
            dir,
        }
    }

    /// Stops, and fails the test if anything was left (rule R10).
    pub async fn stop(self) {
        let hub = self.server.hub().clone();
        tokio::time::timeout(SOON, self.server.shut_down())
            .await
            .expect("the drain ends")
            .expect("nothing is left");
        drop(hub);
    }

    /// Stops and starts again on the same database.
    pub async fn restart(self) -> Self {
        let (config, dir, clock) = (
            self.config.clone(),
            Arc::clone(&self.dir),
            self.clock.clone(),
        );
        self.stop().await;
        Self::over(config, dir, clock).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(self.addr, Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        request(self.addr, Method::POST, path, &[], Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        request(self.addr, Method::PATCH, path, &[], Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        request(self.addr, Method::DELETE, path, &[], None).await
    }

    /// Makes a room.
    pub async fn room(&self, id: &str) {
        let answer = self.post("/v1/rooms", json!({"id": id})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    /// Makes an invite and answers its token.
    pub async fn invite(&self, room: &str) -> String {
        self.invite_with(room, json!({})).await
    }

    pub async fn invite_with(&self, room: &str, wish: Value) -> String {
        let answer = self.post(&format!("/v1/rooms/{room}/invites"), wish).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// Joins by an invite.
    pub async fn join(&self, invite: &str, name: &str) -> Client {
        self.connect(&format!("invite={invite}&name={name}")).await
    }

    /// Joins by whatever the query says.
    pub async fn connect(&self, query: &str) -> Client {
        self.try_connect(query)
            .await
            .unwrap_or_else(|refusal| panic!("refused: {} {}", refusal.status, refusal.body))
    }

    /// Joins, or answers the refusal.
    pub async fn try_connect(&self, query: &str) -> Result<Client, Answer> {
        let socket = open(
            self.addr,
            query,
            &[("sec-websocket-protocol", "rollcall.v1")],
        )
        .await?;
        Ok(Client::greeted(socket).await)
    }

    /// Flushes now.
    pub async fn flush(&self) {
        self.server.flusher().flush().await.unwrap();
    }

    /// The one row that a query finds in the database file, as text columns.
    pub async fn sql(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let path = self.dir.path().join("rollcall.db");
        sql(&format!("sqlite://{}", path.display()), query).await
    }
}

/// Runs a query on a database file as any other program would.
pub async fn sql(url: &str, query: &str) -> Vec<Vec<Option<String>>> {
    use sqlx::{Connection, Row, TypeInfo, ValueRef};
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    let rows = sqlx::query(sqlx::AssertSqlSafe(query.to_owned()))
        .fetch_all(&mut connection)
        .await
        .unwrap();
    let text = |row: &sqlx::sqlite::SqliteRow, at: usize| {
        let raw = row.try_get_raw(at).unwrap();
        if raw.is_null() {
            return None;
        }
        let kind = raw.type_info().name().to_owned();
        Some(if kind == "INTEGER" {
            row.get::<i64, _>(at).to_string()
        } else {
            row.get::<String, _>(at)
        })
    };
    let table = rows
        .iter()
        .map(|row| (0..row.len()).map(|at| text(row, at)).collect())
        .collect();
    connection.close().await.unwrap();
    table
}

/// Opens a WebSocket with the given headers, or answers the HTTP refusal.
pub async fn open(
    addr: SocketAddr,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Answer> {
    let mut request = format!("ws://{addr}/v1/connect?{query}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(addr).await.unwrap();
    let config = WebSocketConfig::default().read_buffer_size(4096);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let status = response.status();
            let headers = response.headers().clone();
            let body = response.body().clone().unwrap_or_default();
            Err(Answer {
                status: status.as_u16(),
                headers,
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            })
        }
        Err(error) => panic!("{error}"),
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// One request on a connection of its own.
pub async fn request(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, addr.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let exchange = async {
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
            .unwrap();
        let (status, headers): (StatusCode, _) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::String(text));
        Answer {
            status: status.as_u16(),
            headers,
            body,
        }
    };
    tokio::select! {
        answer = exchange => answer,
        _ = connection => panic!("the server closed before it answered {path}"),
        () = tokio::time::sleep(SOON) => panic!("no answer to {path}"),
    }
}

/// Signs claims as the application would.
pub fn jwt(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(
        &jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256),
        claims,
        &key,
    )
    .unwrap()
}

/// An access token for an hour.
pub fn token_for(sub: &str, room: &str) -> String {
    let exp = Clock::system().now().as_millis() / 1000 + 3600;
    jwt(&json!({"sub": sub, "room": room, "exp": exp}))
}

/// A client that has been welcomed.
pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    pub welcome: Value,
    pub replay: Replay,
}

impl Client {
    pub async fn greeted(mut socket: WebSocketStream<TcpStream>) -> Self {
        let welcome = receive(&mut socket).await.expect("a welcome");
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let replay = Replay::new(&welcome);
        Self {
            socket,
            welcome,
            replay,
        }
    }

    pub fn id(&self) -> String {
        self.welcome["self"]["participant_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn resume_token(&self) -> String {
        self.welcome["self"]["resume_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn send(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// The next message; the replayer has applied it.
    pub async fn next(&mut self) -> Value {
        let message = receive(&mut self.socket)
            .await
            .unwrap_or_else(|close| panic!("closed: {close:?}"));
        self.replay.apply(&message);
        message
    }

    /// The next message of this type; others pass.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Reads until the roster names exactly these, in any order.
    pub async fn sees(&mut self, names: &[&str]) {
        let mut expected: Vec<&str> = names.to_vec();
        expected.sort_unstable();
        while self.replay.names() != expected {
            self.next().await;
        }
    }

    /// Everything that came before the answer to a heartbeat sent now.
    pub async fn quiet(&mut self) -> Vec<Value> {
        self.send(json!({"type": "heartbeat"})).await;
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message["type"] == "heartbeat_ack" {
                return before;
            }
            before.push(message);
        }
    }

    /// Reads up to the close and answers its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match receive(&mut self.socket).await {
                Ok(message) => self.replay.apply(&message),
                Err(close) => return close.map_or(1006, |close| close.code.into()),
            }
        }
    }

    pub async fn leave(mut self) {
        self.send(json!({"type": "leave"})).await;
        assert_eq!(self.closed().await, 1000);
    }

    /// Breaks the connection without a word.
    pub fn drop_dead(self) {
        drop(self.socket);
    }
}

/// The next JSON message, or the close.
pub async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Result<Value, Option<CloseFrame>> {
    let next = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    };
    tokio::time::timeout(SOON, next)
        .await
        .expect("a message in time")
}

/// A socket that answers nothing by itself: frames are read as bytes.
pub struct Raw {
    stream: TcpStream,
}

/// Upgrades by hand.
pub async fn raw(addr: SocketAddr, query: &str) -> Raw {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "GET /v1/connect?{query} HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Raw { stream }
}

impl Raw {
    /// Reads on without answering: whether a Ping came before a close with this code.
    pub async fn saw_ping_then_close(&mut self, code: u16) -> bool {
        let mut pinged = false;
        loop {
            let (opcode, payload) = tokio::time::timeout(SOON, self.frame()).await.unwrap();
            match opcode {
                9 => pinged = true,
                8 => return pinged && payload.starts_with(&code.to_be_bytes()),
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        use tokio::io::AsyncReadExt;
        let first = self.stream.read_u8().await.unwrap();
        let length = match self.stream.read_u8().await.unwrap() {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        (first & 0x0f, payload)
    }
}
