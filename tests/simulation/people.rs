//! What must hold for each connection, and for each departure that somebody was told of.

use tokio::time::{Duration, Instant};

use crate::{
    checks::ENDED_WITHIN,
    log::{Breach, breach},
    model::{By, Conn, Fault, GOODBYE, WRITE_DEADLINE},
    news::{DOUBT, is_past_step},
    peer::{Phase, millis},
    world::World,
};

/// A heartbeat, the flush of it that finds no row, and the goodbye.
const FOUND_WITHIN: Duration = Duration::from_secs(45);
/// A flush interval, a tenth more, and the flush.
const FLUSHED_WITHIN: Duration = Duration::from_millis(5_600);

impl World {
    /// R3, R6, R8 and the ends of one connection.
    pub fn check_conn(&self, number: usize) -> Result<(), Breach> {
        let (conn, now) = (&self.conns[number], Instant::now());
        if conn.generation != self.generation || conn.link.closed_by_server().is_some() {
            return Ok(());
        }
        if conn.deadline(self.stalled_at).is_some_and(|by| now > by)
            && conn.view.lock().seated_at.is_some()
        {
            breach!(
                "R8: #{number} is {:?}, and the server has not let go",
                conn.fault
            );
        }
        if self.doubt_ends(conn).is_some_and(|by| now > by) {
            breach!("R5: #{number} was resumed over and is silent, and has not been dropped");
        }
        let Some(key) = conn.room else { return Ok(()) };
        let room = &self.rooms[&key];
        let view = conn.view.lock();
        let member = &self.members[&(key, conn.who.clone())];
        let is_over = |at: Option<Instant>| {
            at.is_some_and(|at| {
                view.admitted_at < Some(at) && now - at > ENDED_WITHIN + conn.late * 4
            })
        };
        let is_stalled = self
            .stalled_at
            .is_some_and(|at| now - at < ENDED_WITHIN + conn.late * 4);
        let is_healthy = conn.is_welcomed
            && view.phase == Phase::Open
            && conn.fault.is_none()
            && conn.leaving.is_none();
        if is_healthy && is_over(member.removed_at) && !is_stalled {
            breach!("R5: #{number} was removed, and is still connected");
        }
        let is_found = room
            .closed
            .max(view.seated_at)
            .is_some_and(|at| now - at > FOUND_WITHIN);
        let is_found = is_found && room.closed.is_some();
        let is_calm = self.faults.fine_for() > FOUND_WITHIN
            && self.stalled_at.is_none_or(|at| now - at > FOUND_WITHIN);
        if is_healthy && is_found && is_calm {
            breach!("R6: the room of #{number} was deleted, and it is still connected");
        }
        let is_past = room.row.ends_at().is_some_and(|end| {
            end.as_millis() + ((ENDED_WITHIN + conn.late * 4).as_millis() as i64) < self.log.now()
        });
        // A step of the clock shows when the room's age is looked at next.
        if is_healthy && is_past && !is_stalled && self.stepped_at.is_none() {
            breach!(
                "R10: the room of #{number} is past its maximum age, and it is still connected"
            );
        }
        let has_ended = room.may_have_ended(self.log.newest());
        if !is_healthy
            || has_ended
            || room.closed.is_some()
            || room.gone.is_some()
            || member.removed_at >= view.admitted_at
        {
            return Ok(());
        }
        let Some(row) = self.rows.participant(key, &view.id) else {
            breach!("R1: #{number} is in room {key} and has no row")
        };
        if !row.is_active {
            breach!(
                "R3: #{number} ({}) is connected and not active in the store",
                conn.who
            );
        }
        let allowed = match conn.late {
            Duration::ZERO => Duration::from_millis(100),
            _ => Duration::from_secs(15),
        };
        let unanswered = view.waiting.front().map_or(Duration::ZERO, |beat| {
            now - self.stalled_at.map_or(beat.at, |at| at.max(beat.at))
        });
        if view.slowest.max(unanswered) > allowed {
            breach!(
                "R8: #{number} waits {unanswered:?} for an ack, waited {:?}",
                view.slowest
            );
        }
        let Some(beat) = view.acked else {
            return Ok(());
        };
        let age = now - beat.at;
        let is_due = age > FLUSHED_WITHIN + conn.late * 4
            && self.faults.fine_for() > age + Duration::from_secs(12);
        let is_calm = is_past_step(self.stepped_at, self.step_known_at, beat)
            && self.stalled_at.is_none_or(|at| now - at > FLUSHED_WITHIN);
        if is_due
            && is_calm
            && row.last_seen_at.as_millis() + 3 < beat.store - (conn.late * 2).as_millis() as i64
        {
            breach!("R6: #{number} was heard {age:?} ago, and the store does not know: {row:?}");
        }
        Ok(())
    }

    /// By when the server must have dropped a connection that was silent when somebody came back for it.
    fn doubt_ends(&self, conn: &Conn) -> Option<Instant> {
        let (_, silent) = conn.fault.filter(|(fault, _)| *fault == Fault::Silent)?;
        let of = |other: &&Conn| {
            matches!(other.by, By::Resume { of, .. } if of == conn.number)
                && other.generation == self.generation
        };
        let came = self.conns.iter().filter(of);
        let came = came.filter_map(|other| {
            let view = other.view.lock();
            view.welcomed_at.and(view.seated_at)
        });
        // What it had said before may still have been on its way.
        let doubted = came.filter(|at| *at > silent + conn.late * 4).max()?;
        let forgiven = self.stalled_at.map_or(doubted, |at| at.max(doubted));
        Some(forgiven + DOUBT + WRITE_DEADLINE + GOODBYE)
    }

