//! Who is in a room, as small as it can be kept: ten thousand clients of one room may each hold ten thousand members.

use std::fmt;

use crate::message::Person;

/// A participant's id as it is on the wire, without the dashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 16]);

impl fmt::Debug for Id {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(to, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl Id {
    /// `None`: it is not a UUID.
    pub fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut bytes {
            *byte = hex(digits.next()?)? << 4 | hex(digits.next()?)?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// What a member looks like to others, as digests of JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Look {
    name: u32,
    status: u32,
    state: u32,
}

impl Look {
    fn change(&mut self, person: &Person<'_>) {
        let fields = [
            (&mut self.name, person.name),
            (&mut self.status, person.status),
            (&mut self.state, person.state),
        ];
        for (digest, text) in fields {
            if let Some(text) = text {
                *digest = fnv(text.get().as_bytes());
            }
        }
    }
}

/// FNV-1a, for texts of a few bytes.
fn fnv(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// The members, ordered by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    members: Vec<(Id, Look)>,
}

impl Roster {
    /// Adds somebody, or replaces them; whether they were there. Ids grow with time, so this is nearly always at the end.
    pub fn insert(&mut self, id: Id, person: &Person<'_>) -> bool {
        let mut look = Look::default();
        look.change(person);
        match self.find(id) {
            Ok(at) => {
                self.members[at].1 = look;
                true
            }
            Err(at) => {
                self.members.insert(at, (id, look));
                false
            }
        }
    }

    /// Changes what is said of somebody; whether they are there.
    pub fn update(&mut self, id: Id, person: &Person<'_>) -> bool {
        let found = self.find(id);
        if let Ok(at) = found {
            self.members[at].1.change(person);
        }
        found.is_ok()
    }

    /// Takes somebody out; whether they were there.
    pub fn remove(&mut self, id: Id) -> bool {
        let found = self.find(id);
        if let Ok(at) = found {
            self.members.remove(at);
        }
        found.is_ok()
    }

    /// Whether somebody is there.
    pub fn contains(&self, id: Id) -> bool {
        self.find(id).is_ok()
    }

    /// Who is there, in order.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.members.iter().map(|(id, _)| *id)
    }

    /// How many are there.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn find(&self, id: Id) -> Result<usize, usize> {
        match self.members.last() {
            Some((last, _)) if *last < id => Err(self.members.len()),
            _ => self.members.binary_search_by_key(&id, |(id, _)| *id),
        }
    }
}
