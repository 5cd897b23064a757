//! R2, R3, R9: whether each admission and each refusal was right, where the store was well throughout.

use std::collections::BTreeMap;

use rollcall::store::{RoomKey, RoomRow};
use tokio::time::{Duration, Instant};

use crate::{
    database::Rows,
    log::{Breach, breach},
    model::{By, Conn},
    peer::Phase,
    world::World,
};

/// What was so before a join.
pub struct Before {
    rows: Rows,
    live: BTreeMap<RoomKey, bool>,
    rooms: usize,
    joining: usize,
    counts: BTreeMap<&'static str, u64>,
    surely: Vec<(RoomKey, String)>,
}

/// After a fault the flusher needs this long to be back.
const CALM: Duration = Duration::from_secs(8);

impl World {
    pub async fn before_join(&mut self) -> Before {
        let (rows, now) = (self.database.rows().await, Instant::now());
        let hub = &self.node().hub;
        let sure = self
            .members
            .keys()
            .filter(|(key, who)| self.surely_holds(*key, who, now));
        Before {
            live: self
                .rooms
                .keys()
                .map(|key| (*key, hub.is_live(*key)))
                .collect(),
            rooms: hub.rooms(),
            joining: self.joining(),
            counts: self.faults.counts(),
            surely: sure.cloned().collect(),
            rows,
        }
    }

    /// Judges the join just begun.
    pub async fn judge_last(&mut self, before: Before) -> Result<(), Breach> {
        self.settle().await;
        let Some(conn) = self.conns.last_mut() else {
            return Ok(());
        };
        conn.is_judged = true;
        let number = conn.number;
        let is_calm = self.faults.fine_for() > CALM
            && self
                .stalled_at
                .is_none_or(|at| at.elapsed() > Duration::from_secs(1));
        let conn = &self.conns[number];
        if !is_calm {
            if conn.phase() == Phase::Joining || matches!(conn.phase(), Phase::Refused(_)) {
                self.note_unknown(number);
            }
            return Ok(());
        }
        let admitted = conn.view.lock().admitted_at.is_some();
        match conn.phase() {
            Phase::Refused(code) => {
                self.judge_refusal(number, code, &before)?;
                self.check_nothing_changed(number, code, &before).await
            }
            _ if admitted => self.judge_admission(number, &before),
            _ => {
                breach!("R3: #{number} has no answer, and nothing is wrong")
            }
        }
    }

