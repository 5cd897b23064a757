//! What all tests of this crate need: both programs, a server to talk to, and what a run found.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

/// The server's binary: cargo names only those of this package to a test, so it is looked for beside this one.
pub(crate) fn server() -> PathBuf {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_rollcall-load")).with_file_name("rollcall");
    assert!(
        server.is_file(),
        "{} is not built: run `cargo build --workspace` first, as `make test` does",
        server.display()
    );
    server
}

/// What a run of a scenario said and found.
pub(crate) struct Run {
    pub(crate) succeeded: bool,
    pub(crate) said: String,
    pub(crate) outcome: Value,
}

impl Run {
    /// Runs a scenario with these words besides.
    pub(crate) fn of(scenario: &str, words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("outcome.json");
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall-load"))
            .args(["run", scenario, "--limit", "60s", "--json"])
            .arg(&file)
            .args(words)
            .output()
            .unwrap();
        Self::read(&output, &file)
    }

    fn read(output: &Output, file: &Path) -> Self {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let json = fs::read(file).unwrap_or_else(|_| panic!("no outcome\n{said}"));
        Self {
            succeeded: output.status.success(),
            outcome: serde_json::from_slice(&json).unwrap(),
            said,
        }
    }

    pub(crate) fn figure(&self, name: &str) -> f64 {
        let figure = self.outcome["figures"][name].as_f64();
        figure.unwrap_or_else(|| panic!("no {name}\n{}", self.said))
    }

    /// That nothing was told wrong.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.figure("faults"), 0.0, "{}", self.said);
    }
}

/// A server that a run is pointed at. Dropping kills it.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    _folder: TempDir,
}

impl Running {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let database = format!("sqlite://{}", folder.path().join("rollcall.db").display());
        let mut child = Command::new(server())
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--handshakes-per-second", "none"])
            .args(["--database-url", &database])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = log
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| listening(&line))
            .expect("the server ended before it listened");
        // Or its log would fill the pipe; it ends with the server.
        thread::spawn(move || log.for_each(drop));
        Self {
            child,
            addr,
            _folder: folder,
        }
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that says it.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_it = line["message"] == "listening";
    is_it.then(|| line["address"].as_str()?.parse().ok())?
}
