//! What a client believes from frames alone (PROTOCOL.md, section 2), and where that cannot be right (rules R4 and R5).

use tokio::time::Instant;

use crate::{
    fault::{Fault, Faults},
    message::{Message, Person},
    roster::{Id, Roster},
};

/// A client's roster. It goes on after a fault, so that one is not counted for ever.
#[derive(Debug)]
pub struct Replay {
    own: Id,
    seq: u64,
    occupancy: u64,
    /// `None` while the room is only counted.
    roster: Option<Roster>,
    /// Oneself may be named in a frame after the snapshot that shows oneself.
    is_unannounced: bool,
    /// Joins and leaves seen, oneself excepted.
    moves: u64,
    moved_at: Instant,
}

impl Replay {
    /// Starts from a welcome. `None`: it is not one.
    pub fn new(welcome: &Message<'_>, faults: &mut Faults) -> Option<Self> {
        let own = Id::read(welcome.own.as_ref()?.participant_id)?;
        let mut replay = Self {
            own,
            seq: 0,
            occupancy: 0,
            roster: None,
            is_unannounced: true,
            moves: 0,
            moved_at: Instant::now(),
        };
        replay.replace(welcome, faults);
        if replay
            .roster
            .as_ref()
            .is_some_and(|roster| !roster.contains(own))
        {
            faults.add(Fault::Ghost, "the welcome does not show oneself");
        }
        Some(replay)
    }

    /// Applies a message; those that are not about the roster change nothing.
    pub fn apply(&mut self, message: &Message<'_>, faults: &mut Faults) {
        match message.kind {
            "sync" => {
                if message.seq < Some(self.seq) {
                    faults.add(Fault::Gap, format!("a sync went back: {message:?}"));
                }
                self.is_unannounced = true;
                self.moves += 1;
                self.moved_at = Instant::now();
                self.replace(message, faults);
            }
            "presence" => self.step(message, faults),
            _ => {}
        }
    }

    /// Oneself.
    pub fn own(&self) -> Id {
        self.own
    }

    /// Of the last snapshot or frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many are here.
    pub fn occupancy(&self) -> u64 {
        self.occupancy
    }

    /// Who is here; `None` while the room is only counted.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Joins and leaves seen since the welcome, and when the last was.
    pub fn moves(&self) -> (u64, Instant) {
        (self.moves, self.moved_at)
    }

    fn replace(&mut self, snapshot: &Message<'_>, faults: &mut Faults) {
        let (Some(seq), Some(occupancy)) = (snapshot.seq, snapshot.occupancy) else {
            faults.add(Fault::Malformed, format!("{snapshot:?}"));
            return;
        };
        (self.seq, self.occupancy) = (seq, occupancy);
        if (snapshot.roster == Some("full")) != snapshot.members.is_some() {
            faults.add(
                Fault::Malformed,
                "members are listed exactly in a full roster",
            );
        }
        self.roster = snapshot.members.as_ref().map(|members| {
            let mut roster = Roster::default();
            for member in members {
                if let Some(id) = known(member, faults)
                    && roster.insert(id, member)
                {
                    faults.add(
                        Fault::Duplicate,
                        format!("twice in a {}: {member:?}", snapshot.kind),
                    );
                }
            }
            roster
        });
        self.check_occupancy(faults);
    }

    fn step(&mut self, message: &Message<'_>, faults: &mut Faults) {
        let (Some(seq), Some(occupancy)) = (message.seq, message.occupancy) else {
            faults.add(Fault::Malformed, format!("{message:?}"));
            return;
        };
        if seq != self.seq + 1 {
            faults.add(
                Fault::Gap,
                format!("{} was followed by {message:?}", self.seq),
            );
        }
        (self.seq, self.occupancy) = (seq, occupancy);
        let Some(mut roster) = self.roster.take() else {
            self.moves += 1;
            self.moved_at = Instant::now();
            return;
        };
        for person in listed(&message.joined) {
            let Some(id) = known(person, faults) else {
                continue;
            };
            let was_here = roster.insert(id, person);
            if id == self.own && self.is_unannounced {
                self.is_unannounced = false;
                continue;
            }
            self.moved();
            if was_here {
                faults.add(Fault::Duplicate, format!("joined twice: {person:?}"));
            }
        }
        for person in listed(&message.updated) {
            if known(person, faults).is_some_and(|id| !roster.update(id, person)) {
                faults.add(Fault::Stranger, format!("changed but not here: {person:?}"));
            }
        }
        for person in listed(&message.left) {
            self.moved();
            if known(person, faults).is_some_and(|id| !roster.remove(id)) {
                faults.add(Fault::Stranger, format!("left but not here: {person:?}"));
            }
        }
        self.roster = Some(roster);
        self.check_occupancy(faults);
    }