    /// Its commit may have happened.
    pub fn note_unknown(&mut self, number: usize) {
        let (who, slot) = (self.conns[number].who.clone(), self.conns[number].slot);
        let keys: Vec<RoomKey> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.slot == slot)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            let member = self.members.entry((key, who.clone())).or_default();
            member.unknown = Some(Instant::now());
            let latest = self.log.newest();
            self.rooms
                .entry(key)
                .and_modify(|room| room.latest = room.latest.max(latest));
        }
    }

    fn room_asked<'a>(&self, conn: &Conn, rows: &'a Rows) -> Option<&'a RoomRow> {
        match conn.by {
            By::Token { .. } => rows.room_of(crate::world::SLOTS[conn.slot]),
            By::Invite(at) => rows.room(self.invites[at].room),
            By::Resume { of, .. } => rows.room(self.conns[of].room?),
            By::Forged => None,
        }
    }

    fn judge_admission(&self, number: usize, before: &Before) -> Result<(), Breach> {
        let (conn, newest) = (&self.conns[number], self.log.now());
        let Some(row) = self.room_asked(conn, &before.rows) else {
            if conn.by == (By::Token { create: true }) {
                return Ok(());
            }
            let is_resume = matches!(conn.by, By::Resume { .. });
            // A held seat asks no store, which lost the room a moment ago.
            if is_resume && before.live.values().any(|live| *live) {
                return Ok(());
            }
            breach!(
                "R2: #{number} was admitted to a room that is not there: {:?}",
                conn.by
            )
        };
        let (room, member) = (
            &self.rooms[&row.key],
            self.members.get(&(row.key, conn.who.clone())),
        );
        let was_live = before.live.get(&row.key) == Some(&true);
        let may_be_live = before.surely.iter().any(|(key, _)| *key == row.key)
            || was_live && self.may_be_live_without(row.key, number);
        if !may_be_live && room.must_be_idle(newest) && conn.by != (By::Token { create: true }) {
            breach!("R9: #{number} was admitted to an idle room: {room:?} at {newest}");
        }
        if member.is_some_and(|member| member.is_barred) {
            breach!("R2: #{number} was admitted, and is barred");
        }
        if let By::Invite(at) = conn.by {
            let invite = &self.invites[at];
            let is_over = invite.expires_at.is_some_and(|at| at + 5 < newest);
            let known = before
                .rows
                .participants
                .iter()
                .any(|row| row.name.as_str() == conn.who);
            let uses = before
                .rows
                .invites
                .iter()
                .find(|row| row.key == invite.key)
                .map_or(0, |row| row.uses);
            let is_used_up = !known && invite.max_uses.is_some_and(|max| uses >= max);
            if invite.is_revoked || is_over || is_used_up {
                breach!("R2: #{number} was admitted by {invite:?} with {uses} uses");
            }
        }
        if let (By::Resume { removals, .. }, Some(member)) = (&conn.by, member)
            && *removals as usize != member.removals.len()
        {
            breach!("R5: #{number} was resumed after a removal");
        }
        let view = conn.view.lock();
        let is_sure = before.surely.contains(&(row.key, conn.who.clone()));
        if matches!(conn.by, By::Resume { .. })
            && view.welcomed_at.is_some()
            && is_sure
            && !view.resumed
        {
            breach!("R5: #{number} came back in time, and was not resumed");
        }
        Ok(())
    }

    fn may_be_live_without(&self, key: RoomKey, number: usize) -> bool {
        let now = Instant::now();
        let is_here = |conn: &&Conn| {
            conn.number != number
                && conn.generation == self.generation
                && conn.room.is_none_or(|room| room == key)
        };
        let restored = self.members.iter().any(|((room, _), member)| {
            *room == key && member.restored.is_some_and(|(_, until)| now <= until)
        });
        restored
            || self
                .conns
                .iter()
                .filter(is_here)
                .any(|conn| conn.may_hold(now))
    }

    pub fn judge_refusal(&self, number: usize, code: &str, before: &Before) -> Result<(), Breach> {
        let (conn, now, newest) = (&self.conns[number], Instant::now(), self.log.now());
        let row = self.room_asked(conn, &before.rows);
        let room = row.map(|row| &self.rooms[&row.key]);
        let member = row.and_then(|row| self.members.get(&(row.key, conn.who.clone())));
        let is_sure = row.is_some_and(|row| before.surely.iter().any(|(key, _)| *key == row.key));
        let may_be_over = room
            .is_none_or(|room| room.may_have_ended(newest) || room.may_be_idle(newest) && !is_sure);
        let invite = match conn.by {
            By::Invite(at) => Some(&self.invites[at]),
            _ => None,
        };
        let holders = || {
            self.members
                .keys()
                .filter(|(key, who)| {
                    Some(*key) == row.map(|row| row.key) && self.may_hold(*key, who, now)
                })
                .count()
                + before.joining
                + self
                    .conns
                    .iter()
                    .filter(|other| {
                        other.room.is_none()
                            && other.slot == conn.slot
                            && other.generation == self.generation
                    })
                    .filter(|conn| conn.view.lock().welcomed_at.is_some() && conn.may_hold(now))
                    .count()
        };
        let is_fair = match code {
            "removed" => member.is_some_and(|member| member.is_barred),
            "credential_invalid" => match conn.by {
                By::Resume { removals, .. } => {
                    member.is_none_or(|member| member.removals.len() != removals as usize)
                }
                By::Forged => true,
                _ => false,
            },
            "credential_expired" => conn.token_end.is_some() || self.stepped_at.is_some(),
            "invite_not_found" => conn.by == By::Forged,
            "invite_revoked" => invite.is_some_and(|invite| invite.is_revoked),
            "invite_used_up" => invite.is_some_and(|invite| {
                let uses = before.rows.invites.iter().find(|row| row.key == invite.key);
                uses.is_none_or(|row| Some(row.uses) >= invite.max_uses)
            }),
            "invite_expired" => {
                invite.is_some_and(|invite| invite.expires_at.is_some_and(|at| at <= newest + 5))
                    || may_be_over
            }
            "room_not_found" => row.is_none(),
            "room_expired" => may_be_over,
            "room_full" => row.is_some_and(|row| {
                let max = row.settings.max_participants;
                max.is_some_and(|max| holders() >= max as usize)
            }),
            "too_many_connections" => {
                let own = |other: &&Conn| {
                    other.who == conn.who
                        && other.slot == conn.slot
                        && other.generation == self.generation
                };
                self.conns
                    .iter()
                    .filter(own)
                    .filter(|conn| conn.may_hold(now))
                    .count()
                    >= 3
            }
            _ => false,
        };
        if !is_fair {
            breach!(
                "R9: #{number} ({}, {:?}) was refused with {code}: {room:?} at {newest}, sure {is_sure}",
                conn.who,
                conn.by
            );
        }
        Ok(())
    }

    /// R2: a refusal changes nothing.
    async fn check_nothing_changed(
        &mut self,
        number: usize,
        code: &str,
        before: &Before,
    ) -> Result<(), Breach> {
        let mut counts = self.faults.counts();
        let mut old = before.counts.clone();
        for counts in [&mut counts, &mut old] {
            counts.remove("begin_joins");
        }
        if counts != old || before.joining > 0 {
            return Ok(());
        }
        let (rows, hub) = (self.database.rows().await, &self.node().hub);
        if rows != before.rows {
            breach!("R2: #{number} was refused with {code}, and rows changed");
        }
        for (key, live) in &before.live {
            if hub.is_live(*key) && !live {
                breach!("R2: #{number} was refused with {code}, and room {key} is live");
            }
        }
        if hub.rooms() > before.rooms {
            breach!("R2: #{number} was refused with {code}, and a room is held");
        }
        Ok(())
    }

    /// R7: while nobody comes, only flushes and sweeps ask the store anything.
    pub fn check_calls(
        &self,
        before: &BTreeMap<&'static str, u64>,
        began: Instant,
    ) -> Result<(), Breach> {
        let (after, waited) = (self.faults.counts(), began.elapsed());
        let more = |what| after.get(what).unwrap_or(&0) - before.get(what).unwrap_or(&0);
        for what in after.keys().copied() {
            let is_known = [
                "flush",
                "reap_candidates",
                "reap",
                "purge_invites",
                "room_by_key",
            ]
            .contains(&what);
            let is_calm = self.faults.fine_for() > waited + CALM;
            if !is_known && is_calm && more(what) > 0 {
                breach!(
                    "R7: {what} was asked {} times while nobody came",
                    more(what)
                );
            }
        }
        let allowed = 2 + waited.as_millis() as u64 / 4_500 + more("reap_candidates");
        if self.faults.fine_for() > waited + CALM && more("flush") > allowed {
            breach!("R7: {} flushes within {waited:?}", more("flush"));
        }
        Ok(())
    }
}
