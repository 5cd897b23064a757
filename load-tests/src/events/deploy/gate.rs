//! Whether the server admits anybody, asked all the time over fresh connections.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::wire::Route;

/// How often it asks; the answer is not known better than that.
const EVERY: Duration = Duration::from_millis(5);
/// No answer for so long is a no.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a database may take to be taken over from a node that was killed.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// A task that asks `GET /readyz`. Dropping ends it.
#[derive(Debug)]
pub(super) struct Gate {
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    first_no: Option<Instant>,
    /// After the last no.
    yes: Option<Instant>,
}

/// From the first no to the first yes after the last no.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    pub from: Instant,
    pub until: Instant,
}

impl Gate {
    pub(super) fn watch(route: Route) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut task = JoinSet::new();
        task.spawn(keep_asking(route, Arc::clone(&seen)));
        Self { seen, _task: task }
    }

    /// Waits until the server admits; it had ended before this is called.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn open(&self) -> anyhow::Result<Outage> {
        let asked_at = Instant::now();
        timeout(OPEN_WITHIN, async {
            loop {
                let Seen { first_no, yes } = *self.seen.lock();
                if let Some(until) = yes.filter(|_| asked_at.elapsed() > EVERY * 4) {
                    let from = first_no.unwrap_or(until);
                    return Outage { from, until };
                }
                sleep(EVERY).await;
            }
        })
        .await
        .context("the server does not admit anybody again")
    }
}

async fn keep_asking(route: Route, seen: Arc<Mutex<Seen>>) {
    loop {
        let asked_at = Instant::now();
        let answer = timeout(PATIENCE, is_ready(&route)).await;
        let is_ready = matches!(answer, Ok(Ok(true)));
        {
            let mut seen = seen.lock();
            if is_ready {
                seen.yes.get_or_insert_with(Instant::now);
            } else {
                seen.first_no.get_or_insert(asked_at);
                seen.yes = None;
            }
        }
        sleep(EVERY).await;
    }
}

async fn is_ready(route: &Route) -> anyhow::Result<bool> {
    let mut stream = route.connect().await?;
    let head = format!(
        "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        route.to
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
