//! What the world knows from what clients did and saw, and nothing of the server's own state: who surely has a seat, who
//! may have one, and what each room last heard.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rollcall::store::{InviteKey, RoomKey, RoomRow};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    link::Link,
    peer::{Beat, Command, Phase, View},
};

/// Differences below this are rounding and turns of the scheduler.
pub const SLACK: Duration = Duration::from_millis(25);
pub const RECONNECT_GRACE: Duration = Duration::from_secs(10);
pub const RESTART_GRACE: Duration = Duration::from_secs(60);
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(75);
pub const PING_AFTER: Duration = Duration::from_millis(37_500);
/// A blocked write is given up after this.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the server says goodbye after the seat is given up.
pub const GOODBYE: Duration = Duration::from_secs(2);

/// What somebody came by.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    Token { create: bool },
    Invite(usize),
    Resume { of: usize, removals: u32 },
    Forged,
}

/// What the world did to a connection, first thing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends are told, sooner or later.
    Cut,
    /// Nothing comes through any more, and nobody is told.
    Silent,
    /// Sends, and reads nothing.
    Deaf,
}

/// A connection, or the attempt at one.
pub struct Conn {
    pub number: usize,
    pub generation: u32,
    /// Who: the display name, which is different for each identity.
    pub who: String,
    pub slot: usize,
    pub by: By,
    pub asked: Beat,
    pub late: Duration,
    pub link: Link,
    pub commands: mpsc::Sender<Command>,
    pub view: Arc<Mutex<View>>,
    pub fault: Option<(Fault, Instant)>,
    /// Said goodbye; with `true`, so that the seat is given up at once.
    pub leaving: Option<(Instant, bool)>,
    /// Another connection has brought this one's resume token.
    pub is_doubted: bool,
    /// It was spoilt when the server stood still, and how long the goodbye took is not known.
    pub is_unsure: bool,
    /// When its access token ends, if that is soon.
    pub token_end: Option<Instant>,
    /// The incarnation, known from the welcome.
    pub room: Option<RoomKey>,
    /// From the server's letting go: until when the seat surely is held, and may be.
    pub grace: Option<(Instant, Instant)>,
    pub said_state: Option<Instant>,
    /// How often the participant had been removed when the welcome came: its resume token names it.
    pub removals: u32,
    pub is_judged: bool,
    pub is_welcomed: bool,
    pub is_explained: bool,
}

impl Conn {
    pub fn phase(&self) -> Phase {
        self.view.lock().phase
    }

    pub fn is_joining(&self) -> bool {
        self.phase() == Phase::Joining
    }

    pub fn is_open(&self) -> bool {
        self.phase() == Phase::Open
    }

    /// Open, and nothing was done to it.
    pub fn is_healthy(&self) -> bool {
        self.is_open() && self.fault.is_none() && self.leaving.is_none()
    }

    /// The grace that follows from the server's letting go, noted once.
    pub fn note_grace(&mut self) {
        let (Some(closed), None) = (self.link.closed_by_server(), self.grace) else {
            return;
        };
        let seated = self.view.lock().seated_at.is_some();
        // What is said over a slow link may come too late.
        let is_clean = matches!(self.leaving, Some((_, true))) && self.late.is_zero();
        let until = match seated && !is_clean {
            true => closed + RECONNECT_GRACE,
            false => closed,
        };
        let surely = match seated && self.leaving.is_none() && !self.is_doubted && !self.is_unsure {
            true => (closed + RECONNECT_GRACE)
                .checked_sub(GOODBYE)
                .unwrap_or(closed),
            false => closed,
        };
        self.grace = Some((surely, until));
    }

    /// Whether the server may hold a seat for this connection.
    pub fn may_hold(&self, now: Instant) -> bool {
        let seated = self.view.lock().seated_at.is_some();
        match self.grace {
            _ if self.is_joining() => true,
            _ if !seated => false,
            None => true,
            Some((_, until)) => {
                // Told so: the goodbye came through.
                let told = self.link.closed_by_server();
                let told = told.filter(|_| self.phase() == Phase::Ended(Some(1000)));
                now <= told.unwrap_or(until) + SLACK
            }
        }
    }

