//! The server that is measured: one of our own, or one that is there.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use rustix::process::{Pid, test_kill_process};
use tokio::time::{Instant, sleep};

use super::options::RunOptions;
use crate::{
    api::Api, fault::Faults, measure::process::Process, scenario::Scenario, server::Server,
};

/// Longer than a server waits for another to be gone for certain.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(50);
/// Only ever used for load.
const SECRET: &str = "a secret that is used for a load test only";

/// The server.
#[derive(Debug)]
pub(super) struct Target {
    own: Option<Server>,
    pub addr: SocketAddr,
    pub key: Option<String>,
    pub metrics: SocketAddr,
    /// Whose memory and processor time may be read.
    pid: Option<u32>,
    /// In words.
    pub words: String,
}

impl Target {
    /// Starts it, or finds it. From the main thread only (see [`crate::child`]).
    pub(super) async fn find(options: &RunOptions, scenario: &Scenario) -> anyhow::Result<Self> {
        let target = match &options.url {
            Some(url) => Self::elsewhere(options, url)?,
            None => Self::start(options, scenario).await?,
        };
        target.ready().await?;
        Ok(target)
    }

    /// Waits until it is able to admit: on a PostgreSQL that another one served, which was killed, it waits for that to be
    /// certain.
    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.api().await?.is_ready().await? {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the server is not ready within {READY_WITHIN:?}; see its /readyz"
            );
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn start(options: &RunOptions, scenario: &Scenario) -> anyhow::Result<Self> {
        let mut flags = scenario.server.flags.clone();
        if scenario.mints() {
            flags.extend(["--jwt-secret", SECRET].map(str::to_owned));
        }
        let server = Server::start(&options.common(), &flags).await?;
        let store = if options.database_url.is_some() {
            "as given"
        } else {
            "SQLite"
        };
        Ok(Self {
            addr: server.addr(),
            key: None,
            metrics: server.addr(),
            pid: Some(server.process().0),
            words: format!("of our own, {}; database: {store}", words(scenario)),
            own: Some(server),
        })
    }

    fn elsewhere(options: &RunOptions, url: &str) -> anyhow::Result<Self> {
        let addr = address(url)?;
        let metrics = options.metrics_url.as_deref().map(address).transpose()?;
        if let Some(pid) = options.server_pid {
            let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
            test_kill_process(known.context("--server-pid: not a process id")?)
                .with_context(|| format!("--server-pid: there is no process {pid}"))?;
        }
        Ok(Self {
            own: None,
            addr,
            key: options.api_key.clone(),
            metrics: metrics.unwrap_or(addr),
            pid: options.server_pid,
            words: format!("at {url}"),
        })
    }

    pub(super) async fn api(&self) -> anyhow::Result<Api> {
        let api = Api::with_key(self.addr, self.key.clone()).await;
        api.with_context(|| format!("no server at {}", self.addr))
    }

    /// Whether it goes on after the run.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.own.is_none()
    }

    /// The process that may be looked at, if any.
    pub(super) fn process(&self) -> Option<Process> {
        match &self.own {
            Some(server) => Some(server.process()),
            None => self.pid.map(Process),
        }
    }

    /// Stops it and starts it again; `politely` with SIGTERM. Whether it ended as it should. From the main thread only.
    pub(super) async fn replace(&mut self, politely: bool) -> anyhow::Result<Result<(), String>> {
        let server = self.own.as_mut();
        let server = server.context("only a server of our own is replaced: run without --url")?;
        let mut ended = Ok(());
        if politely {
            let status = server.terminate().await?;
            if !status.success() {
                ended = Err(format!("asked to stop, it ended with {status}"));
            }
        } else {
            server.kill().await?;
        }
        server.revive().await?;
        self.ready().await?;
        Ok(ended)
    }

    /// Ends one of our own; how many warnings it logged. Errors are faults.
    pub(super) async fn end(self, faults: &mut Faults) -> anyhow::Result<Option<usize>> {
        match self.own {
            Some(server) => server.end(faults).await.map(Some),
            None => Ok(None),
        }
    }
}

fn words(scenario: &Scenario) -> String {
    match scenario.server.flags.as_slice() {
        [] => "without flags".to_owned(),
        flags => flags.join(" "),
    }
}

/// `http://HOST:PORT`, whatever follows.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url.strip_prefix("http://");
    let rest = rest.with_context(|| format!("{url}: http://HOST:PORT, clear text"))?;
    let host = rest.split('/').next().unwrap_or_default();
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let mut found = std::net::ToSocketAddrs::to_socket_addrs(&host)
        .with_context(|| format!("{url}: no such host"))?;
    let v4 = found.find(SocketAddr::is_ipv4);
    v4.with_context(|| format!("{url}: no IPv4 address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address() {
        assert_eq!(address("http://127.0.0.1:81/x").unwrap().port(), 81);
        assert_eq!(address("http://127.0.0.1").unwrap().port(), 80);
        for wrong in [
            "127.0.0.1:80",
            "https://127.0.0.1",
            "http://",
            "http://[::1]:80",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