    fn moved(&mut self) {
        self.moves += 1;
        self.moved_at = Instant::now();
    }

    fn check_occupancy(&self, faults: &mut Faults) {
        if let Some(roster) = &self.roster
            && roster.len() as u64 != self.occupancy
        {
            let text = format!("occupancy {} of {} members", self.occupancy, roster.len());
            faults.add(Fault::Miscount, text);
        }
    }
}

fn listed<'m, 'a>(people: &'m Option<Vec<Person<'a>>>) -> &'m [Person<'a>] {
    people.as_deref().unwrap_or_default()
}

fn known(person: &Person<'_>, faults: &mut Faults) -> Option<Id> {
    let id = Id::read(person.id);
    if id.is_none() {
        faults.add(Fault::Malformed, format!("no id: {person:?}"));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3";
    const GRACE: &str = "0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b4";

    fn member(id: &str) -> String {
        format!(r#"{{"id":"{id}","name":"x","status":"active","state":{{}},"last_seen_at":"…"}}"#)
    }

    fn welcome() -> String {
        let (ada, own) = (
            member(ADA),
            format!(r#"{{"participant_id":"{ADA}","resume_token":"r"}}"#),
        );
        format!(
            r#"{{"type":"welcome","seq":4,"occupancy":1,"roster":"full","self":{own},"members":[{ada}]}}"#
        )
    }

    fn joined(seq: u64, occupancy: u64, id: &str) -> String {
        format!(
            r#"{{"type":"presence","seq":{seq},"occupancy":{occupancy},"joined":[{}]}}"#,
            member(id)
        )
    }

    fn left(seq: u64, occupancy: u64, id: &str) -> String {
        format!(
            r#"{{"type":"presence","seq":{seq},"occupancy":{occupancy},"left":[{{"id":"{id}"}}]}}"#
        )
    }

    /// The kinds of faults in these frames after the welcome.
    fn found(frames: &[String]) -> Vec<Fault> {
        let (mut faults, welcome) = (Faults::default(), welcome());
        let welcome = Message::read(welcome.as_bytes()).unwrap();
        let mut replay = Replay::new(&welcome, &mut faults).unwrap();
        for frame in frames {
            replay.apply(&Message::read(frame.as_bytes()).unwrap(), &mut faults);
        }
        faults.iter().map(|(fault, ..)| fault).collect()
    }

    #[test]
    fn frames_in_order_are_no_fault() {
        assert_eq!(
            found(&[joined(5, 1, ADA), joined(6, 2, GRACE), left(7, 1, GRACE)]),
            []
        );
    }

    #[test]
    fn a_planted_gap_is_caught() {
        assert_eq!(
            found(&[joined(5, 2, GRACE), left(7, 1, GRACE)]),
            [Fault::Gap]
        );
        assert_eq!(
            found(&[joined(5, 2, GRACE), left(5, 1, GRACE)]),
            [Fault::Gap]
        );
    }

    #[test]
    fn a_lost_join_is_caught_where_it_shows() {
        assert_eq!(found(&[left(5, 1, GRACE)]), [Fault::Stranger]);
        assert_eq!(found(&[joined(5, 3, GRACE)]), [Fault::Miscount]);
    }

    #[test]
    fn a_join_told_twice_is_caught() {
        assert_eq!(
            found(&[joined(5, 2, GRACE), joined(6, 2, GRACE)]),
            [Fault::Duplicate]
        );
        assert_eq!(
            found(&[joined(5, 1, ADA), joined(6, 1, ADA)]),
            [Fault::Duplicate]
        );
    }

    #[test]
    fn a_sync_replaces_everything() {
        let sync = format!(
            r#"{{"type":"sync","seq":9,"occupancy":2,"roster":"full","members":[{},{}]}}"#,
            member(ADA),
            member(GRACE)
        );
        assert_eq!(found(&[sync, left(10, 1, GRACE)]), []);
    }
}
