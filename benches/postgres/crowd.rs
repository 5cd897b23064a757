//! Who is seen when, and what the database has to say of everybody in the end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use rand::{SeedableRng, rngs::StdRng, seq::index};
use rollcall::{
    clock::Clock,
    store::{Departed, FlushBatch, ParticipantKey, RoomKey, Seen},
};
use rollcall_protocol::Timestamp;

use crate::bed::{Bed, PEOPLE_PER_ROOM};

/// Between two flushes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Of those seen, one in so many has left.
const LEAVE_ONE_IN: usize = 20;
/// A room's own column moves once a minute: in one of so many flushes.
const ROOM_DUE_ONE_IN: usize = 12;

/// The participants, and what was written of them.
#[derive(Debug)]
pub(crate) struct Crowd {
    rng: StdRng,
    size: usize,
    dirty: usize,
    /// The time of the flushes; ahead of the real one, for they follow each other faster than in life.
    now: Timestamp,
    written: HashMap<i64, Written>,
    rooms: BTreeMap<i64, Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    at: Timestamp,
    has_left: bool,
}

impl Crowd {
    /// Everybody of as many rooms, of whom `dirty` are seen before each flush.
    pub(crate) fn new(rooms: usize, dirty: usize) -> Self {
        Self {
            // Every run writes the same rows.
            rng: StdRng::seed_from_u64(1),
            size: rooms * PEOPLE_PER_ROOM,
            dirty,
            now: Clock::system().now(),
            written: HashMap::new(),
            rooms: BTreeMap::new(),
        }
    }

    /// Random people by key, each heard of at some moment of the interval.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        let mut indexes = index::sample(&mut self.rng, self.size, self.dirty).into_vec();
        indexes.sort_unstable();
        let before = self.now;
        self.now = before + INTERVAL;
        let heard = |index: usize| before + Duration::from_millis(1 + index as u64 * 7_919 % 5_000);
        let seen = |index| Seen {
            key: ParticipantKey(index as i64 + 1),
            last_seen_at: heard(index),
            departed: None,
        };
        indexes.into_iter().map(seen).collect()
    }

    /// What the flusher would hand over of them.
    pub(crate) fn batch(&mut self, with_departures: bool) -> FlushBatch {
        let mut participants = self.seen();
        if !with_departures {
            return FlushBatch {
                participants,
                ..FlushBatch::default()
            };
        }
        for seen in participants.iter_mut().step_by(LEAVE_ONE_IN) {
            let left_at = seen.last_seen_at;
            seen.departed = Some(Departed {
                left_at,
                generation: 1,
            });
        }
        let newest = newest_by_room(&participants);
        let due = newest.into_iter().step_by(ROOM_DUE_ONE_IN);
        let rooms = due.map(|(key, at)| (RoomKey(key), at)).collect();
        FlushBatch {
            rooms,
            participants,
            states: Vec::new(),
        }
    }

    /// Notes what was flushed.
    pub(crate) fn flushed(&mut self, batch: &FlushBatch) {
        for seen in &batch.participants {
            let had_left = self
                .written
                .get(&seen.key.0)
                .is_some_and(|written| written.has_left);
            let has_left = had_left || seen.departed.is_some();
            self.written.insert(
                seen.key.0,
                Written {
                    at: seen.last_seen_at,
                    has_left,
                },
            );
        }
        self.rooms
            .extend(batch.rooms.iter().map(|(key, at)| (key.0, *at)));
    }

    /// Whether every row is as it was last written.
    pub(crate) async fn verify(&self, bed: &mut Bed) -> anyhow::Result<()> {
        let keys: Vec<i64> = self.written.keys().copied().collect();
        let at: Vec<DateTime<Utc>> = self
            .written
            .values()
            .map(|written| written.at.to_datetime())
            .collect();
        let left: Vec<bool> = self
            .written
            .values()
            .map(|written| written.has_left)
            .collect();
        let right: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::bigint[], $2::timestamptz[], $3::boolean[]) AS wanted (key, at, has_left)
             JOIN participants AS p USING (key)
             WHERE p.last_seen_at = wanted.at AND p.is_active <> wanted.has_left AND p.left_at IS NOT DISTINCT FROM
                   CASE WHEN wanted.has_left THEN wanted.at END",
        )
        .bind(&keys)
        .bind(at)
        .bind(left)
        .fetch_one(&mut bed.admin)
        .await?;
        ensure!(
            right == keys.len() as i64,
            "{right} of {} participants are as they were written",
            keys.len()
        );
        self.verify_rooms(bed).await
    }

    async fn verify_rooms(&self, bed: &mut Bed) -> anyhow::Result<()> {
        let keys: Vec<i64> = self.rooms.keys().copied().collect();
        let at: Vec<DateTime<Utc>> = self.rooms.values().map(|at| at.to_datetime()).collect();
        let right: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::bigint[], $2::timestamptz[]) AS wanted (key, at) JOIN rooms AS r USING (key)
             WHERE r.last_active_at = wanted.at",
        )
        .bind(&keys)
        .bind(at)
        .fetch_one(&mut bed.admin)
        .await?;
        ensure!(
            right == keys.len() as i64,
            "{right} of {} rooms are as they were written",
            keys.len()
        );
        Ok(())
    }
}

fn newest_by_room(seen: &[Seen]) -> BTreeMap<i64, Timestamp> {
    let mut newest = BTreeMap::new();
    for seen in seen {
        let room = (seen.key.0 - 1) / PEOPLE_PER_ROOM as i64 + 1;
        let at = newest.entry(room).or_insert(seen.last_seen_at);
        *at = (*at).max(seen.last_seen_at);
    }
    newest
}
