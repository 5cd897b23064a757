//! What a server may never do: each is counted, the first few are kept as they were, and any fails the run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many of a kind are kept word for word.
const EXAMPLES: usize = 3;
/// Characters of an example; a welcome of a thousand members helps nobody.
const EXAMPLE_CHARS: usize = 300;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A presence frame's `seq` was not one more than that of the frame before.
    Gap,
    /// Somebody joined who was there already.
    Duplicate,
    /// Somebody left or changed who was not there.
    Stranger,
    /// Somebody is on a roster, or in the store, who is gone; or is missing from it.
    Ghost,
    /// `occupancy` is not the number of members.
    Miscount,
    /// Somebody saw a join or a leave where there was none.
    Disturbed,
    /// Who must be admitted was refused.
    Refused,
    /// Who must be refused was refused with another code, or with none that means something.
    Misjudged,
    /// Who must be refused was admitted.
    Admitted,
    /// A seat was not resumed that was held.
    NotResumed,
    /// A connection ended that had no reason to.
    Lost,
    /// A client that never reads was neither closed in time nor brought up to date.
    Kept,
    /// A heartbeat, or a request, was not answered.
    Unanswered,
    /// The wire said what the protocol does not know.
    Malformed,
    /// The store was asked where it must not be.
    Asked,
    /// The server logged an error.
    Logged,
    /// A `last_seen_at` that is later than the last sign of life, or too long before it.
    Misdated,
    /// Something of the server's did not go back to what it was before.
    Leaked,
    /// The server did not end as it was told to.
    Unclean,
}

impl Fault {
    /// All there are, with what their number is called.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::Gap, "gaps"),
        (Self::Duplicate, "duplicates"),
        (Self::Stranger, "strangers"),
        (Self::Ghost, "ghosts"),
        (Self::Miscount, "miscounts"),
        (Self::Disturbed, "disturbed"),
        (Self::Refused, "refused_wrongly"),
        (Self::Misjudged, "misjudged"),
        (Self::Admitted, "wrong_admissions"),
        (Self::NotResumed, "not_resumed"),
        (Self::Lost, "lost"),
        (Self::Kept, "kept"),
        (Self::Unanswered, "unanswered"),
        (Self::Malformed, "malformed"),
        (Self::Asked, "asked"),
        (Self::Logged, "errors_logged"),
        (Self::Misdated, "misdated"),
        (Self::Leaked, "leaked"),
        (Self::Unclean, "unclean"),
    ];
}

/// Faults by kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    kinds: BTreeMap<Fault, Found>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Found {
    count: u64,
    examples: Vec<String>,
}

impl Faults {
    /// Counts one.
    pub fn add(&mut self, fault: Fault, example: impl AsRef<str>) {
        let found = self.kinds.entry(fault).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES {
            found
                .examples
                .push(example.as_ref().chars().take(EXAMPLE_CHARS).collect());
        }
    }

    /// Takes in those of somebody else.
    pub fn merge(&mut self, others: Self) {
        for (fault, other) in others.kinds {
            let found = self.kinds.entry(fault).or_default();
            found.count += other.count;
            found.examples.extend(other.examples);
            found.examples.truncate(EXAMPLES);
        }
    }

    /// How many of a kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.kinds.get(&fault).map_or(0, |found| found.count)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|found| found.count).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Each kind with its number and examples.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u64, &[String])> {
        self.kinds
            .iter()
            .map(|(fault, found)| (*fault, found.count, found.examples.as_slice()))
    }
}
