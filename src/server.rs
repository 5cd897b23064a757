//! Builds the parts, and owns the order in which they start, drain and stop.
//!
//! Start: take the database over, restore the seats the previous node left, then listen. Stop: refuse joins, tell every
//! connection to come back, wait for them, flush last, close the store; all under one deadline (rule R10).

mod accept;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

pub(crate) use self::accept::Peer;
use crate::{
    admission::{AccessTokens, Admission, Parts as AdmissionParts, ResumeKey, Worker},
    backoff::jittered,
    clock::Clock,
    config::Config,
    connection::Deps,
    flusher::Flusher,
    http::{self, Parts, Readiness, State, api::default_settings},
    hub::Hub,
    metrics::Metrics,
    reaper::Reaper,
    store::{self, ReapCriteria, Store, StoreError},
    telemetry::chain,
};

/// How often a second node asks whether it may take over.
const TAKE_OVER_EVERY: Duration = Duration::from_millis(500);

/// Why the server did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store could not be opened or asked.
    #[error("the database could not be opened")]
    Store(#[from] StoreError),
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system's signals could not be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// Something was not written, or did not end in time; the log says what.
    #[error("the server did not stop cleanly")]
    Unclean,
    /// A background task died.
    #[error("a background task ended unexpectedly")]
    TaskDied,
}

/// A running node.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    addr: SocketAddr,
    hub: Hub,
    store: Arc<dyn StoreDebug>,
    flusher: Flusher,
    readiness: Arc<Readiness>,
    /// Connections, from the first byte of the upgrade to the last of the close.
    connections: TaskTracker,
    /// Everything else.
    services: TaskTracker,
    /// Ends the services.
    stop: CancellationToken,
    /// Ends the listener and idle HTTP connections.
    stop_http: CancellationToken,
    drain_timeout: Duration,
}

/// A store that a `Debug` structure can hold.
trait StoreDebug: Send + Sync + std::fmt::Debug {
    fn get(&self) -> &Arc<dyn Store>;
}

