//! What the hub knows of one connection, and how it calls it: a few bits and a waker.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::Context,
    time::Duration,
};

use futures::task::AtomicWaker;
use rollcall_protocol::ConnectionId;

use super::{Ending, Ticks};

/// The hub's end of a connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: ConnectionId,
    waker: AtomicWaker,
    signals: AtomicU32,
    ending: OnceLock<Ending>,
    heard: AtomicU64,
    /// The sign of life after which a Ping was sent: one Ping a silence.
    pinged: AtomicU64,
    /// When a resume put this connection in doubt; zero: it is not.
    doubted: AtomicU64,
    /// When the access token ends; zero: it does not.
    token_ends: AtomicU64,
    token_warned: AtomicU64,
}

/// Frames wait in the room's outlet.
pub(super) const FRAMES: u32 = 1;
/// Send a Ping.
pub(super) const PING: u32 = 1 << 1;
/// The access token is about to expire.
pub(super) const TOKEN: u32 = 1 << 2;
/// An ending is set.
pub(super) const END: u32 = 1 << 3;

/// The times by which silence is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Silence after which a Ping is sent: 1.25 heartbeat intervals (PROTOCOL.md, "Liveness").
    pub(super) ping_after: Duration,
    /// Silence that ends the connection.
    pub(super) timeout: Duration,
    /// How long before its end a token's holder is told.
    pub(super) token_warning: Duration,
}

/// A resume gives the connection its token was issued to this long to answer a Ping (PROTOCOL.md, "Liveness").
pub(super) const DOUBT: Duration = Duration::from_secs(5);

impl Line {
    pub(super) fn new(id: ConnectionId, now: Ticks, token_ends: Option<Ticks>) -> Self {
        Self {
            id,
            waker: AtomicWaker::new(),
            signals: AtomicU32::new(0),
            ending: OnceLock::new(),
            heard: AtomicU64::new(now.0),
            pinged: AtomicU64::new(0),
            doubted: AtomicU64::new(0),
            token_ends: AtomicU64::new(token_ends.map_or(0, |at| at.0)),
            token_warned: AtomicU64::new(0),
        }
    }

    /// Any inbound frame is a sign of life.
    pub(super) fn hear(&self, now: Ticks) {
        self.heard.store(now.0, Ordering::Relaxed);
        // By presence, not by comparing ticks: on a fast network the answer comes within the same one.
        if self.doubted.load(Ordering::Relaxed) != 0 {
            self.doubted.store(0, Ordering::Relaxed);
        }
    }

    /// Sets signals and wakes the connection.
    pub(super) fn signal(&self, signals: u32) {
        self.signals.fetch_or(signals, Ordering::Release);
        self.waker.wake();
    }

    /// Tells the connection to end. The first reason stays.
    pub(super) fn end(&self, ending: Ending) {
        // A second ending changes nothing: the connection is going already.
        let _ = self.ending.set(ending);
        self.signal(END);
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// Takes the signals; registers for the next ones first, so that none is missed.
    pub(super) fn poll_signals(&self, cx: &Context<'_>) -> u32 {
        self.waker.register(cx.waker());
        self.signals.swap(0, Ordering::Acquire)
    }

    /// Puts the connection in doubt: a Ping now, and [`DOUBT`] to answer.
    pub(super) fn doubt(&self, now: Ticks) {
        self.doubted.store(now.0.max(1), Ordering::Relaxed);
        self.signal(PING);
    }

    /// Begins the patience afresh, after a stall in which nobody could be heard.
    pub(super) fn forgive(&self, now: Ticks) {
        if self.is_doubted() {
            self.doubted.store(now.0.max(1), Ordering::Relaxed);
        }
        self.signal(PING);
    }

    /// In doubt and not heard since: its seat belongs to who resumed.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed) != 0
    }

    /// A fresh access token came.
    pub(super) fn renew_token(&self, ends: Ticks) {
        self.token_ends.store(ends.0.max(1), Ordering::Relaxed);
        self.token_warned.store(0, Ordering::Relaxed);
    }

