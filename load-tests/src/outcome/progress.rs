//! What a run does at the moment: a bar at a terminal, else a line now and then. All on standard error, so that the table on
//! standard output can be piped.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use super::words;

/// How often there is a line where there is no terminal, seconds of the run.
const LINE_EVERY: f64 = 5.0;

/// What a run does at the moment. Every call is cheap: the bar redraws itself at most twenty times a second.
#[derive(Debug)]
pub struct Progress {
    /// `None`: there is no terminal.
    bar: Option<ProgressBar>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    phase: String,
    number: usize,
    of: usize,
    done: f64,
    total: f64,
    connections: u64,
    faults: u64,
    /// When the last line was said, seconds of the run; `None`: this phase has none yet.
    said: Option<f64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// One that shows nothing yet.
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            bar.with_style(style())
        });
        Self {
            bar,
            now: Mutex::default(),
        }
    }

    /// The phase, of so many; another name is the next one. Shown with the next second.
    pub fn phase(&self, name: &str, of: usize) {
        let mut now = self.now.lock();
        if now.phase == name {
            return;
        }
        name.clone_into(&mut now.phase);
        now.number += 1;
        now.of = of;
        now.said = None;
    }

    /// So many seconds of the run are over, of so many.
    pub fn seconds(&self, done: f64, total: f64) {
        let mut now = self.now.lock();
        now.done = done;
        now.total = total;
        self.show(&mut now);
    }

    /// So many connections are open. Shown with the next second.
    pub fn connections(&self, connections: u64) {
        self.now.lock().connections = connections;
    }

    /// So many faults were found. Shown with the next second.
    pub fn faults(&self, faults: u64) {
        self.now.lock().faults = faults;
    }

    /// Takes the bar away, to leave the terminal to the table; dropping does the same.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    #[expect(
        clippy::print_stderr,
        reason = "where there is no terminal, lines are the bar"
    )]
    fn show(&self, now: &mut Now) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(now.total.max(1.0) as u64);
                bar.set_position(now.done.max(0.0) as u64);
                bar.set_prefix(now.phase());
                bar.set_message(now.counts());
            }
            None if now.is_due() => {
                now.said = Some(now.done);
                eprintln!("{}  {}", now.phase(), now.counts());
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Now {
    fn is_due(&self) -> bool {
        self.said.is_none_or(|said| self.done - said >= LINE_EVERY)
    }

    fn phase(&self) -> String {
        format!("{} ({} of {})", self.phase, self.number, self.of)
    }

    fn counts(&self) -> String {
        format!(
            "{} of {}  {}  {}",
            words::time(self.done),
            words::time(self.total),
            words::plural(self.connections, "connection"),
            words::plural(self.faults, "fault"),
        )
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix}  {wide_bar}  {msg}");
    style.map_or_else(
        |_| ProgressStyle::default_bar(),
        |style| style.progress_chars("━╸─"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_when_a_phase_begins_and_then_now_and_then() {
        let progress = Progress {
            bar: None,
            now: Mutex::default(),
        };
        let said = || progress.now.lock().said;
        progress.phase("ramp", 2);
        assert_eq!(said(), None);
        progress.seconds(1.0, 90.0);
        assert_eq!(said(), Some(1.0));
        progress.seconds(5.0, 90.0);
        assert_eq!(said(), Some(1.0));
        progress.seconds(6.0, 90.0);
        assert_eq!(said(), Some(6.0));
        progress.phase("hold", 2);
        progress.seconds(7.0, 90.0);
        assert_eq!(said(), Some(7.0));
    }

    #[test]
    fn a_line_says_where_the_run_is() {
        let now = Now {
            phase: "hold".to_owned(),
            number: 2,
            of: 3,
            done: 42.0,
            total: 90.0,
            connections: 15_000,
            faults: 1,
            said: None,
        };
        assert_eq!(now.phase(), "hold (2 of 3)");
        assert_eq!(now.counts(), "42 s of 1:30  15,000 connections  1 fault");
    }
}
