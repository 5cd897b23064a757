//! The PostgreSQL server.

use std::{fs, path::Path};

use parking_lot::Mutex;
use rustix::process::Pid;

use crate::{home::Home, poll::poll, port::on_free_port, process::Process, programs, psql};

/// A PostgreSQL server of this process's own, on 127.0.0.1. Dropping ends it and removes its data.
///
/// Trusts everybody on this machine. By default it does not wait for its disk (`fsync` and `full_page_writes` are off):
/// committed data survive [`Cluster::kill`], as the kernel has them, and not a power cut.
#[derive(Debug)]
pub struct Cluster {
    // Before the server: the home's guard ends it gently, dropping the server would kill it.
    home: Home,
    /// `None` while it is stopped or killed.
    server: Mutex<Option<Process>>,
    port: u16,
}

impl Cluster {
    /// Starts a server that is ready to answer, with an empty database `rollcall` and a superuser of that name.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with lines of `postgresql.conf`; they win over the defaults.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let home = Home::new();
        create_data(&home, settings);
        let (port, server) = on_free_port(|port| launch(&home, port));
        let cluster = Self {
            home,
            server: Mutex::new(Some(server)),
            port,
        };
        psql::command(&cluster.url_of("postgres"), "CREATE DATABASE rollcall");
        cluster
    }

    /// The address of the database, `postgres://rollcall@127.0.0.1:PORT/rollcall`.
    pub fn url(&self) -> String {
        self.url_of("rollcall")
    }

    /// The port, the same for life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it as an administrator would (`pg_ctl stop -m fast`): connections are ended, transactions rolled back.
    ///
    /// # Panics
    ///
    /// When it is not running, or frozen.
    pub fn stop(&self) {
        self.take_server().stop();
    }

    /// Ends all its processes with SIGKILL: a crash.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn kill(&self) {
        self.take_server().kill();
    }

    /// Starts it again after [`Cluster::stop`] or [`Cluster::kill`], and waits until it accepts connections.
    ///
    /// # Panics
    ///
    /// When it is running.
    pub fn restart(&self) {
        let mut server = self.server.lock();
        assert!(server.is_none(), "the server is running");
        *server = poll(|| launch(&self.home, self.port));
        assert!(server.is_some(), "port {} is not given back", self.port);
    }

    /// Stops all its processes with SIGSTOP: it keeps its connections, the kernel accepts new ones, nobody answers.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn freeze(&self) {
        self.server.lock().as_ref().expect(NOT_RUNNING).freeze();
    }

    /// Lets it go on after [`Cluster::freeze`].
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn thaw(&self) {
        self.server.lock().as_ref().expect(NOT_RUNNING).thaw();
    }

    /// Runs SQL in psql and returns what it prints: a line a row, `|` between columns, no headings.
    ///
    /// # Panics
    ///
    /// With psql's message when a statement fails.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        psql::command(&self.url(), sql)
    }

    /// Runs a script in psql, with variables that it names `:name` or `:'name'`; otherwise as [`Cluster::psql`].
    ///
    /// # Panics
    ///
    /// With psql's message when a statement fails.
    #[track_caller]
    pub fn psql_file(&self, path: &Path, variables: &[(&str, &str)]) -> String {
        psql::file(&self.url(), path, variables)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://rollcall@127.0.0.1:{}/{database}", self.port)
    }

    fn take_server(&self) -> Process {
        self.server.lock().take().expect(NOT_RUNNING)
    }
}

fn create_data(home: &Home, settings: &[(&str, &str)]) {
    let mut initdb = home.command(&programs::postgresql("initdb"));
    initdb
        .args(["--no-sync", "--auth=trust", "--username=rollcall"])
        .args(["--locale=C", "--encoding=UTF8", "--pgdata=data"]);
    home.run(initdb);

    let lines = DEFAULTS.iter().chain(settings).map(configuration_line);
    let file = home.file("data/postgresql.conf");
    let sample = fs::read_to_string(&file).expect("initdb has written it");
    fs::write(&file, sample + &lines.collect::<String>()).expect("the folder is ours");
}

/// Of two lines for one setting, PostgreSQL takes the last.
fn configuration_line((name, value): &(&str, &str)) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}

/// `None` where the port is taken.
fn launch(home: &Home, port: u16) -> Option<Process> {
    let mut postgres = home.command(&programs::postgresql("postgres"));
    postgres
        .arg("-D")
        .arg(home.file("data"))
        .args(["-p", &port.to_string()]);
    home.launch(postgres, |pid| is_ready(home, pid))
}

/// Reads the lock file as `pg_ctl --wait` does. After a crash the previous server's is still there, with its pid.
fn is_ready(home: &Home, pid: Pid) -> bool {
    let lock = fs::read_to_string(home.file("data/postmaster.pid")).unwrap_or_default();
    let mut lines = lock.lines();
    lines.next() == Some(&pid.to_string()) && lines.last().map(str::trim_end) == Some("ready")
}

const NOT_RUNNING: &str = "the server is not running";

const DEFAULTS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    // A folder for temporary files can be deeper than the 107 bytes that the path of a socket may have.
    ("unix_socket_directories", ""),
    // In the data folder, so that what a crash leaves of it goes with the folder.
    ("dynamic_shared_memory_type", "mmap"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "100"),
    ("shared_buffers", "64MB"),
];
