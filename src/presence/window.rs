//! When the changes of a room go out: the first after quiet at once, what follows within the window together.

use std::time::Duration;

use tokio::time::Instant;

/// Below this nobody perceives a delay, and a reload's leave and join, or two tabs opening, become one frame.
const SHORTEST: Duration = Duration::from_millis(50);
/// `roster: "count"` promises that `occupancy` moves at least once a second.
const LONGEST: Duration = Duration::from_secs(1);
/// A frame costs one send per member, so a window per member keeps a room's frame rate times its size constant: at
/// most 1,000 sends a second for joins and leaves, whatever the crowd.
const PER_MEMBER: Duration = Duration::from_millis(1);

/// How long a room of this many collects changes after it sent some.
pub fn length(occupancy: usize) -> Duration {
    let members = u32::try_from(occupancy).unwrap_or(u32::MAX);
    PER_MEMBER.saturating_mul(members).clamp(SHORTEST, LONGEST)
}

/// When changes made `now` may go out, given when the last ones did.
pub fn opens_at(last_sent: Option<Instant>, occupancy: usize, now: Instant) -> Instant {
    last_sent.map_or(now, |at| (at + length(occupancy)).max(now))
}
