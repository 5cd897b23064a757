//! A server to measure: ours, or the floor.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::time::{sleep, timeout};

use crate::{
    api::Api,
    crowd::Ticket,
    fault::Faults,
    floor::Floor,
    measure::process::Process,
    options::Common,
    population::{Names, invites},
    server::Server,
    tally::Tally,
};

/// One that was killed keeps the database for a while.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often a server is asked until then.
const LOOK: Duration = Duration::from_millis(50);

/// Which.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Rollcall,
    Floor,
}

/// A fresh server.
#[derive(Debug)]
pub(super) struct Subject {
    running: Running,
    names: Names,
}

#[derive(Debug)]
enum Running {
    Rollcall(Server),
    Floor(Floor),
}

impl Subject {
    /// From the main thread only (see [`crate::child`]).
    pub(super) async fn start(
        kind: Kind,
        common: &Common,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let running = match kind {
            Kind::Rollcall => Running::Rollcall(ready(Server::start(common, flags).await?).await?),
            Kind::Floor => Running::Floor(Floor::start().await?),
        };
        Ok(Self {
            running,
            names: Names::fresh(),
        })
    }

    /// What lets so many people into rooms of `room`.
    pub(super) async fn tickets(
        &self,
        connections: usize,
        room: usize,
    ) -> anyhow::Result<Vec<Ticket>> {
        let rooms = connections.div_ceil(room);
        let invites = match &self.running {
            Running::Rollcall(server) => invites(server, self.names, rooms).await?,
            Running::Floor(_) => vec!["none".to_owned(); rooms],
        };
        let ticket = |at: usize| Ticket {
            room: at / room,
            query: self.names.guest(&invites[at / room], at),
        };
        Ok((0..connections).map(ticket).collect())
    }

    pub(super) fn addr(&self) -> SocketAddr {
        match &self.running {
            Running::Rollcall(server) => server.addr(),
            Running::Floor(floor) => floor.addr(),
        }
    }

    pub(super) fn process(&self) -> Process {
        match &self.running {
            Running::Rollcall(server) => server.process(),
            Running::Floor(floor) => floor.process(),
        }
    }

    /// Seconds that its flushes have taken together, and how many there were; the floor has none.
    pub(super) async fn flushes(&self) -> anyhow::Result<(f64, u64)> {
        match &self.running {
            Running::Rollcall(server) => {
                let mut api = Api::connect(server.addr()).await?;
                Ok(api.metrics().await?.flushes())
            }
            Running::Floor(_) => Ok((0.0, 0)),
        }
    }

    /// The flags it runs with.
    pub(super) fn flags(&self) -> String {
        match &self.running {
            Running::Rollcall(server) => server.flags(),
            Running::Floor(_) => String::new(),
        }
    }

    /// Ends it; what it logged as an error is a fault.
    pub(super) async fn end(self, tally: &Tally) -> anyhow::Result<()> {
        let mut faults = Faults::default();
        if let Running::Rollcall(server) = self.running {
            server.end(&mut faults).await?;
        }
        tally.with_faults(|all| all.merge(faults));
        Ok(())
    }
}

async fn ready(server: Server) -> anyhow::Result<Server> {
    let asking = async {
        while !Api::connect(server.addr()).await?.is_ready().await? {
            sleep(LOOK).await;
        }
        anyhow::Ok(())
    };
    timeout(READY_WITHIN, asking).await.context("not ready")??;
    Ok(server)
}
