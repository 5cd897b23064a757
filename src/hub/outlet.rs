//! What a room has to say: a ring of encoded frames that its members read at their own pace.
//!
//! A frame is encoded once and shared. The ring holds a frame only while somebody has yet to read it, and is bounded in
//! frames and bytes; who is lapped loses broadcasts, and gets one `sync` if a presence frame was among what it lost.
//! The room never waits for a reader (rule R8).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rollcall_protocol::{ConnectionId, ParticipantId};
use slab::Slab;
use tokio::time::Instant;

use super::{
    encoded::Encoded,
    line::{FRAMES, Line},
};

/// Frames a reader may be behind. At the default message limit of 30 a second this is four seconds of one sender.
const MAX_FRAMES: usize = 128;
/// Bytes all waiting frames of a room may hold together.
const MAX_BYTES: usize = 1024 * 1024;
/// Places for readers are given back once so many times more are kept than taken.
const SPARSE: usize = 4;
/// A reader that keeps falling behind gets at most one `sync` in this time (PROTOCOL.md, section 2).
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// One frame and whom it is for.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) encoded: Encoded,
    pub(super) kind: Kind,
}

/// What a frame is, as far as delivery cares.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Numbered; losing one costs a `sync`.
    Presence,
    /// A `sync` for everybody, from crossing the roster limit.
    Sync,
    /// At most once, to every connection but the sender's, or to the connections of some participants.
    Broadcast {
        from: Option<ConnectionId>,
        to: Option<Arc<[ParticipantId]>>,
    },
    /// About the room itself; losing one costs a fresh `room`.
    Room,
    /// The room is about to be idle, for observers; losing one costs a fresh one.
    Idle,
}

/// What a reader gets next.
#[derive(Debug)]
pub(super) enum Next {
    Frame(Encoded),
    /// Build a `sync` for this reader: it is now at the end of the ring.
    Sync,
    /// Build a `room` message for this reader.
    Room,
    /// Say again that the room is about to be idle, if it still is.
    Idle,
    /// Nothing until the next push, or until this instant if a `sync` is owed.
    Empty(Option<Instant>),
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    unread: usize,
}

#[derive(Debug)]
struct Listener {
    line: Arc<Line>,
    /// `None`: an observer.
    participant: Option<ParticipantId>,
    cursor: u64,
    owes_sync: bool,
    owes_room: bool,
    owes_idle: bool,
    synced_at: Option<Instant>,
}

/// The ring and its readers.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    entries: VecDeque<Entry>,
    base: u64,
    bytes: usize,
    listeners: Slab<Listener>,
    /// One past the position of the last presence frame, of the last room frame, and of the last warning of idleness,
    /// that was dropped unread.
    lost_presence: u64,
    lost_room: u64,
    lost_idle: u64,
}

/// A reader's place in the outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListenerId(usize);

impl Outlet {
    /// Adds a reader that has seen everything so far.
    pub(super) fn listen(
        &mut self,
        line: Arc<Line>,
        participant: Option<ParticipantId>,
    ) -> ListenerId {
        let cursor = self.end();
        let listener = Listener {
            line,
            participant,
            cursor,
            owes_sync: false,
            owes_room: false,
            owes_idle: false,
            synced_at: None,
        };
        ListenerId(self.listeners.insert(listener))
    }

    /// Takes a reader away, with its claim on what waits.
    pub(super) fn silence(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.try_remove(id.0) else {
            return;
        };
        let start = listener.cursor.max(self.base) - self.base;
        for entry in self.entries.iter_mut().skip(start as usize) {
            entry.unread -= 1;
        }
        self.trim();
        if self.listeners.len() * SPARSE < self.listeners.capacity() {
            self.listeners.shrink_to_fit();
        }
    }

