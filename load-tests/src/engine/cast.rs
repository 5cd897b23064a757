//! Who comes, where and with what: drawn once, before anything runs, the same for the same file.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    chance::Chance,
    scenario::{Access, Link, Population, Scenario, Size},
};

/// Everybody's chance is their number and this.
const SEED: u64 = 0x5ca1_ab1e;

/// Everybody, and where they meet.
#[derive(Debug, Default)]
pub(super) struct Cast {
    pub rooms: Vec<Place>,
    pub people: Vec<Part>,
}

/// A room to be made.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub idle: Option<Duration>,
    /// How many of the people are of it.
    pub people: usize,
    /// The bad links into it that are needed.
    pub bad: BTreeSet<Link>,
}

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    /// Unlike anybody else's.
    pub number: usize,
    /// Which population, and when among those of it they come.
    pub population: usize,
    pub at: usize,
    pub room: usize,
    pub is_guest: bool,
    pub link: Link,
}

impl Part {
    /// Its own chance, for this purpose.
    pub(super) fn chance(&self, purpose: u64) -> Chance {
        Chance::of(SEED + purpose * 0x1_0000_0000 + self.number as u64)
    }
}

impl Cast {
    /// Draws everybody.
    pub(super) fn of(scenario: &Scenario) -> Self {
        let mut cast = Self::default();
        let mut spans = vec![0..0; scenario.populations.len()];
        for (at, population) in scenario.populations.iter().enumerate() {
            if population.rooms.of.is_none() {
                spans[at] = cast.build(at, population);
            }
        }
        for (at, population) in scenario.populations.iter().enumerate() {
            let of = population.rooms.of.as_ref();
            let host = of.and_then(|of| {
                let mut all = scenario.populations.iter();
                all.position(|one| one.name == *of.get_ref())
            });
            cast.fill(at, population, &spans[host.unwrap_or(at)].clone());
        }
        cast
    }

    /// As many rooms as a population needs; which they are.
    fn build(&mut self, at: usize, population: &Population) -> std::ops::Range<usize> {
        let (first, mut chance) = (self.rooms.len(), Chance::of(SEED ^ (at as u64 + 1)));
        let idle = population.rooms.idle_timeout;
        let mut left = population.clients;
        let mut add = |people| {
            self.rooms.push(Place {
                idle,
                people,
                ..Place::default()
            });
        };
        match (population.rooms.size, population.rooms.count) {
            (Some(size), _) => {
                while left > 0 {
                    let size = size.draw(&mut chance).min(left);
                    add(size);
                    left -= size;
                }
            }
            (None, count) => (0..count.unwrap_or(1).min(left)).for_each(|_| add(0)),
        }
        first..self.rooms.len()
    }

    /// Puts a population into rooms: into its own by their sizes, in turn into what has none.
    fn fill(&mut self, at: usize, population: &Population, rooms: &std::ops::Range<usize>) {
        let sized = population.rooms.size.is_some();
        let by_size: Vec<usize> = rooms
            .clone()
            .filter(|_| sized)
            .flat_map(|room| std::iter::repeat_n(room, self.rooms[room].people))
            .collect();
        let turns = turns(population.clients, at);
        for (place, turn) in turns.into_iter().enumerate() {
            let room = match by_size.get(place) {
                Some(room) => *room,
                None => rooms.start + place % rooms.len(),
            };
            self.add(at, turn, room, population);
            if !sized {
                self.rooms[room].people += 1;
            }
        }
    }

    fn add(&mut self, population: usize, at: usize, room: usize, of: &Population) {
        let mut part = Part {
            number: self.people.len(),
            population,
            at,
            room,
            is_guest: true,
            link: Link::Valid,
        };
        let mut chance = part.chance(0);
        part.is_guest = of.access.draw(&mut chance) == Access::Invite;
        part.link = of.links.draw(&mut chance);
        if part.is_guest && !matches!(part.link, Link::Valid | Link::Forged) {
            self.rooms[room].bad.insert(part.link);
        }
        self.people.push(part);
    }

    /// Which of so many processes each room is in, so that all have about as many people. A room is in one process, where
    /// those who meet share a clock and a memory.
    pub(super) fn shares(&self, processes: usize) -> Vec<usize> {
        let mut loads = vec![0; processes];
        let place = |room: &Place| {
            let least = (0..processes).min_by_key(|at| loads[*at]).unwrap_or(0);
            loads[least] += room.people;
            least
        };
        self.rooms.iter().map(place).collect()
    }
}

/// In which order they come, by their places: those of one room not one after the other.
fn turns(count: usize, population: usize) -> Vec<usize> {
    let mut chance = Chance::of(SEED ^ (population as u64 + 1) << 16);
    let mut turns: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        turns.swap(last, chance.below(last + 1));
    }
    turns
}

impl Size {
    fn draw(self, chance: &mut Chance) -> usize {
        match self {
            Self::Exactly(size) => size,
            Self::Between([least, most]) => least + chance.below(most - least + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "x"
        about = "y"
        [[phase]]
        name = "all"
        duration = "1s"
        [[population]]
        name = "late"
        clients = 50
        rooms = { of = "people" }
        arrive = {}
        links = { valid = 1, revoked = 1, forged = 1 }
        [[population]]
        name = "people"
        clients = 1000
        rooms = { size = [2, 8] }
        arrive = {}
        access = { invite = 1, token = 1 }
    "#;

    #[test]
    fn everybody_has_a_place_and_the_draw_repeats() {
        let cast = Cast::of(&Scenario::read(TEXT).unwrap());
        assert_eq!(cast.people.len(), 1050);
        let sum: usize = cast.rooms.iter().map(|room| room.people).sum();
        assert_eq!(sum, 1050);
        assert!(
            (180..230).contains(&cast.rooms.len()),
            "{}",
            cast.rooms.len()
        );
        let tokens = cast.people.iter().filter(|part| !part.is_guest).count();
        assert!((450..550).contains(&tokens), "{tokens}");
        let revoked = cast.people.iter().filter(|part| part.link == Link::Revoked);
        assert!(revoked.clone().count() > 5);
        assert!(
            revoked
                .into_iter()
                .all(|part| cast.rooms[part.room].bad.contains(&Link::Revoked))
        );
        let again = Cast::of(&Scenario::read(TEXT).unwrap());
        assert_eq!(format!("{cast:?}"), format!("{again:?}"));
    }

    #[test]
    fn processes_get_about_as_many_people_each() {
        let cast = Cast::of(&Scenario::read(TEXT).unwrap());
        let shares = cast.shares(3);
        for process in 0..3 {
            let rooms = cast.rooms.iter().zip(&shares);
            let people: usize = rooms
                .filter(|(_, share)| **share == process)
                .map(|(room, _)| room.people)
                .sum();
            assert!((330..370).contains(&people), "{people}");
        }
    }
}