    /// R5, R6: what was said of somebody's leaving.
    pub fn check_left(&mut self, number: usize) -> Result<(), Breach> {
        let said = std::mem::take(&mut self.conns[number].view.lock().left);
        let conn = &self.conns[number];
        let Some(key) = conn.room.filter(|_| conn.generation == self.generation) else {
            return Ok(());
        };
        let (is_late, room) = (!conn.late.is_zero(), self.rooms[&key].clone());
        for left in said {
            let found = self
                .members
                .iter()
                .find(|((room, _), member)| *room == key && member.id == left.id);
            let Some(((_, who), member)) = found else {
                continue;
            };
            let who = who.clone();
            let of = |conn: &&Conn| {
                conn.who == who
                    && conn.generation == self.generation
                    && conn.room.map_or(conn.slot == room.slot, |room| room == key)
            };
            let conns: Vec<&Conn> = self.conns.iter().filter(of).collect();
            let stays = |conn: &&&Conn| {
                conn.is_healthy()
                    && conn.view.lock().welcomed_at < left.at.checked_sub(Duration::from_millis(2))
            };
            if !is_late
                && self.surely_holds(key, &who, Instant::now())
                && (conns.iter().any(|conn| stays(&conn))
                    || member.restored.is_some_and(|(until, _)| left.at < until))
            {
                breach!("R5: #{number} saw {who} leave, who is there: {left:?}");
            }
            let is_lost = |conn: &&Conn| !matches!(conn.leaving, Some((_, true)));
            let is_fair = match left.reason.as_str() {
                "left" => conns.iter().any(|conn| !is_lost(conn) || conn.is_doubted),
                "timeout" => conns.iter().any(is_lost) || member.restored.is_some(),
                _ => {
                    member.removed_at.is_some()
                        || room.closed.is_some()
                        || room.may_have_ended(self.log.newest())
                }
            };
            if !is_fair {
                breach!("R5: #{number} saw {who} leave for no reason: {left:?}");
            }
            let acked = conns
                .iter()
                .filter(|conn| conn.late.is_zero())
                .filter_map(|conn| {
                    let view = conn.view.lock();
                    view.acked.filter(|_| view.welcomed_at.is_some())
                });
            let acked = acked
                .filter(|beat| {
                    is_past_step(self.stepped_at, self.step_known_at, *beat) && beat.at < left.at
                })
                .map(|beat| beat.store)
                .max();
            let seen = millis(&left.last_seen_at);
            if acked.is_some_and(|acked| acked > seen + 3) && !is_late {
                breach!("R6: {who} was heard at {acked:?}, and left as last seen at {seen}");
            }
            let rejoins = self.conns.iter().any(|conn| {
                conn.who == who && (conn.asked.at >= left.at || conn.is_joining() || conn.is_open())
            });
            if let Some(member) = self.members.get_mut(&(key, who)) {
                member.owed = (!rejoins && !is_late).then_some((left.at, seen));
            }
        }
        Ok(())
    }

    /// R6: departures are in the store after the next flush, with the last-seen that was told.
    pub fn check_owed(&self) -> Result<(), Breach> {
        let now = Instant::now();
        if self.faults.fine_for() < Duration::from_secs(12) {
            return Ok(());
        }
        for ((key, who), member) in &self.members {
            let Some(row) = self.rows.participant(*key, &member.id) else {
                continue;
            };
            // Admitted, and taken out before it sat down: the store has seen it, nobody else has.
            let is_again = |at: Instant| {
                self.conns.iter().any(|conn| {
                    let view = conn.view.lock();
                    let is_unmet = conn.slot == self.rooms[key].slot
                        && conn.room.is_none()
                        && view.admitted_at.is_some()
                        && view.ended_at.is_none_or(|end| end + ENDED_WITHIN >= at);
                    conn.who == *who && (conn.asked.at >= at || is_unmet)
                })
            };
            let came_at = self
                .conns
                .iter()
                .filter(|conn| conn.who == *who && conn.room == Some(*key))
                .filter(|conn| !conn.view.lock().resumed);
            let came_at = came_at.map(|conn| conn.asked.at).max();
            let is_quiet = member
                .held_at
                .is_none_or(|at| now - at > Duration::from_secs(12))
                && !self.may_hold(*key, who, now);
            if is_quiet && row.is_active && member.unknown.is_none() && member.held_at.is_some() {
                breach!("R6: {who} of room {key} has left, and the store does not know: {row:?}");
            }
            if let Some((at, seen)) = member.owed
                && is_quiet
                && member.unknown.is_none()
                && now - at > Duration::from_secs(12)
                && self.faults.flushed() > Some(at)
                && !is_again(at)
                // A second life begins at what the store had; what was still to be written of the first may be later
                // where the clock went back in between.
                && (row.generation == 1
                    || self.stepped_at.is_none()
                    || self.step_known_at.is_some_and(|known| came_at > Some(known + FLUSHED_WITHIN)))
                && row.last_seen_at.as_millis() != seen
            {
                breach!("R6: {who} left as last seen at {seen}, the store has {row:?}");
            }
        }
        Ok(())
    }
}
