//! A web server with a JWKS that behaves as it is told.

use std::sync::Arc;

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use rollcall::admission::JwksSource;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// How it answers.
#[derive(Debug, Clone)]
pub enum Manner {
    /// With these keys.
    Keys(Vec<Value>),
    /// With this body.
    Body(String),
    /// With this status, and a place to go to.
    Redirect(u16, String),
    /// With a fault of its own.
    Broken,
    /// Not at all: it takes the request and says nothing.
    Hangs,
    /// It closes the connection.
    Down,
}

/// The server. It ends when dropped.
pub struct KeyServer {
    address: String,
    manner: watch::Sender<Manner>,
    asked: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl KeyServer {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let (manner, manners) = watch::channel(manner);
        let (count, asked) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (manners, count) = (manners.clone(), Arc::clone(&count));
                if matches!(*manners.borrow(), Manner::Down) {
                    count.send_modify(|count| *count += 1);
                    continue;
                }
                let service = service_fn(move |_: Request<Incoming>| {
                    count.send_modify(|count| *count += 1);
                    let manner = manners.borrow().clone();
                    async move { Ok::<_, std::convert::Infallible>(answer(manner).await) }
                });
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away in the middle is none of a test's business.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            manner,
            asked,
            _tasks: tasks,
        }
    }

    pub fn source(&self) -> JwksSource {
        JwksSource::parse(&self.address).unwrap()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on it answers like this.
    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until it was asked so often.
    pub async fn was_asked(&mut self, times: usize) {
        self.asked.wait_for(|asked| *asked >= times).await.unwrap();
    }
}

async fn answer(manner: Manner) -> Response<Full<Bytes>> {
    let answer = Response::builder();
    match manner {
        Manner::Keys(keys) => answer
            .header(header::CONTENT_TYPE, "application/json")
            .body(json!({ "keys": keys }).to_string().into()),
        Manner::Body(body) => answer.body(body.into()),
        Manner::Redirect(status, to) => answer
            .status(status)
            .header(header::LOCATION, to)
            .body(Full::default()),
        Manner::Broken => answer.status(500).body(Full::default()),
        Manner::Hangs | Manner::Down => std::future::pending().await,
    }
    .unwrap()
}