    /// By when the server must have let go of what does not answer any more.
    pub fn deadline(&self, stalled: Option<Instant>) -> Option<Instant> {
        let (fault, at) = self.fault?;
        let forgiven = stalled.map_or(at, |stalled| {
            match self.late {
                Duration::ZERO => at.max(stalled.checked_sub(PING_AFTER).unwrap_or(at)),
                // What was on its way came through.
                _ => at.max(stalled),
            }
        });
        let patience = match fault {
            Fault::Cut => WRITE_DEADLINE,
            Fault::Silent => HEARTBEAT_TIMEOUT + WRITE_DEADLINE,
            Fault::Deaf => return None,
        };
        Some(forgiven + patience + GOODBYE + self.late * 3 + Duration::from_secs(1))
    }
}

/// What the application has been told of an invite.
#[derive(Debug, Clone)]
pub struct Invite {
    pub key: InviteKey,
    pub id: rollcall_protocol::InviteId,
    pub token: String,
    pub room: RoomKey,
    pub slot: usize,
    pub max_uses: Option<u32>,
    pub expires_at: Option<i64>,
    pub is_revoked: bool,
}

/// One incarnation of a room.
#[derive(Debug, Clone)]
pub struct Room {
    pub slot: usize,
    /// As the store last had it.
    pub row: RoomRow,
    /// The last activity that the store surely knows; in its time.
    pub known: i64,
    /// The last heartbeat that was acknowledged, maybe not written yet.
    pub heard: Option<Beat>,
    /// No activity can have been later than this.
    pub latest: i64,
    pub held_at: Instant,
    pub is_held: bool,
    /// The world closed it, or somebody deleted it.
    pub closed: Option<Instant>,
    /// Its row is gone.
    pub gone: Option<Instant>,
}

impl Room {
    pub fn new(slot: usize, row: RoomRow) -> Self {
        let created = row.created_at.as_millis();
        Self {
            slot,
            row,
            known: created,
            heard: None,
            latest: created,
            held_at: Instant::now(),
            is_held: false,
            closed: None,
            gone: None,
        }
    }

    fn timeout(&self) -> Option<i64> {
        let timeout = self.row.settings.idle_timeout?;
        Some(timeout.as_millis() as i64)
    }

    /// Whether it can be idle by its timestamps, at a time of the store.
    pub fn may_be_idle(&self, now: i64) -> bool {
        let last = self
            .heard
            .map_or(self.known, |beat| beat.store.max(self.known));
        self.timeout()
            .is_some_and(|timeout| last + timeout <= now + SLACK.as_millis() as i64)
    }

    /// Whether it surely is idle, if nobody is in it.
    pub fn must_be_idle(&self, now: i64) -> bool {
        let latest = self.latest + SLACK.as_millis() as i64;
        self.timeout().is_some_and(|timeout| latest + timeout < now)
    }

    /// Whether it may be past its maximum age.
    pub fn may_have_ended(&self, now: i64) -> bool {
        self.row
            .ends_at()
            .is_some_and(|end| end.as_millis() <= now + SLACK.as_millis() as i64)
    }

    /// What was heard is in the store once a flush that began later has succeeded.
    pub fn flushed(&mut self, flushed: Option<Instant>) {
        if let Some(beat) = self.heard.filter(|beat| flushed > Some(beat.at)) {
            self.known = self.known.max(beat.store);
        }
    }

    pub fn hear(&mut self, beat: Beat) {
        if self.heard.is_none_or(|heard| beat.at > heard.at) {
            self.heard = Some(beat);
        }
    }
}

/// One identity in one incarnation of a room.
#[derive(Debug, Clone, Default)]
pub struct Member {
    pub id: String,
    pub is_barred: bool,
    pub removals: Vec<Instant>,
    pub removed_at: Option<Instant>,
    /// A join was answered 503 then: it may have happened.
    pub unknown: Option<Instant>,
    /// When it last may have had a seat.
    pub held_at: Option<Instant>,
    pub is_held: bool,
    /// Until when a restart holds the seat: surely, and maybe.
    pub restored: Option<(Instant, Instant)>,
    /// What a leave frame said, to be found in the store.
    pub owed: Option<(Instant, i64)>,
}