    /// Judges the silence as of `now` and signals what follows from it. Nothing heard before `floor` is held against
    /// anybody (the stall rule). Answers when to look again.
    pub(super) fn check(&self, now: Ticks, floor: Ticks, patience: Patience) -> Ticks {
        let heard = Ticks(self.heard.load(Ordering::Relaxed).max(floor.0));
        let mut next = self.check_silence(now, heard, patience);
        if self.is_doubted() {
            let until = Ticks(self.doubted.load(Ordering::Relaxed).max(floor.0)) + DOUBT;
            if now >= until {
                self.end(Ending::Superseded);
            }
            next = next.min(until);
        }
        match self.token_ends.load(Ordering::Relaxed) {
            0 => next,
            ends => next.min(self.check_token(now, Ticks(ends), patience)),
        }
    }

    fn check_silence(&self, now: Ticks, heard: Ticks, patience: Patience) -> Ticks {
        if now >= heard + patience.timeout {
            self.end(Ending::Silent);
        } else if now >= heard + patience.ping_after {
            if self.pinged.swap(heard.0.max(1), Ordering::Relaxed) != heard.0.max(1) {
                self.signal(PING);
            }
        } else {
            return heard + patience.ping_after;
        }
        heard + patience.timeout
    }

    fn check_token(&self, now: Ticks, ends: Ticks, patience: Patience) -> Ticks {
        let warn_at = Ticks(
            ends.0
                .saturating_sub(patience.token_warning.as_millis() as u64),
        );
        if now >= ends {
            self.end(Ending::TokenExpired);
        } else if now < warn_at {
            return warn_at;
        } else if self.token_warned.swap(1, Ordering::Relaxed) == 0 {
            self.signal(TOKEN);
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        ping_after: Duration::from_millis(1250),
        timeout: Duration::from_millis(2500),
        token_warning: Duration::from_millis(500),
    };

    fn signals(line: &Line) -> u32 {
        line.poll_signals(&Context::from_waker(futures::task::noop_waker_ref()))
    }

    #[test]
    fn silence_is_pinged_once_then_ended() {
        let line = Line::new(ConnectionId(1), Ticks(1000), None);
        assert_eq!(line.check(Ticks(2000), Ticks(0), PATIENCE), Ticks(2250));
        assert_eq!(signals(&line), 0);
        assert_eq!(line.check(Ticks(2250), Ticks(0), PATIENCE), Ticks(3500));
        assert_eq!(signals(&line), PING);
        line.check(Ticks(3000), Ticks(0), PATIENCE);
        assert_eq!(signals(&line), 0, "one Ping a silence");
        line.check(Ticks(3500), Ticks(0), PATIENCE);
        assert_eq!((signals(&line), line.ending()), (END, Some(Ending::Silent)));
    }

    #[test]
    fn a_stall_is_not_held_against_anybody() {
        let line = Line::new(ConnectionId(1), Ticks(1000), None);
        line.check(Ticks(9000), Ticks(7750), PATIENCE);
        assert_eq!((signals(&line), line.ending()), (PING, None));
        line.check(Ticks(10250), Ticks(7750), PATIENCE);
        assert_eq!(line.ending(), Some(Ending::Silent));
    }

    #[test]
    fn a_doubted_line_that_answers_stays() {
        let line = Line::new(ConnectionId(1), Ticks(1000), None);
        line.doubt(Ticks(1000));
        assert!(line.is_doubted());
        line.hear(Ticks(1000));
        line.check(Ticks(6000), Ticks(5500), PATIENCE);
        assert_eq!(line.ending(), None);
        let silent = Line::new(ConnectionId(2), Ticks(1000), None);
        silent.doubt(Ticks(1000));
        silent.check(
            Ticks(6000),
            Ticks(0),
            Patience {
                timeout: Duration::from_secs(60),
                ..PATIENCE
            },
        );
        assert_eq!(silent.ending(), Some(Ending::Superseded));
    }

    #[test]
    fn a_token_is_warned_of_then_ended() {
        let line = Line::new(ConnectionId(1), Ticks(1000), Some(Ticks(2000)));
        assert_eq!(line.check(Ticks(1100), Ticks(0), PATIENCE), Ticks(1500));
        assert_eq!(line.check(Ticks(1500), Ticks(0), PATIENCE), Ticks(2000));
        assert_eq!(signals(&line), TOKEN);
        line.renew_token(Ticks(9000));
        line.check(Ticks(2000), Ticks(0), PATIENCE);
        assert_eq!(line.ending(), None);
    }
}
