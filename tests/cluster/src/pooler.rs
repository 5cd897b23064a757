//! A pgbouncer before the server.

use std::fs;

use crate::{home::Home, port::on_free_port, process::Process, programs};

/// A pgbouncer in transaction mode with three server connections, set up as strictly as it comes: no startup parameter
/// is ignored, and prepared statements are left as that version has them. Dropping ends it.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    // Before the home, whose guard would have to wait for it.
    _server: Process,
    _home: Home,
}

impl Pooler {
    /// Starts one before the server of an address such as [`Cluster::url`](crate::Cluster::url): without a password.
    pub fn start(cluster_url: &str) -> Self {
        let cluster = Target::parse(cluster_url)
            .unwrap_or_else(|| panic!("{cluster_url} is not postgres://USER@HOST:PORT/DATABASE"));
        let home = Home::new();
        let (port, server) = on_free_port(|port| launch(&home, &cluster, port));
        let Target { user, database, .. } = cluster;
        Self {
            url: format!("postgres://{user}@127.0.0.1:{port}/{database}"),
            _server: server,
            _home: home,
        }
    }

    /// The address of the same database, through the pooler.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

struct Target<'a> {
    user: &'a str,
    host: &'a str,
    port: &'a str,
    database: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (user, rest) = url.strip_prefix("postgres://")?.split_once('@')?;
        let (address, database) = rest.split_once('/')?;
        let (host, port) = address.split_once(':')?;
        Some(Self {
            user,
            host,
            port,
            database,
        })
    }
}

/// `None` where the port is taken.
fn launch(home: &Home, cluster: &Target<'_>, port: u16) -> Option<Process> {
    let file = home.file("pgbouncer.ini");
    fs::write(&file, configuration(cluster, port)).expect("the folder is ours");
    let mut pgbouncer = home.command(&programs::pgbouncer());
    pgbouncer.arg(file);
    home.launch(pgbouncer, |_| home.log().contains("process up"))
}

/// `auth_type = any` lets everybody in as the user of the first line, as the server itself would.
fn configuration(
    Target {
        user, host, port, ..
    }: &Target<'_>,
    listen_port: u16,
) -> String {
    format!(
        "[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"
    )
}
