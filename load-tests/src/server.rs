//! The server under test: a `rollcall serve` of our own, on a free port, ended with us.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{
    child,
    fault::{Fault, Faults},
    measure::process::Process,
    options::Common,
};

/// A first start makes the schema; PostgreSQL may have to be waited for.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often the log is looked at until then.
const LOOK: Duration = Duration::from_millis(10);
/// Everybody comes from this machine, and all at once: limits on that are not what is measured.
const RAISED: [&str; 4] = ["--handshakes-per-second", "none", "--join-queue", "100000"];

/// A running server. Dropping kills it and removes its folder.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    process: Process,
    flags: Vec<String>,
    folder: TempDir,
}

/// A line of the log.
#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    message: String,
    address: Option<SocketAddr>,
}

impl Server {
    /// Starts one with these flags besides those that every run needs, and waits until it listens.
    ///
    /// # Errors
    /// It cannot be run, or does not listen; the message ends with its log.
    pub async fn start(common: &Common, flags: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rollcall-load").tempdir()?;
        let program = program(common)?;
        let url = common.database_url.clone();
        let url = url
            .unwrap_or_else(|| format!("sqlite://{}", folder.path().join("rollcall.db").display()));
        let mut all: Vec<String> = RAISED.iter().map(|word| (*word).to_owned()).collect();
        all.extend_from_slice(flags);
        let log = fs::File::create(log_file(&folder))?;
        let mut command = child::command(&["become", "--"])?;
        command
            .arg(&program)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--database-url", &url, "--log", &common.log])
            .args(&all)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().context("cannot start a process")?;
        let process = Process(child.id().context("the server has ended")?);
        let addr = listening(&mut child, &log_file(&folder)).await;
        let addr = addr.with_context(|| format!("{} does not start", program.display()))?;
        Ok(Self {
            child,
            addr,
            process,
            flags: all,
            folder,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its flags, for the report.
    pub fn flags(&self) -> String {
        self.flags.join(" ")
    }

    /// Ends it, and answers how many warnings it logged; errors are faults.
    ///
    /// # Errors
    /// It had ended by itself, or its log cannot be read.
    pub async fn end(mut self, faults: &mut Faults) -> anyhow::Result<usize> {
        anyhow::ensure!(
            self.child.try_wait()?.is_none(),
            "the server ended by itself"
        );
        self.child.kill().await?;
        let log = fs::read_to_string(log_file(&self.folder))?;
        for line in log
            .lines()
            .filter(|line| line.contains(r#""level":"ERROR""#))
        {
            faults.add(Fault::Logged, line);
        }
        Ok(log
            .lines()
            .filter(|line| line.contains(r#""level":"WARN""#))
            .count())
    }
}

fn log_file(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// What was asked for, or what was built beside this program.
fn program(common: &Common) -> anyhow::Result<PathBuf> {
    let program = match &common.rollcall {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("rollcall"),
    };
    anyhow::ensure!(
        program.is_file(),
        "{} is not built: `cargo build --release --bin rollcall`, or say where it is with --rollcall",
        program.display()
    );
    Ok(program)
}

async fn listening(child: &mut Child, log: &Path) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let text = fs::read_to_string(log)?;
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        // Only at the level that says it; a filter that hides it would be waited for in vain.
        let line = lines.find(|line| line.level == "INFO" && line.message == "listening");
        if let Some(addr) = line.and_then(|line| line.address) {
            return Ok(addr);
        }
        let ended = child.try_wait()?;
        anyhow::ensure!(
            ended.is_none() && Instant::now() < deadline,
            "it says:\n{text}"
        );
        sleep(LOOK).await;
    }
}