struct Held(Arc<dyn Store>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl StoreDebug for Held {
    fn get(&self) -> &Arc<dyn Store> {
        &self.0
    }
}

/// Serves until a signal or the death of a task, then stops.
///
/// # Errors
/// What kept it from starting, or from stopping cleanly.
pub async fn run(config: Config) -> Result<(), ServeError> {
    let clock = Clock::system();
    let store = store::open(&config.database, clock.clone()).await?;
    let signals = Signals::new()?;
    let dev_mode = config.dev_mode();
    let server = Server::start(config, store, clock).await?;
    info!(address = %server.addr, "listening");
    if dev_mode {
        warn!(
            "dev mode: no API key is set, anybody on this machine may manage rooms. Open http://{}/",
            server.addr
        );
    }
    server.serve_until(signals).await
}

impl Server {
    /// Starts a node on this store.
    ///
    /// # Errors
    /// The store cannot be asked, or the address cannot be listened on.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(&config, store.clock().clone(), Arc::clone(&metrics));
        let flusher = Flusher::new(
            hub.clone(),
            Arc::clone(&store),
            Arc::clone(&metrics),
            config.flush_interval,
        );
        let reaper = reaper(&config, &hub, &store, &flusher, &metrics);
        let key = ResumeKey::new(&store.signing_key().await?);
        let (admission, worker) = admission(
            &config,
            &hub,
            &store,
            &flusher,
            &metrics,
            clock.clone(),
            key,
        );
        let readiness = Arc::new(Readiness::default());
        let is_ours = take_over(&*store, &hub, &reaper, &config, &readiness).await?;
        let (listener, addr) = accept::listen(config.listen)?;

        let connections = TaskTracker::new();
        let deps = Deps {
            config: Arc::clone(&config),
            admission: admission.clone(),
            metrics: Arc::clone(&metrics),
        };
        let parts = Parts {
            config: Arc::clone(&config),
            hub: hub.clone(),
            store: Arc::clone(&store),
            admission,
            flusher: flusher.clone(),
            reaper: reaper.clone(),
            metrics,
            clock,
            tracker: connections.clone(),
            deps: Arc::new(deps),
            listen: addr,
            readiness: Arc::clone(&readiness),
            handshakes: http::handshake_limiter(&config),
        };
        let server = Self {
            addr,
            hub,
            store: Arc::new(Held(store)),
            flusher,
            readiness,
            connections,
            services: TaskTracker::new(),
            stop: CancellationToken::new(),
            stop_http: CancellationToken::new(),
            drain_timeout: config.drain_timeout,
        };
        if !is_ours {
            info!("another node serves this database; waiting for it to stop");
        }
        server.spawn_services(worker, reaper, is_ours, &config);
        server.spawn_listener(listener, parts, &config);
        Ok(server)
    }

    fn spawn_services(&self, worker: Worker, reaper: Reaper, is_ours: bool, config: &Arc<Config>) {
        let hub = self.hub.clone();
        self.spawn_service(async move {
            hub.run_agenda().await;
        });
        self.spawn_service(worker.run());
        let (flusher, stop) = (self.flusher.clone(), self.stop.clone());
        let takes_over = self.take_over_later(is_ours, reaper.clone(), config);
        self.spawn_service(async move {
            takes_over.await;
            // The flusher ends by itself when another node has taken over; then this one must not serve.
            tokio::select! {
                () = flusher.run(stop.clone()) => {}
                () = reaper.run(stop) => {}
            }
        });
    }

    /// Runs a service until stopped. One that ends by itself, or panics, takes the server down.
    fn spawn_service(&self, service: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let guard = stop.clone().drop_guard();
        self.services.spawn(async move {
            let _guard = guard;
            stop.run_until_cancelled(service).await;
        });
    }

    /// Waits for the previous node to go, if it has not yet.
    fn take_over_later(
        &self,
        is_ours: bool,
        reaper: Reaper,
        config: &Arc<Config>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (store, hub) = (Arc::clone(self.store.get()), self.hub.clone());
        let (readiness, config) = (Arc::clone(&self.readiness), Arc::clone(config));
        async move {
            let mut is_ours = is_ours;
            let mut is_failing = false;
            while !is_ours {
                tokio::time::sleep(jittered(TAKE_OVER_EVERY)).await;
                match take_over(&*store, &hub, &reaper, &config, &readiness).await {
                    Ok(taken) => (is_ours, is_failing) = (taken, false),
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

    fn spawn_listener(&self, listener: TcpListener, parts: Parts, config: &Arc<Config>) {
        let router = http::router(parts);
        let accept = accept::run(
            listener,
            router,
            config.limits.max_connections,
            self.services.clone(),
            self.stop_http.clone(),
        );
        self.services.spawn(accept);
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The live rooms.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The flusher.
    pub fn flusher(&self) -> &Flusher {
        &self.flusher
    }

    async fn serve_until(self, mut signals: Signals) -> Result<(), ServeError> {
        let died = tokio::select! {
            () = signals.received() => false,
            () = self.stop.cancelled() => true,
        };
        info!("stopping");
        tokio::select! {
            stopped = self.shut_down() => stopped?,
            () = signals.received() => {
                error!("second signal: ending at once");
                return Err(ServeError::Unclean);
            }
        }
        if died {
            Err(ServeError::TaskDied)
        } else {
            Ok(())
        }
    }

    /// Drains, flushes and closes within the drain timeout.
    ///
    /// # Errors
    /// [`ServeError::Unclean`] if something was not written or did not end in time.
    pub async fn shut_down(self) -> Result<(), ServeError> {
        let is_ours = self.readiness.get() == State::Ready;
        let ended = timeout(self.drain_timeout, self.drain()).await;
        if ended.is_err() {
            error!(
                connections = self.connections.len(),
                tasks = self.services.len(),
                "not everything ended within the drain timeout"
            );
        }
        self.stop_http.cancel();
        self.stop.cancel();
        let flushed = self.flush_last(is_ours).await;
        self.store.get().close().await;
        if ended.is_ok() && flushed {
            Ok(())
        } else {
            Err(ServeError::Unclean)
        }
    }

    /// Joins are refused from here on, and everybody is told to come back.
    async fn drain(&self) {
        self.readiness.set(State::Draining);
        self.hub.drain();
        self.connections.close();
        self.connections.wait().await;
        self.stop_http.cancel();
        self.stop.cancel();
        self.services.close();
        self.services.wait().await;
    }

    /// Writes what is left. A store that is away gets a few seconds more, then what is lost is logged.
    async fn flush_last(&self, is_ours: bool) -> bool {
        if !is_ours {
            return true;
        }
        match timeout(LAST_FLUSH, self.flusher.flush()).await {
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
        match timeout(LAST_FLUSH, self.store.get().stop()).await {
            Ok(Ok(())) => true,
            _ => {
                warn!("the node could not be marked as stopped");
                true
            }
        }
    }
}

/// The last flush may take this long beyond the drain.
const LAST_FLUSH: Duration = Duration::from_secs(5);

async fn take_over(
    store: &dyn Store,
    hub: &Hub,
    reaper: &Reaper,
    config: &Config,
    readiness: &Readiness,
) -> Result<bool, StoreError> {
    let Some(restored) = store.take_over(config.node_terms()).await? else {
        return Ok(false);
    };
    hub.restore(&restored);
    reaper.open();
    if !restored.seats.is_empty() {
        info!(
            seats = restored.seats.len(),
            rooms = restored.rooms.len(),
            "restored the seats of the previous node"
        );
    }
    readiness.set(State::Ready);
    Ok(true)
}

fn reaper(
    config: &Config,
    hub: &Hub,
    store: &Arc<dyn Store>,
    flusher: &Flusher,
    metrics: &Arc<Metrics>,
) -> Reaper {
    let criteria = ReapCriteria {
        min_age: config.reap_min_age,
        below_participants: config.reap_below_participants,
    };
    let quiet = config.heartbeat_interval;
    Reaper::new(
        hub.clone(),
        Arc::clone(store),
        flusher.clone(),
        Arc::clone(metrics),
        criteria,
        config.reap_interval,
        quiet,
    )
}

fn admission(
    config: &Config,
    hub: &Hub,
    store: &Arc<dyn Store>,
    flusher: &Flusher,
    metrics: &Arc<Metrics>,
    clock: Clock,
    resume_key: ResumeKey,
) -> (Admission, Worker) {
    let parts = AdmissionParts {
        hub: hub.clone(),
        flusher: flusher.clone(),
        metrics: Arc::clone(metrics),
        tokens: AccessTokens::new(config, clock.clone()),
        clock,
        resume_key,
        defaults: default_settings(config),
        queue: config.limits.join_queue,
    };
    Admission::new(Arc::clone(store), parts)
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(ServeError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(ServeError::Signals)?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
