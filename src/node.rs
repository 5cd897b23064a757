//! One node without its HTTP: builds the parts, and owns the order in which they start, drain and stop.
//!
//! Start: take the database over, restore the seats the previous node left. Stop: refuse joins, tell every connection to
//! come back, wait for them, flush last, close the store; all under one deadline (rule R10). Transport comes from outside:
//! [`server`](crate::server) brings sockets, simulations bring memory.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    admission::{AccessTokens, Admission, Admitted, Parts as AdmissionParts, ResumeKey, Worker},
    backoff::jittered,
    clock::Clock,
    config::Config,
    connection::{self, Deps, websocket_config},
    flusher::Flusher,
    history::History,
    hub::Hub,
    metrics::Metrics,
    reaper::{ReapTerms, Reaper},
    store::{ReapCriteria, Store, StoreError},
    telemetry::chain,
};

/// How often a second node asks whether it may take over.
const TAKE_OVER_EVERY: Duration = Duration::from_millis(500);
/// The part of the drain timeout after which connections are cut.
const PATIENCE: f64 = 0.8;
/// The last flush may take this long beyond the drain.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// How soon the last flush is tried again on what others have locked.
const FLUSH_AGAIN: Duration = Duration::from_millis(200);

/// Whether the node takes part, and if not, why.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

/// The states of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Another node serves this database.
    Standby,
    /// Serving.
    Ready,
    /// Going away.
    Draining,
}

impl Readiness {
    /// Moves to a state. A node that is going away stays so.
    pub fn set(&self, state: State) {
        self.0.fetch_max(state as u8, Ordering::SeqCst);
    }

