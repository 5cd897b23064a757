//! What a process costs, as Linux tells it.

use std::{fs, time::Duration};

use anyhow::Context;
use serde::Serialize;

/// A running process.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// What it has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Processor time of all its threads, kernel included, seconds.
    pub cpu_seconds: f64,
}

/// Linux counts in these, whatever the kernel's own ticks are (`USER_HZ`, which no architecture of ours changes).
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// What it has cost so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cost(self) -> anyhow::Result<Cost> {
        Ok(Cost {
            rss_bytes: self.rss_bytes()?,
            cpu_seconds: self.cpu_seconds()?,
        })
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// It has ended.
    pub fn descriptors(self) -> anyhow::Result<u64> {
        self.count("fd")
    }

    /// How many threads it has.
    ///
    /// # Errors
    /// It has ended.
    pub fn threads(self) -> anyhow::Result<u64> {
        self.count("task")
    }

    fn count(self, folder: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/{folder}", self.0);
        let entries = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(entries.count() as u64)
    }

    fn rss_bytes(self) -> anyhow::Result<u64> {
        let text = self.read("smaps_rollup")?;
        let kib = text.lines().find_map(|line| {
            let rest = line.strip_prefix("Rss:")?;
            rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        Ok(kib.context("smaps_rollup without Rss")? * 1024)
    }

    /// Processor time so far, seconds.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(self) -> anyhow::Result<f64> {
        let text = self.read("stat")?;
        // The name is in brackets, and may hold spaces; user and system time are the 14th and 15th field.
        let (_, fields) = text.rsplit_once(')').context("stat without a name")?;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<_, _>>().context("stat without times")?;
        Ok((TICK * ticks).as_secs_f64())
    }

    fn read(self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Cost {
    /// Processor time since `before`, seconds.
    pub fn cpu_since(&self, before: &Self) -> f64 {
        self.cpu_seconds - before.cpu_seconds
    }

    /// Resident memory more than `before`, bytes; negative: less.
    pub fn growth_since(&self, before: &Self) -> f64 {
        self.rss_bytes as f64 - before.rss_bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_cost_something() {
        let before = Process(std::process::id()).cost().unwrap();
        assert!(before.rss_bytes > 100_000, "{before:?}");
        let ballast = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = Process(std::process::id()).cost().unwrap();
        assert!(after.growth_since(&before) > 16e6, "{after:?}");
        assert!(after.cpu_since(&before) >= 0.0);
        drop(ballast);
    }

    #[test]
    fn an_open_file_and_a_thread_are_counted() {
        let process = Process(std::process::id());
        let file = fs::File::open("/proc/self/stat").unwrap();
        assert!(process.descriptors().unwrap() > 3, "{file:?}");
        assert!(process.threads().unwrap() >= 2);
    }
}
