//! The only place that asks for chance that need not be secret: jitter, connection ids, uuids.
//!
//! Secrets never come from here; they ask the cryptography library. A simulation seeds its thread, and everything that
//! runs on it then draws the same numbers again; everywhere else it is the thread's own generator.

use std::cell::RefCell;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall_protocol::Timestamp;
use uuid::Uuid;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Makes all further chance on this thread follow from `seed`. For simulations: what was random becomes foreseeable.
pub fn seed(seed: u64) {
    SEEDED.set(Some(StdRng::seed_from_u64(seed)));
}

/// A number from `low` up to, not including, `high`.
pub(crate) fn between(low: f64, high: f64) -> f64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(rng) => rng.random_range(low..high),
        None => rand::random_range(low..high),
    })
}

/// A number that is unlikely to come twice.
pub(crate) fn number() -> u64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(rng) => rng.random(),
        None => rand::random(),
    })
}

/// A version 7 uuid of this moment.
pub(crate) fn uuid(now: Timestamp) -> Uuid {
    let mut tail = [0; 10];
    tail[..8].copy_from_slice(&number().to_be_bytes());
    tail[8..].copy_from_slice(&number().to_be_bytes()[..2]);
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeded_thread_draws_the_same_again() {
        let draw = || (between(0.0, 1.0), number(), uuid(Timestamp::from_millis(5)));
        seed(7);
        let first = draw();
        let second = draw();
        seed(7);
        assert_eq!(draw(), first);
        assert_eq!(draw(), second);
        assert_ne!(first.2, second.2);
        assert_eq!(first.2.get_version(), Some(uuid::Version::SortRand));
    }
}