    /// The connections that read here.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Arc<Line>> {
        self.listeners.iter().map(|(_, listener)| &listener.line)
    }

    /// The connection of one reader.
    pub(super) fn line(&self, id: ListenerId) -> Option<&Arc<Line>> {
        self.listeners.get(id.0).map(|listener| &listener.line)
    }

    /// How many connections would get this.
    pub(super) fn audience(&self, kind: &Kind) -> usize {
        self.listeners
            .iter()
            .filter(|(_, listener)| listener.is_addressed(kind))
            .count()
    }

    /// Queues a frame for those it is for and calls them.
    pub(super) fn push(&mut self, frame: Frame) {
        let end = self.end();
        let mut unread = 0;
        for (_, listener) in &mut self.listeners {
            if listener.cursor == end && !listener.is_addressed(&frame.kind) {
                listener.cursor += 1;
            } else {
                unread += 1;
                listener.line.signal(FRAMES);
            }
        }
        self.bytes += frame.encoded.len();
        self.entries.push_back(Entry { frame, unread });
        self.trim();
        while self.entries.len() > MAX_FRAMES || self.bytes > MAX_BYTES {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        self.base += 1;
        self.bytes -= entry.frame.encoded.len();
        match entry.frame.kind {
            Kind::Presence | Kind::Sync => self.lost_presence = self.base,
            Kind::Room => self.lost_room = self.base,
            Kind::Idle => self.lost_idle = self.base,
            Kind::Broadcast { .. } => {}
        }
    }

    fn trim(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.unread == 0) {
            if let Some(entry) = self.entries.pop_front() {
                self.base += 1;
                self.bytes -= entry.frame.encoded.len();
            }
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// What this reader gets next; after [`Next::Sync`] it has seen everything up to now.
    pub(super) fn next(&mut self, id: ListenerId, now: Instant) -> Next {
        let (base, end) = (self.base, self.end());
        let Some(listener) = self.listeners.get_mut(id.0) else {
            return Next::Empty(None);
        };
        if listener.cursor < base {
            listener.owes_sync |= self.lost_presence > listener.cursor;
            listener.owes_room |= self.lost_room > listener.cursor;
            listener.owes_idle |=
                self.lost_idle > listener.cursor && listener.is_addressed(&Kind::Idle);
            listener.cursor = base;
        }
        if listener.owes_room {
            listener.owes_room = false;
            return Next::Room;
        }
        let sync_at = listener.synced_at.map_or(now, |at| at + SYNC_EVERY);
        if listener.owes_sync && sync_at <= now {
            listener.owes_sync = false;
            listener.synced_at = Some(now);
            self.skip_presence(id, end);
            return Next::Sync;
        }
        // After the roster that it follows from.
        if listener.owes_idle && !listener.owes_sync {
            listener.owes_idle = false;
            return Next::Idle;
        }
        match self.read(id) {
            Some(encoded) => Next::Frame(encoded),
            None => Next::Empty(self.owes_sync(id).then_some(sync_at)),
        }
    }

    fn owes_sync(&self, id: ListenerId) -> bool {
        matches!(self.listeners.get(id.0), Some(listener) if listener.owes_sync)
    }

    /// A `sync` says all that the waiting presence frames would, so they are passed over, broadcasts with them; what else
    /// was to be said is owed.
    fn skip_presence(&mut self, id: ListenerId, end: u64) {
        let Some(listener) = self.listeners.get_mut(id.0) else {
            return;
        };
        let start = (listener.cursor - self.base) as usize;
        listener.cursor = end;
        for entry in self.entries.iter_mut().skip(start) {
            entry.unread -= 1;
            listener.owes_room |= matches!(entry.frame.kind, Kind::Room);
            listener.owes_idle |=
                matches!(entry.frame.kind, Kind::Idle) && listener.is_addressed(&entry.frame.kind);
        }
        self.trim();
    }

    fn read(&mut self, id: ListenerId) -> Option<Encoded> {
        let mut found = None;
        while found.is_none() {
            let listener = self.listeners.get_mut(id.0)?;
            let at = (listener.cursor - self.base) as usize;
            let entry = self.entries.get_mut(at)?;
            listener.cursor += 1;
            entry.unread -= 1;
            let is_wanted = match entry.frame.kind {
                Kind::Presence => !listener.owes_sync,
                Kind::Sync => {
                    listener.owes_sync = false;
                    true
                }
                _ => listener.is_addressed(&entry.frame.kind),
            };
            if is_wanted {
                found = Some(entry.frame.encoded.clone());
            }
            self.trim();
        }
        found
    }
}

impl Listener {
    fn is_addressed(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Presence | Kind::Sync | Kind::Room => true,
            Kind::Idle => self.participant.is_none(),
            Kind::Broadcast { from, to } => {
                *from != Some(self.line.id)
                    && to.as_ref().is_none_or(|to| {
                        self.participant
                            .is_some_and(|participant| to.contains(&participant))
                    })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rollcall_protocol::{ErrorCode, ServerMessage};

    use super::{super::Ticks, *};

    fn message(text: &str) -> Encoded {
        Encoded::new(&ServerMessage::Error {
            code: ErrorCode::BadMessage,
            detail: text.to_owned(),
            reference: None,
        })
    }

    fn frame(text: &str, kind: Kind) -> Frame {
        Frame {
            encoded: message(text),
            kind,
        }
    }

    fn outlet(readers: u64) -> (Outlet, Vec<ListenerId>) {
        let mut outlet = Outlet::default();
        let ids = (0..readers)
            .map(|n| outlet.listen(Arc::new(Line::new(ConnectionId(n), Ticks(0), None)), None))
            .collect();
        (outlet, ids)
    }

    fn is_frame(next: &Next, text: &str) -> bool {
        matches!(next, Next::Frame(encoded) if encoded.as_bytes() == message(text).as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_kept_only_until_the_last_has_read_it() {
        let (mut outlet, ids) = outlet(2);
        outlet.push(frame("a", Kind::Presence));
        assert!(is_frame(&outlet.next(ids[0], Instant::now()), "a"));
        assert_eq!(outlet.entries.len(), 1);
        outlet.silence(ids[1]);
        assert_eq!((outlet.entries.len(), outlet.bytes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broadcast_passes_its_sender_by() {
        let (mut outlet, ids) = outlet(2);
        outlet.push(frame(
            "hi",
            Kind::Broadcast {
                from: Some(ConnectionId(0)),
                to: None,
            },
        ));
        assert!(matches!(
            outlet.next(ids[0], Instant::now()),
            Next::Empty(None)
        ));
        assert!(is_frame(&outlet.next(ids[1], Instant::now()), "hi"));
    }

    #[tokio::test(start_paused = true)]
    async fn r8_who_is_lapped_gets_one_sync_and_the_ring_stays_bounded() {
        let (mut outlet, ids) = outlet(1);
        for _ in 0..MAX_FRAMES * 3 {
            outlet.push(frame("p", Kind::Presence));
        }
        assert_eq!(outlet.entries.len(), MAX_FRAMES);
        assert!(matches!(outlet.next(ids[0], Instant::now()), Next::Sync));
        assert!(matches!(
            outlet.next(ids[0], Instant::now()),
            Next::Empty(None)
        ));
        for _ in 0..MAX_FRAMES * 3 {
            outlet.push(frame("p", Kind::Presence));
        }
        let Next::Empty(Some(at)) = outlet.next(ids[0], Instant::now()) else {
            panic!("a sync within 2 s")
        };
        assert_eq!(at - Instant::now(), SYNC_EVERY);
        assert!(matches!(outlet.next(ids[0], at), Next::Sync));
    }

    #[tokio::test(start_paused = true)]
    async fn losing_only_broadcasts_costs_nothing() {
        let (mut outlet, ids) = outlet(1);
        for _ in 0..MAX_FRAMES * 2 {
            outlet.push(frame(
                "b",
                Kind::Broadcast {
                    from: None,
                    to: None,
                },
            ));
        }
        for _ in 0..MAX_FRAMES {
            assert!(is_frame(&outlet.next(ids[0], Instant::now()), "b"));
        }
        assert!(matches!(
            outlet.next(ids[0], Instant::now()),
            Next::Empty(None)
        ));
    }
}
