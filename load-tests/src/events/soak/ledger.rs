//! When participants may be seen to leave: rule R5, for people who come and go all the time.
//!
//! Whoever goes says from when on they may be gone; whoever was back in time takes it back. A leave that somebody saw beyond
//! those is a fault.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    departure::Departure,
    fault::{Fault, Faults},
    roster::Id,
};

/// A leave may be told so long after it could be: a second connection that is not heard (5 s), its grace (2 s), and a slow
/// machine.
const SLACK: Duration = Duration::from_secs(10);

/// Who may have left, and when.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<HashMap<Id, Vec<Instant>>>);

impl Ledger {
    /// They may be gone from then on.
    pub(super) fn may_leave(&self, who: Id, from: Instant) {
        self.0.lock().entry(who).or_default().push(from);
    }

    /// They were back before that, and so did not leave.
    pub(super) fn did_not(&self, who: Id, from: Instant) {
        if let Some(times) = self.0.lock().get_mut(&who) {
            times.retain(|time| *time != from);
        }
    }

    /// Holds what somebody saw, who was welcomed at that time, against it.
    pub(super) fn check(&self, seen: &[Departure], welcomed_at: Instant, faults: &mut Faults) {
        let ledger = self.0.lock();
        let mut counts: HashMap<Id, usize> = HashMap::new();
        for departure in seen {
            let count = counts.entry(departure.who).or_default();
            *count += 1;
            let times = ledger.get(&departure.who).map_or(&[][..], Vec::as_slice);
            let might = times
                .iter()
                .filter(|time| **time <= departure.told_at && **time + SLACK > welcomed_at)
                .count();
            if *count > might {
                let text =
                    format!("seen to leave {count} times, of at most {might}: {departure:?}");
                faults.add(Fault::Disturbed, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(who: Id, told_at: Instant) -> Departure {
        Departure {
            who,
            reason: "left".to_owned(),
            last_seen_at: None,
            told_at,
        }
    }

    #[test]
    fn a_leave_beyond_those_that_might_be_is_caught() {
        let now = Instant::now();
        let id = |last: u8| Id::read(&format!("0192f0c12d3e7a4b8c5d6e7f809100{last:02x}")).unwrap();
        let (ada, grace) = (id(1), id(2));
        let second = Duration::from_secs(1);
        let ledger = Ledger::default();
        ledger.may_leave(ada, now + second);
        ledger.may_leave(grace, now + second);
        ledger.did_not(grace, now + second);
        let found = |seen: &[Departure]| {
            let mut faults = Faults::default();
            ledger.check(seen, now, &mut faults);
            faults.count(Fault::Disturbed)
        };
        assert_eq!(found(&[left(ada, now + second * 2)]), 0);
        assert_eq!(found(&[left(ada, now)]), 1, "too early");
        assert_eq!(
            found(&[left(ada, now + second), left(ada, now + second)]),
            1
        );
        assert_eq!(found(&[left(grace, now + second * 2)]), 1, "was back");
    }
}
