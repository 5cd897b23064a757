//! What is looked at after every step: rows, rooms, seats, rosters.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_protocol::{OnIdle, ParticipantId};
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::{
    database::Rows,
    log::{Breach, breach},
    replay::without_sample,
    world::{SLOTS, World},
};

/// The longest that the store may take after a client was told 503.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(12);
/// An end, and the goodbye to it.
pub const ENDED_WITHIN: Duration = Duration::from_secs(3);

impl World {
    pub async fn check(&mut self) -> Result<(), Breach> {
        self.log.check()?;
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                breach!("a task of the simulation failed: {error}");
            }
        }
        self.log.newest();
        let before = std::mem::replace(&mut self.rows, self.database.rows().await);
        self.meet_rooms()?;
        for number in 0..self.conns.len() {
            self.meet(number)?;
            self.conns[number].note_grace();
            self.explain(number)?;
        }
        self.follow();
        self.check_rows(&before)?;
        self.check_rooms()?;
        self.check_seats()?;
        for number in 0..self.conns.len() {
            self.check_conn(number)?;
            self.check_left(number)?;
        }
        self.check_owed()?;
        if self.chance(50) {
            self.check_rosters().await?;
        }
        self.log.check()
    }

    /// R2, R3, R6: one row for each identity, uses exact, times that never go back nor ahead.
    fn check_rows(&self, before: &Rows) -> Result<(), Breach> {
        let newest = self.log.newest();
        let mut seen = BTreeMap::new();
        for row in &before.participants {
            seen.insert(row.key, row.last_seen_at);
        }
        let mut names = BTreeSet::new();
        for row in &self.rows.participants {
            if !names.insert((row.room_key, row.name.to_string())) {
                breach!("R3: {} is twice in room {}", row.name, row.room_key);
            }
            if seen
                .get(&row.key)
                .is_some_and(|before| *before > row.last_seen_at)
            {
                breach!("R6: last_seen_at of {} goes back", row.name);
            }
            if row.last_seen_at.as_millis() > newest {
                breach!("R6: {} was seen later than the store's now", row.name);
            }
            if row.is_active == row.left_at.is_some() {
                breach!("R6: {} is active and has left, or neither", row.name);
            }
        }
        for invite in &self.rows.invites {
            let uses = self
                .rows
                .participants
                .iter()
                .filter(|row| row.invite_key == Some(invite.key));
            let uses = uses.count();
            if invite.uses as usize != uses {
                breach!(
                    "R2: invite {} counts {} uses, {uses} came by it",
                    invite.key,
                    invite.uses
                );
            }
        }
        Ok(())
    }

    /// R1, R9: a room that goes away had to.
    fn check_rooms(&mut self) -> Result<(), Breach> {
        // The store reaps by its own clock, and a step of it is looked at before anything else happens.
        let (now, newest) = (Instant::now(), self.log.now());
        let keys: Vec<_> = self.rooms.keys().copied().collect();
        for key in keys {
            if self.rows.room(key).is_some() || self.rooms[&key].gone.is_some() {
                continue;
            }
            let room = &self.rooms[&key];
            let is_due = room.may_have_ended(newest)
                || room.may_be_idle(newest) && !self.is_surely_live(key, now);
            let is_deletable = room.row.settings.on_idle == OnIdle::Delete;
            if room.closed.is_none() && !(is_due && is_deletable) {
                breach!(
                    "R1: room {key} ({}) was reaped: {room:?} at {newest}",
                    SLOTS[room.slot]
                );
            }
            self.log.note(format_args!("room {key} is gone"));
            self.rooms
                .entry(key)
                .and_modify(|room| room.gone = Some(now));
        }
        Ok(())
    }

    /// R5: nobody is missing, and nobody is there who cannot be.
    fn check_seats(&self) -> Result<(), Breach> {
        let (now, hub) = (Instant::now(), &self.node().hub);
        for ((key, who), member) in &self.members {
            let Ok(id) = member.id.parse::<ParticipantId>() else {
                continue;
            };
            let is_seated = hub.last_seen_at(*key, id).is_some();
            if !is_seated && self.surely_holds(*key, who, now) {
                let why = self.tell_of(*key, who);
                breach!("R5: {who} of room {key} ({id}) has no seat: {why}");
            }
            // A join whose client has given up holds the seat until the store has answered.
            let is_awaited = self.faults.state.lock().in_flight > 0
                && member.unknown.is_some_and(|at| now - at < GIVEN_UP_WITHIN);
            if is_seated && !is_awaited && !self.may_hold(*key, who, now) {
                let why = self.tell_of(*key, who);
                breach!("R5: {who} of room {key} ({id}) is a ghost: {why}");
            }
            if !is_seated
                && let Some((_, until)) = member.restored
                && now < until
                && self.surely_holds(*key, who, now)
            {
                breach!("R5: {who} of room {key} was not restored");
            }
        }
        if self.faults.state.lock().in_flight > 0 {
            return Ok(());
        }
        for key in self.rooms.keys() {
            if hub.is_live(*key) && !self.may_be_live(*key, now) {
                breach!("R2: room {key} is live, and nobody is there");
            }
        }
        Ok(())
    }

    /// R4: every client that is well knows the server's roster.
    async fn check_rosters(&mut self) -> Result<(), Breach> {
        let keys: BTreeSet<_> = self
            .conns
            .iter()
            .filter(|conn| conn.is_healthy())
            .filter_map(|conn| conn.room)
            .collect();
        for key in keys {
            let (seq, occupancy, here) = self.node().hub.present(key, None, 1_000);
            self.settle().await;
            if self.node().hub.present(key, None, 0).0 != seq {
                continue;
            }
            let roster: BTreeMap<String, Value> = here
                .into_iter()
                .map(|here| {
                    (
                        here.member.id.to_string(),
                        without_sample(serde_json::to_value(here.member).unwrap_or_default()),
                    )
                })
                .collect();
            for conn in self
                .conns
                .iter()
                .filter(|conn| conn.is_healthy() && conn.room == Some(key))
            {
                let view = conn.view.lock();
                let Some(replay) = &view.replay else { continue };
                let may_lag = !conn.late.is_zero() || Instant::now() < self.lapped_until;
                let member = &self.members[&(key, conn.who.clone())];
                let room = &self.rooms[&key];
                let is_going = room.closed.is_some()
                    || room.may_have_ended(self.log.newest())
                    || member.removed_at >= view.admitted_at;
                let is_late = !conn.late.is_zero()
                    && (is_going
                        || view
                            .welcomed_at
                            .is_none_or(|at| at.elapsed() < ENDED_WITHIN));
                if replay.seq != seq && may_lag || is_late || conn.link.closed_by_server().is_some()
                {
                    continue;
                }
                if replay.seq != seq || replay.occupancy != occupancy {
                    breach!(
                        "R4: #{} is at {} of {}, room {key} at {seq} of {occupancy}",
                        conn.number,
                        replay.seq,
                        replay.occupancy
                    );
                }
                if replay.members.is_some() && replay.roster() != roster {
                    breach!(
                        "R4: #{} knows {:?}, room {key} is {roster:?}",
                        conn.number,
                        replay.roster()
                    );
                }
            }
        }
        Ok(())
    }
}
