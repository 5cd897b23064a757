//! How exactly it is kept when somebody was last seen.

use std::time::Duration;

use rollcall_protocol::Timestamp;

/// Rounds moments down, so that they say less than is known. Rooms are never rounded: they say when they are idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Precision(Duration);

impl Precision {
    /// To the millisecond, as it is known.
    pub const EXACT: Self = Self(Duration::ZERO);

    /// To multiples of a step of whole milliseconds since 1970.
    pub const fn to(step: Duration) -> Self {
        Self(step)
    }

    /// The step; zero if there is none.
    pub fn step(self) -> Duration {
        self.0
    }

    /// The last multiple that is not later. Never goes back while `at` does not.
    pub fn round(self, at: Timestamp) -> Timestamp {
        match i64::try_from(self.0.as_millis()) {
            Ok(step @ 1..) => Timestamp::from_millis(at.as_millis().div_euclid(step) * step),
            _ => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rounded_down_and_keep_their_order() {
        let at = Timestamp::from_millis;
        let rows = [
            (0, 7, 7),
            (5, 0, 0),
            (5, 4, 0),
            (5, 5, 5),
            (5, 14, 10),
            (5, -1, -5),
        ];
        for (step, exact, rounded) in rows {
            let precision = Precision::to(Duration::from_millis(step));
            assert_eq!(precision.round(at(exact)), at(rounded), "{exact} by {step}");
            assert!(precision.round(at(exact)) <= at(exact));
            assert_eq!(precision.round(at(rounded)), at(rounded));
        }
        let minutes = Precision::to(Duration::from_secs(300));
        let noon: Timestamp = "2026-11-24T12:04:59.999Z".parse().unwrap();
        assert_eq!(minutes.round(noon).to_string(), "2026-11-24T12:00:00.000Z");
        assert_eq!(Precision::EXACT.round(noon), noon);
        Precision::to(Duration::MAX).round(noon);
    }
}
