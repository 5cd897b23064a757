//! People who join while it is quiet, and while it is not: as they should, at fixed times, from an address of their own.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    client::{Arrival, Client},
    fault::Fault,
    measure::latency::{Latency, Summary},
    tally::Tally,
    wire::Route,
};

/// Five a second.
const EVERY: Duration = Duration::from_millis(200);
/// Who is not in by then, told to come back or not, was shut out.
const PATIENCE: Duration = Duration::from_secs(30);

/// Those who are to come.
#[derive(Debug)]
pub(super) struct Newcomers {
    pub(super) route: Route,
    /// What lets each in, in turn.
    pub(super) queries: Vec<String>,
    pub(super) tally: Arc<Tally>,
}

/// How they fared in one stretch.
#[derive(Debug)]
pub(super) struct Fared {
    /// From when they were due to the welcome.
    pub(super) joins: Summary,
    pub(super) came: u64,
    pub(super) let_in: u64,
    /// How often one was told to come back later, and did.
    pub(super) sent_away: u64,
}

impl Newcomers {
    /// Lets them come for so long, and waits for the last.
    pub(super) async fn come(&self, lasts: Duration) -> Fared {
        let (began, joins) = (Instant::now(), Arc::new(Latency::default()));
        let (mut under_way, mut due) = (JoinSet::new(), began);
        while due < began + lasts {
            sleep_until(due).await;
            let query = self.queries[under_way.len() % self.queries.len()].clone();
            let newcomer = Newcomer {
                route: self.route,
                query,
                due,
                tally: Arc::clone(&self.tally),
                joins: Arc::clone(&joins),
            };
            under_way.spawn(newcomer.join());
            due += EVERY;
        }
        let came = under_way.len() as u64;
        let fates = under_way.join_all().await;
        Fared {
            joins: joins.take(),
            came,
            let_in: fates.iter().filter(|fate| fate.is_some()).count() as u64,
            sent_away: fates.into_iter().flatten().sum(),
        }
    }
}

struct Newcomer {
    route: Route,
    query: String,
    due: Instant,
    tally: Arc<Tally>,
    joins: Arc<Latency>,
}

impl Newcomer {
    /// Joins and leaves; how often it was told to come back, or `None` if it never got in.
    async fn join(self) -> Option<u64> {
        match timeout(PATIENCE, self.persist()).await {
            Ok(Ok(sent_away)) => Some(sent_away),
            Ok(Err(error)) => {
                let text = format!("a newcomer: {error:#}");
                self.tally.fault(Fault::Refused, text);
                None
            }
            Err(_) => {
                let text = format!("a newcomer within {PATIENCE:?}");
                self.tally.fault(Fault::Unanswered, text);
                None
            }
        }
    }

    /// Comes back when asked to, as browsers do.
    async fn persist(&self) -> anyhow::Result<u64> {
        let mut sent_away = 0;
        loop {
            let refusal = match Client::enter(&self.route, &self.query, &self.tally).await? {
                Arrival::In(client) => {
                    self.joins.record(self.due.elapsed());
                    client.leave().await?;
                    return Ok(sent_away);
                }
                Arrival::Closed(code) => anyhow::bail!("closed with {code} before the welcome"),
                Arrival::Refused(refusal) => refusal,
            };
            let wait = refusal.retry_after_ms.map(Duration::from_millis);
            match wait.filter(|_| matches!(refusal.status, 429 | 503)) {
                Some(wait) => sleep(wait).await,
                None => anyhow::bail!("{refusal:?}"),
            }
            sent_away += 1;
        }
    }
}
