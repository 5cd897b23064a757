//! Strangers at the door: fresh connections at fixed times, however slow the server is.
//!
//! Each is timed from when it was due, so that one stall is felt by all who would have come during it.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    client::{Arrival, Client},
    fault::Fault,
    measure::latency::Latency,
    tally::Tally,
    wire::Route,
};

/// How often `GET /healthz` is asked over a fresh connection.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often somebody joins and leaves.
const JOIN_EVERY: Duration = Duration::from_millis(20);
/// A server that answers nobody for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Probes under way. Dropping ends them.
#[derive(Debug)]
pub struct Prober {
    found: Arc<Found>,
    _task: JoinSet<()>,
}

/// What probes found.
#[derive(Debug)]
struct Found {
    route: Route,
    /// The query to join with; `None`: nobody joins.
    query: Option<String>,
    accepts: Latency,
    joins: Latency,
    tally: Arc<Tally>,
}

impl Prober {
    /// Begins; `query` is an invite's, each use of which makes a new participant.
    pub fn begin(route: Route, query: Option<String>, tally: &Arc<Tally>) -> Self {
        let found = Arc::new(Found {
            route,
            query,
            accepts: Latency::default(),
            joins: Latency::default(),
            tally: Arc::clone(tally),
        });
        let mut task = JoinSet::new();
        task.spawn(keep_probing(Arc::clone(&found)));
        Self { found, _task: task }
    }

    /// From the TCP connect to the first bytes of the answer to `GET /healthz`.
    pub fn accepts(&self) -> &Latency {
        &self.found.accepts
    }

    /// From the TCP connect to the welcome.
    pub fn joins(&self) -> &Latency {
        &self.found.joins
    }
}

async fn keep_probing(found: Arc<Found>) {
    let mut under_way = JoinSet::new();
    let began = Instant::now();
    let (mut look_at, mut join_at) = (began, began);
    loop {
        sleep_until(look_at.min(join_at)).await;
        while under_way.try_join_next().is_some() {}
        let now = Instant::now();
        while look_at <= now {
            under_way.spawn(Arc::clone(&found).probe(look_at, false));
            look_at += LOOK_EVERY;
        }
        while join_at <= now {
            if found.query.is_some() {
                under_way.spawn(Arc::clone(&found).probe(join_at, true));
            }
            join_at += JOIN_EVERY;
        }
    }
}

impl Found {
    async fn probe(self: Arc<Self>, due: Instant, is_join: bool) {
        let probe = async {
            if is_join {
                self.join(due).await
            } else {
                self.look(due).await
            }
        };
        match timeout(PATIENCE, probe).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self
                .tally
                .fault(Fault::Unanswered, format!("a probe: {error:#}")),
            Err(_) => self
                .tally
                .fault(Fault::Unanswered, format!("a probe within {PATIENCE:?}")),
        }
    }

    async fn look(&self, due: Instant) -> anyhow::Result<()> {
        let mut stream = self.route.connect().await.context("cannot connect")?;
        let head = format!(
            "GET /healthz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.route.to
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = [0; 256];
        let read = stream.read(&mut answer).await?;
        self.accepts.record(due.elapsed());
        anyhow::ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "not healthy");
        // Until the server has closed: the ports that wait a minute are then its own, of which it has one.
        while stream.read(&mut answer).await? > 0 {}
        Ok(())
    }

    async fn join(&self, due: Instant) -> anyhow::Result<()> {
        let query = self.query.as_deref().context("nobody joins")?;
        match Client::enter(&self.route, query, &self.tally).await? {
            Arrival::In(client) => {
                self.joins.record(due.elapsed());
                client.leave().await
            }
            Arrival::Closed(code) => anyhow::bail!("closed with {code} before the welcome"),
            Arrival::Refused(refusal) => {
                self.tally.fault(Fault::Refused, format!("{refusal:?}"));
                Ok(())
            }
        }
    }
}
