//! A network between the server and its database that fails on demand.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Passes bytes on to a database. Dropping it cuts every connection.
pub struct Proxy {
    port: u16,
    faults: Arc<Faults>,
    _tasks: DropGuard,
}

/// What the network does to what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Carries.
    Fair,
    /// Has no connections, and accepts none for longer than it takes to close them.
    Down,
    /// Keeps connections and drops what is sent on them, as a network does that is gone.
    Silent,
}

struct Faults {
    weather: watch::Sender<Weather>,
    /// How often the weather was silent: a connection from before is never heard of again.
    silences: AtomicUsize,
    /// Answers to a COMMIT still to be lost, with their connections.
    lost_commits: AtomicUsize,
    /// Connections still to fall silent right after the answer to a COMMIT.
    muted_commits: AtomicUsize,
}

impl Proxy {
    /// Before the database at an address such as the cluster's.
    pub async fn before(url: &str) -> Self {
        let authority = url.split(['@', '/', '?']).nth(3).unwrap().to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = Arc::new(Faults {
            weather: watch::Sender::new(Weather::Fair),
            silences: AtomicUsize::new(0),
            lost_commits: AtomicUsize::new(0),
            muted_commits: AtomicUsize::new(0),
        });
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let accept = accept(listener, authority, Arc::clone(&faults), tracker.clone());
        let stopping = stop.clone();
        tracker.spawn(async move { stopping.run_until_cancelled(accept).await });
        Self {
            port,
            faults,
            _tasks: stop.drop_guard(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection, and new ones at once.
    pub fn cut(&self) {
        self.faults.weather.send_replace(Weather::Down);
    }

    /// Drops what is sent from here on, on old connections for ever, on new ones until healed.
    pub fn fall_silent(&self) {
        self.faults.silences.fetch_add(1, Ordering::SeqCst);
        self.faults.weather.send_replace(Weather::Silent);
    }

    /// Carries new connections.
    pub fn heal(&self) {
        self.faults.weather.send_replace(Weather::Fair);
    }

    /// Loses the answer to the next COMMIT, and its connection.
    pub fn lose_a_commit(&self) {
        self.faults.lost_commits.store(1, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_lost_it(&self) -> bool {
        self.faults.lost_commits.load(Ordering::SeqCst) == 0
    }

    /// Lets that many connections fall silent right after the answer to a COMMIT.
    pub fn mute_after_commits(&self, count: usize) {
        self.faults.muted_commits.store(count, Ordering::SeqCst);
    }

    /// How many of them still have not.
    pub fn still_to_mute(&self) -> usize {
        self.faults.muted_commits.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, to: String, faults: Arc<Faults>, tracker: TaskTracker) {
    // Its drop ends the connections with this task.
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (to, faults, stop) = (to.clone(), Arc::clone(&faults), stop.clone());
        tracker.spawn(async move { stop.run_until_cancelled(carry(client, &to, &faults)).await });
    }
}

/// One connection, until either side or the network ends it.
async fn carry(client: TcpStream, to: &str, faults: &Faults) {
    let mut weather = faults.weather.subscribe();
    let age = faults.silences.load(Ordering::SeqCst);
    if *weather.borrow() == Weather::Silent {
        // The kernel has accepted it; nobody else ever hears of it.
        return held(client, &mut weather).await;
    }
    tokio::select! {
        _ = weather.wait_for(|weather| *weather == Weather::Down) => {}
        _ = relay(client, to, faults, age) => {}
    }
}

async fn held(_client: TcpStream, weather: &mut watch::Receiver<Weather>) {
    let _ = weather
        .wait_for(|weather| *weather == Weather::Down)
        .await
        .map(|_| ());
}

async fn relay(mut client: TcpStream, to: &str, faults: &Faults, age: usize) -> Option<()> {
    let mut server = TcpStream::connect(to).await.ok()?;
    let (mut up, mut down) = ([0; CHUNK], [0; CHUNK]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let sent = &up[..some(read)?];
                faults.pass(age).await;
                server.write_all(sent).await.ok()?;
                if sent != COMMIT {
                    continue;
                }
                if take(&faults.lost_commits) {
                    // The answer has come, so it is committed.
                    some(server.read(&mut down).await)?;
                    return None;
                }
                if take(&faults.muted_commits) {
                    let answer = some(server.read(&mut down).await)?;
                    client.write_all(&down[..answer]).await.ok()?;
                    std::future::pending::<()>().await;
                }
            }
            read = server.read(&mut down) => {
                let answer = &down[..some(read)?];
                faults.pass(age).await;
                client.write_all(answer).await.ok()?;
            }
        }
    }
}

impl Faults {
    /// Comes back unless there was a silence in this connection's life.
    async fn pass(&self, age: usize) {
        if self.silences.load(Ordering::SeqCst) != age {
            std::future::pending::<()>().await;
        }
    }
}

fn some(read: std::io::Result<usize>) -> Option<usize> {
    read.ok().filter(|count| *count > 0)
}

fn take(count: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

/// A simple query as sqlx sends it, in a packet of its own because it waits for the answer.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

const CHUNK: usize = 16 * 1024;
