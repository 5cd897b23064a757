//! Takes in what happened since the last look: rooms made, welcomes, ends, and what each room may have heard.

use tokio::time::{Duration, Instant};

use crate::{
    checks::ENDED_WITHIN,
    log::{Breach, breach},
    model::{By, Conn, Fault, Room},
    peer::{Beat, Phase},
    world::{SLOTS, World},
};

/// A shorter stall is not forgiven.
pub const STALL: Duration = Duration::from_secs(5);
/// What a resume leaves the connection it names to answer in.
pub const DOUBT: Duration = Duration::from_secs(5);

impl World {
    pub fn meet_rooms(&mut self) -> Result<(), Breach> {
        for row in &self.rows.rooms {
            let slot = SLOTS.iter().position(|slot| *slot == row.id.as_str());
            let slot = slot.expect("a room of the simulation");
            let room = self
                .rooms
                .entry(row.key)
                .or_insert_with(|| Room::new(slot, row.clone()));
            if room.row.last_active_at > row.last_active_at {
                breach!("R6: last_active_at of room {} goes back", row.key);
            }
            room.row = row.clone();
        }
        Ok(())
    }

    /// Takes in a welcome.
    pub fn meet(&mut self, number: usize) -> Result<(), Breach> {
        let conn = &self.conns[number];
        if conn.is_welcomed || conn.view.lock().welcomed_at.is_none() {
            return Ok(());
        }
        let (id, token, resumed, admitted) = {
            let view = conn.view.lock();
            (
                view.id.clone(),
                view.token.clone(),
                view.resumed,
                view.admitted_at,
            )
        };
        if conn.generation != self.generation {
            self.conns[number].is_welcomed = true;
            return Ok(());
        }
        let Ok(claims) = self.node().admission.read_resume(&token) else {
            if conn.token_end.is_none() && self.stepped_at.is_none() {
                breach!("#{number}: its resume token is not valid");
            }
            self.conns[number].is_welcomed = true;
            return Ok(());
        };
        let (key, who) = (claims.room, conn.who.clone());
        let was_held = self.rooms.contains_key(&key) && {
            let asked = conn.asked.at;
            let other = |other: &&Conn| {
                other.number != number && other.who == who && other.generation == self.generation
            };
            let mut others = self.conns.iter().filter(other);
            let restored = self
                .members
                .get(&(key, who.clone()))
                .and_then(|member| member.restored);
            restored.is_some_and(|(_, until)| until >= asked)
                || others.any(|other| other.may_hold(asked))
        };
        let removed = self
            .members
            .get(&(key, who.clone()))
            .and_then(|member| member.removed_at);
        if resumed && !was_held && removed < Some(conn.asked.at) {
            breach!("R5: #{number} was resumed, and nothing held the seat");
        }
        let member = self.members.entry((key, who.clone())).or_default();
        if !member.id.is_empty() && member.id != id {
            breach!("R2: {who} of room {key} was {}, is {id}", member.id);
        }
        member.id = id;
        // A resume of a held seat asks no store: what a lost commit did to the row is not mended by it.
        if !resumed && member.unknown < Some(conn.asked.at) {
            member.unknown = None;
        }
        member.owed = None;
        if let Some((surely, _)) = &mut member.restored {
            *surely = (*surely).min(Instant::now());
        }
        let conn = &mut self.conns[number];
        conn.removals = match conn.by {
            By::Resume { removals, .. } => removals,
            _ => count(&member.removals, admitted),
        };
        conn.room = Some(key);
        conn.is_welcomed = true;
        Ok(())
    }

