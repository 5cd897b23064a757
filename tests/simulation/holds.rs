//! Who surely has a seat, and who may have one, from what clients did and saw.

use rollcall::store::RoomKey;
use tokio::time::Instant;

use crate::{
    model::{Conn, GOODBYE, SLACK},
    world::World,
};

impl World {
    /// The connections of one identity on the present node that are, or may be, in this incarnation.
    fn conns_of<'a>(&'a self, key: RoomKey, who: &'a str) -> impl Iterator<Item = &'a Conn> {
        let slot = self.rooms.get(&key).map(|room| room.slot);
        self.conns.iter().filter(move |conn| {
            conn.generation == self.generation
                && conn.who == who
                && match conn.room {
                    Some(room) => room == key,
                    None => Some(conn.slot) == slot,
                }
        })
    }

    /// Whether the participant may have a seat: a connection, a grace, or a join on its way.
    pub fn may_hold(&self, key: RoomKey, who: &str, now: Instant) -> bool {
        let member = self.members.get(&(key, who.to_owned()));
        let restored = member.and_then(|member| member.restored);
        restored.is_some_and(|(_, until)| now <= until + SLACK)
            || self.conns_of(key, who).any(|conn| conn.may_hold(now))
    }

    /// Whether anybody may have a seat.
    pub fn may_be_live(&self, key: RoomKey, now: Instant) -> bool {
        let slot = self.rooms.get(&key).map(|room| room.slot);
        let is_here = |conn: &Conn| {
            conn.generation == self.generation
                && conn
                    .room
                    .map_or(Some(conn.slot) == slot, |room| room == key)
        };
        let of_room = (key, String::new())..(RoomKey(key.0 + 1), String::new());
        let mut restored = self
            .members
            .range(of_room)
            .filter_map(|(_, member)| member.restored);
        restored.any(|(_, until)| now <= until + SLACK)
            || self
                .conns
                .iter()
                .any(|conn| is_here(conn) && conn.may_hold(now))
    }

    /// Whether the participant surely has a seat.
    pub fn surely_holds(&self, key: RoomKey, who: &str, now: Instant) -> bool {
        let Some(room) = self.rooms.get(&key) else {
            return false;
        };
        let Some(member) = self.members.get(&(key, who.to_owned())) else {
            return false;
        };
        if room.closed.is_some() || room.may_have_ended(self.log.newest()) {
            return false;
        }
        let since_removal = |at: Option<Instant>| at.is_some() && at > member.removed_at;
        let last_seated = self
            .conns_of(key, who)
            .filter_map(|conn| conn.view.lock().seated_at);
        let last_seated = last_seated.max();
        let is_taken_up = |from: Instant| last_seated.is_some_and(|at| at + GOODBYE >= from);
        self.conns_of(key, who).any(|conn| {
            let admitted = conn.view.lock().admitted_at;
            match (conn.is_healthy(), conn.grace) {
                (true, None) => conn.room.is_some() && since_removal(admitted),
                (false, Some((until, _))) if conn.room.is_some() => {
                    let closed = conn.link.closed_by_server().unwrap_or(now);
                    now + SLACK < until && since_removal(admitted) && !is_taken_up(closed)
                }
                _ => false,
            }
        }) || member
            .restored
            .is_some_and(|(until, _)| now < until && last_seated.is_none())
    }

    /// Whether somebody surely has a seat.
    pub fn is_surely_live(&self, key: RoomKey, now: Instant) -> bool {
        let mut here: Vec<&str> = Vec::new();
        let of_room = (key, String::new())..(RoomKey(key.0 + 1), String::new());
        here.extend(
            self.members
                .range(of_room)
                .map(|((_, who), _)| who.as_str()),
        );
        here.into_iter().any(|who| self.surely_holds(key, who, now))
    }

    /// What is known of somebody's seat, for the message of a failure.
    pub fn tell_of(&self, key: RoomKey, who: &str) -> String {
        let member = self.members.get(&(key, who.to_owned()));
        let now = Instant::now();
        let conns = self.conns_of(key, who).map(|conn| {
            let grace = conn.grace.map(|(surely, until)| {
                (
                    surely.saturating_duration_since(now),
                    until.saturating_duration_since(now),
                )
            });
            format!(
                "#{} {:?} {:?} grace {grace:?}",
                conn.number,
                conn.phase(),
                conn.fault.map(|(fault, at)| (fault, at.elapsed()))
            )
        });
        let restored = member.and_then(|member| member.restored);
        let restored = restored.map(|(surely, until)| {
            (
                surely.saturating_duration_since(now),
                until.saturating_duration_since(now),
            )
        });
        format!("{:?}, restored {restored:?}", conns.collect::<Vec<_>>())
    }
}