    /// The state now.
    pub fn get(&self) -> State {
        match self.0.load(Ordering::SeqCst) {
            0 => State::Standby,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}

/// Something was not written, or did not end in time; the log says what.
#[derive(Debug, thiserror::Error)]
#[error("the node did not stop cleanly")]
pub struct Unclean;

/// A running node.
pub struct Node {
    /// The options.
    pub config: Arc<Config>,
    /// The live rooms.
    pub hub: Hub,
    /// The database.
    pub store: Arc<dyn Store>,
    /// Decides joins.
    pub admission: Admission,
    /// Writes what is dirty.
    pub flusher: Flusher,
    /// Deletes what is idle.
    pub reaper: Reaper,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The last hour, once it is told where connections run.
    pub history: History,
    /// Wall time.
    pub clock: Clock,
    /// What connections need.
    pub deps: Arc<Deps>,
    /// Whether joins are decided at the moment.
    pub readiness: Arc<Readiness>,
    /// Connections, from the first byte of the upgrade to the last of the close.
    pub connections: TaskTracker,
    /// Everything else.
    pub services: TaskTracker,
    /// Ends the services, and is ended by one that dies.
    pub stop: CancellationToken,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("readiness", &self.readiness)
            .field("connections", &self.connections.len())
            .field("services", &self.services.len())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Starts a node on this store. While another serves the database it waits, and takes over when it may.
    ///
    /// # Errors
    /// The store cannot be asked.
    pub async fn start(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(&config, store.clock().clone(), Arc::clone(&metrics));
        let flusher = Flusher::new(
            hub.clone(),
            Arc::clone(&store),
            Arc::clone(&metrics),
            config.flush_interval,
        );
        let reaper = reaper(&config, &hub, &store, &flusher, &metrics);
        let (tokens, jwks) = AccessTokens::new(&config, clock.clone(), &metrics);
        let parts = AdmissionParts {
            hub: hub.clone(),
            flusher: flusher.clone(),
            metrics: Arc::clone(&metrics),
            tokens,
            clock: clock.clone(),
            resume_key: ResumeKey::new(&store.signing_key().await?),
            defaults: config.room_defaults(),
            queue: config.limits.join_queue,
        };
        let (admission, worker) = Admission::new(Arc::clone(&store), parts);
        let deps = Arc::new(Deps {
            config: Arc::clone(&config),
            admission: admission.clone(),
            metrics: Arc::clone(&metrics),
            cut: CancellationToken::new(),
            breaking: Semaphore::new(connection::BREAKING),
        });
        let node = Self {
            history: History::new(hub.clone(), Arc::clone(&metrics), clock.clone()),
            config,
            hub,
            store,
            admission,
            flusher,
            reaper,
            metrics,
            clock,
            deps,
            readiness: Arc::default(),
            connections: TaskTracker::new(),
            services: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let is_ours = node.charge().take_over().await?;
        if !is_ours {
            info!("another node serves this database; waiting for it to stop");
        }
        node.spawn_services(worker, is_ours);
        if let Some(jwks) = jwks {
            node.spawn_service(jwks.run());
        }
        Ok(node)
    }

    fn charge(&self) -> Charge {
        Charge {
            config: Arc::clone(&self.config),
            store: Arc::clone(&self.store),
            hub: self.hub.clone(),
            reaper: self.reaper.clone(),
            readiness: Arc::clone(&self.readiness),
        }
    }

    fn spawn_services(&self, worker: Worker, is_ours: bool) {
        let hub = self.hub.clone();
        self.spawn_service(async move {
            hub.run_agenda().await;
        });
        self.spawn_service(worker.run());
        let (charge, flusher, reaper) = (self.charge(), self.flusher.clone(), self.reaper.clone());
        let stop = self.stop.clone();
        self.spawn_service(async move {
            if !is_ours {
                charge.wait().await;
            }
            // The flusher ends by itself when another node has taken over; then this one must not serve.
            tokio::select! {
                () = flusher.run(stop.clone()) => {}
                () = reaper.run(stop) => {}
            }
        });
    }

    /// Runs a service until stopped. One that ends by itself, or panics, takes the node down.
    fn spawn_service(&self, service: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let guard = stop.clone().drop_guard();
        self.services.spawn(async move {
            let _guard = guard;
            stop.run_until_cancelled(service).await;
        });
    }

    /// Serves an admitted client on a transport on which the upgrade has been done.
    pub async fn seat<S>(&self, transport: S, admitted: Admitted)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = Some(websocket_config(&self.config));
        let socket = WebSocketStream::from_raw_socket(transport, Role::Server, config).await;
        let connection = connection::run(socket, admitted, Arc::clone(&self.deps));
        self.connections.spawn(connection);
    }

    /// Drains, flushes and closes within the drain timeout. `listener` is cancelled once no connection is left: until
    /// then it is to go on answering that the node is going away.
    ///
    /// # Errors
    /// Something was not written or did not end in time.
    pub async fn shut_down(self, listener: &CancellationToken) -> Result<(), Unclean> {
        let is_ours = self.readiness.get() == State::Ready;
        let ended = timeout(self.config.drain_timeout, self.drain(listener)).await;
        if ended.is_err() {
            error!(
                connections = self.connections.len(),
                tasks = self.services.len(),
                "not everything ended within the drain timeout"
            );
        }
        listener.cancel();
        self.stop.cancel();
        let flushed = self.flush_last(is_ours).await;
        self.store.close().await;
        if ended.is_ok() && flushed {
            Ok(())
        } else {
            Err(Unclean)
        }
    }

    /// Joins are refused from here on, and everybody is told to come back.
    async fn drain(&self, listener: &CancellationToken) {
        self.readiness.set(State::Draining);
        self.hub.drain();
        self.connections.close();
        // A client that does not take its goodbye must not cost the whole node its clean end.
        let patience = self.config.drain_timeout.mul_f64(PATIENCE);
        if timeout(patience, self.connections.wait()).await.is_err() {
            warn!(
                connections = self.connections.len(),
                "cutting connections that do not end"
            );
            self.deps.cut.cancel();
            self.connections.wait().await;
        }
        listener.cancel();
        self.stop.cancel();
        self.services.close();
        self.services.wait().await;
    }

    /// Flushes until nothing is left, not even what somebody else has locked.
    async fn flush_all(&self) -> Result<(), StoreError> {
        loop {
            self.flusher.flush().await?;
            if self.flusher.backlog().await == 0 {
                return Ok(());
            }
            tokio::time::sleep(FLUSH_AGAIN).await;
        }
    }

    /// Writes what is left. A store that is away gets a few seconds more, then what is lost is logged.
    async fn flush_last(&self, is_ours: bool) -> bool {
        if !is_ours {
            return true;
        }
        match timeout(LAST_FLUSH, self.flush_all()).await {
            Ok(Ok(())) => {}
            _ => {
                let rows = self.flusher.backlog().await;
                error!(
                    rows,
                    "the last flush failed: the last-seen of these participants is lost"
                );
                return false;
            }
        }
        match timeout(LAST_FLUSH, self.store.stop()).await {
            Ok(Ok(())) => true,
            _ => {
                warn!("the node could not be marked as stopped");
                true
            }
        }
    }
}

/// What it takes to take the database over.
struct Charge {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    hub: Hub,
    reaper: Reaper,
    readiness: Arc<Readiness>,
}

impl Charge {
    /// Takes over, if no other node serves.
    async fn take_over(&self) -> Result<bool, StoreError> {
        let Some(restored) = self.store.take_over(self.config.node_terms()).await? else {
            return Ok(false);
        };
        self.hub.restore(&restored);
        self.reaper.open();
        if !restored.seats.is_empty() {
            info!(
                seats = restored.seats.len(),
                rooms = restored.rooms.len(),
                "restored the seats of the previous node"
            );
        }
        self.readiness.set(State::Ready);
        Ok(true)
    }

    /// Waits for the previous node to go.
    async fn wait(&self) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(jittered(TAKE_OVER_EVERY)).await;
            match self.take_over().await {
                Ok(true) => {
                    info!("took the database over");
                    return;
                }
                Ok(false) => is_failing = false,
                Err(error) if !is_failing => {
                    warn!(
                        error = %chain(&error),
                        "cannot see whether the other node still serves; going on trying"
                    );
                    is_failing = true;
                }
                Err(_) => {}
            }
        }
    }
}

fn reaper(
    config: &Config,
    hub: &Hub,
    store: &Arc<dyn Store>,
    flusher: &Flusher,
    metrics: &Arc<Metrics>,
) -> Reaper {
    let terms = ReapTerms {
        criteria: ReapCriteria {
            min_age: config.reap_min_age,
            below_participants: config.reap_below_participants,
        },
        keep_departed: config.departed_retention,
        interval: config.reap_interval,
        quiet: config.heartbeat_interval,
    };
    Reaper::new(
        hub.clone(),
        Arc::clone(store),
        flusher.clone(),
        Arc::clone(metrics),
        terms,
    )
}