    /// Every end must have a reason that clients or the application know of.
    pub fn explain(&mut self, number: usize) -> Result<(), Breach> {
        let conn = &self.conns[number];
        if conn.is_explained {
            return Ok(());
        }
        let code = match conn.phase() {
            Phase::Ended(code) => code,
            Phase::Refused(code) => {
                self.conns[number].is_explained = true;
                if code == "store_unavailable" || code == "gone" {
                    self.note_unknown(number);
                }
                return Ok(());
            }
            Phase::Joining | Phase::Open => return Ok(()),
        };
        let room = conn.room.and_then(|key| self.rooms.get(&key));
        let of_slot = || self.rooms.values().filter(|room| room.slot == conn.slot);
        let mut rooms: Vec<&Room> = room.into_iter().collect();
        if rooms.is_empty() {
            rooms.extend(of_slot());
        }
        let member = |room: &&Room| self.members.get(&(room.row.key, conn.who.clone()));
        let is_past = conn.generation != self.generation;
        let is_explained = match code {
            None => {
                // Told why, and gone before the news came through.
                let is_slow = !conn.late.is_zero()
                    || self
                        .stalled_at
                        .is_some_and(|at| at.elapsed() < ENDED_WITHIN);
                let is_told = rooms
                    .iter()
                    .any(|room| room.closed.is_some() || room.may_have_ended(self.log.newest()))
                    || rooms
                        .iter()
                        .filter_map(member)
                        .any(|member| member.removed_at >= Some(conn.asked.at));
                // Five seconds are for the network, and a short stall took most of them.
                let ended = conn.view.lock().ended_at;
                let is_unlucky = conn.is_doubted
                    && self.stalled_for < STALL
                    && self
                        .stalled_at
                        .is_some_and(|at| ended < Some(at + DOUBT + conn.late * 2));
                conn.fault.is_some()
                    || conn.leaving.is_some()
                    || is_past
                    || is_slow && is_told
                    || is_unlucky
            }
            Some(1000) => matches!(conn.leaving, Some((_, true))),
            Some(1001) => conn.leaving.is_some(),
            Some(1012) => is_past && !self.crashed.contains(&conn.generation),
            Some(1013) => conn.fault.is_some(),
            Some(4401) => conn.token_end.is_some(),
            Some(4403) => rooms
                .iter()
                .filter_map(member)
                .any(|member| member.removed_at >= Some(conn.asked.at)),
            Some(4404) => rooms.iter().any(|room| room.closed.is_some()),
            Some(4408) => matches!(conn.fault, Some((Fault::Silent | Fault::Deaf, _))),
            Some(4410) => rooms
                .iter()
                .any(|room| room.may_have_ended(self.log.newest())),
            Some(_) => false,
        };
        if !is_explained {
            breach!(
                "#{number} ({}, {:?}) was closed with {code:?} for no reason",
                conn.who,
                conn.fault
            );
        }
        self.conns[number].is_explained = true;
        Ok(())
    }

    /// Brings what is known of rooms and members up to now.
    pub fn follow(&mut self) {
        let (now, store, flushed) = (Instant::now(), self.log.now(), self.faults.flushed());
        if self.step_known_at.is_none() && flushed > self.stepped_at {
            self.step_known_at = Some(now);
        }
        for conn in &self.conns {
            let Some(room) = conn.room.and_then(|key| self.rooms.get_mut(&key)) else {
                continue;
            };
            let view = conn.view.lock();
            if conn.generation == self.generation
                && let Some(beat) = view
                    .acked
                    .filter(|beat| is_past_step(self.stepped_at, self.step_known_at, *beat))
            {
                room.hear(beat);
            }
        }
        let keys: Vec<_> = self.rooms.keys().copied().collect();
        for key in keys {
            let is_held = self.may_be_live(key, now);
            let Some(room) = self.rooms.get_mut(&key) else {
                continue;
            };
            room.flushed(flushed);
            // What was held at the last look was held until some time before this one.
            if std::mem::replace(&mut room.is_held, is_held) || is_held {
                (room.latest, room.held_at) = (room.latest.max(store), now);
            }
        }
        let members: Vec<_> = self.members.keys().cloned().collect();
        for (key, who) in members {
            let is_held = self.may_hold(key, &who, now);
            let Some(member) = self.members.get_mut(&(key, who)) else {
                continue;
            };
            if std::mem::replace(&mut member.is_held, is_held) || is_held {
                member.held_at = Some(now);
            }
        }
    }
}

/// A clock that was stepped shows at the next answer of the store, which a flush brings.
pub fn is_past_step(stepped: Option<Instant>, known: Option<Instant>, beat: Beat) -> bool {
    stepped.is_none() || known.is_some_and(|at| beat.at > at)
}

/// How many removals were before an admission.
fn count(removals: &[Instant], admitted: Option<Instant>) -> u32 {
    removals.iter().filter(|at| Some(**at) < admitted).count() as u32
}
